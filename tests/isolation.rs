//! F-05: two customers who have every address, prefix and C-tag in common, on the same ports of the
//! same MSEEs. What one of them sends never changes anything for the other.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use msee::config::{self, Place, Segment};
use msee::fabric::{Direction, LinkIndex, Observer};
use msee::lab::Lab;
use msee::model::{Instant, LinkRole, MacAddr};
use msee::router::Snapshot;
use msee::wire::{bfd, ethernet, ethertype, ipv4, protocol, udp, vlan};

const RED_TAG: u16 = 2101;
const BLUE_TAG: u16 = 2102;
const PEERING_TAG: u16 = 100;
const CUSTOMER: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 1);
const MICROSOFT: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 2);
/// The MSEE both customers share at their primary links.
const MSEE: &str = "Amsterdam/primary";

struct Nobody;

impl Observer for Nobody {
    fn frame(&mut self, _: LinkIndex, _: Direction, _: &[u8], _: Instant) {}
}

fn converged() -> Lab {
    let path = Path::new("fixtures/labs/two-customers.yaml");
    let file = config::load_lab(path, &fs::read_to_string(path).unwrap()).unwrap();
    let mut lab = Lab::new(&file, 1);
    lab.run_until(Instant::from_secs(5), &mut Nobody);
    assert_eq!(lab.sessions_missing(), Vec::<String>::new());
    lab
}

fn place(circuit: &str, segment: Segment) -> Place {
    Place { circuit: circuit.to_owned(), link: LinkRole::Primary, segment }
}

fn msee(lab: &Lab) -> Snapshot {
    lab.snapshot(MSEE).unwrap()
}

fn dropped(lab: &Lab, router: &str, reason: &str) -> u64 {
    let drops = lab.snapshot(router).unwrap().drops;
    drops.iter().find(|(name, _)| name == reason).map_or(0, |(_, packets)| *packets)
}

/// MAC of the MSEE on the customers' side.
fn msee_mac(lab: &Lab) -> MacAddr {
    let arp = lab.snapshot("redce").unwrap().arp;
    let row = arp.iter().find(|row| row.address == IpAddr::from(MICROSOFT)).unwrap();
    let mut octets = row.mac.split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap());
    MacAddr(std::array::from_fn(|_| octets.next().unwrap()))
}

/// A BFD packet from the customer's address that says: my path is down.
fn bfd_down(tags: &[u16], your_discriminator: u32, destination: MacAddr) -> Vec<u8> {
    let control = bfd::Repr {
        diagnostic: 1,
        state: bfd::State::Down,
        poll: false,
        final_: false,
        control_plane_independent: false,
        demand: false,
        detect_mult: 3,
        my_discriminator: 0xbad,
        your_discriminator,
        desired_min_tx_us: 300_000,
        required_min_rx_us: 300_000,
        required_min_echo_rx_us: 0,
    };
    let mut payload = vec![0; bfd::LEN];
    control.emit(&mut payload);
    let segment =
        udp::Repr { source_port: 49_152, destination_port: bfd::PORT, payload_len: payload.len() };
    let mut datagram = vec![0; segment.buffer_len()];
    segment.emit(CUSTOMER.into(), MICROSOFT.into(), &payload, &mut datagram);
    let header = ipv4::Repr {
        source: CUSTOMER,
        destination: MICROSOFT,
        protocol: protocol::UDP,
        ttl: 255,
        dscp: 48,
        identification: 0,
        dont_fragment: true,
        payload_len: datagram.len(),
    };
    let mut frame = vec![0; ethernet::HEADER_LEN + ipv4::MIN_HEADER_LEN];
    let source = MacAddr([2, 0, 0, 0, 0, 9]);
    ethernet::Repr { destination, source, ethertype: ethertype::IPV4 }.emit(&mut frame);
    header.emit(&mut frame[ethernet::HEADER_LEN..]);
    frame.extend(datagram);
    for &tag in tags.iter().rev() {
        frame.splice(0..0, [0; vlan::TAG_LEN]);
        vlan::push(&mut frame, tag);
    }
    frame
}

/// Runs on, and holds that nothing happened to anybody's sessions.
fn assert_nothing_happened(mut lab: Lab, flaps_before: usize) {
    let end = lab.now() + Duration::from_secs(3);
    lab.run_until(end, &mut Nobody);
    assert_eq!(lab.sessions_missing(), Vec::<String>::new());
    assert_eq!(downs(&lab), flaps_before, "{:?}", lab.events().last());
    assert!(msee(&lab).bfd.iter().all(|session| session.state == "Up"));
    assert!(lab.totals().held);
}

fn downs(lab: &Lab) -> usize {
    let down = |name: &str| name == "bfd-down" || name == "bgp-down";
    lab.events().iter().filter(|event| down(event.kind.name())).count()
}

fn discriminator(lab: &Lab, circuit: &str) -> u32 {
    let sessions = msee(lab).bfd;
    let of_circuit = format!("{circuit}/AzurePrivatePeering");
    sessions.iter().find(|session| session.attachment == of_circuit).unwrap().discriminator
}

#[test]
fn a_bfd_packet_of_blue_with_reds_discriminator_changes_nothing() {
    let mut lab = converged();
    let (before, refused) = (downs(&lab), dropped(&lab, MSEE, "bfd-refused"));
    let frame = bfd_down(&[BLUE_TAG, PEERING_TAG], discriminator(&lab, "red"), msee_mac(&lab));
    lab.send_from_outside(&place("blue", Segment::Nni), Direction::Forward, &frame);
    let soon = lab.now() + Duration::from_millis(10);
    lab.run_until(soon, &mut Nobody);
    assert_eq!(dropped(&lab, MSEE, "bfd-refused"), refused + 1);
    assert_nothing_happened(lab, before);
}

/// The same packet with the session's own discriminator takes it down: the test above can fail.
#[test]
fn the_same_packet_on_its_own_circuit_takes_the_session_down() {
    let mut lab = converged();
    let before = downs(&lab);
    let frame = bfd_down(&[RED_TAG, PEERING_TAG], discriminator(&lab, "red"), msee_mac(&lab));
    lab.send_from_outside(&place("red", Segment::Nni), Direction::Forward, &frame);
    let soon = lab.now() + Duration::from_millis(10);
    lab.run_until(soon, &mut Nobody);
    assert!(downs(&lab) > before);
}

/// A customer cannot put on another's S-tag: the provider knows no such tag on its port.
#[test]
fn a_customer_cannot_wear_anothers_tag() {
    let mut lab = converged();
    let before = downs(&lab);
    let frame = bfd_down(&[RED_TAG, PEERING_TAG], discriminator(&lab, "red"), msee_mac(&lab));
    lab.send_from_outside(&place("blue", Segment::Access), Direction::Forward, &frame);
    let soon = lab.now() + Duration::from_millis(10);
    lab.run_until(soon, &mut Nobody);
    assert_eq!(dropped(&lab, "Equinix Amsterdam", "unknown-tags"), 1);
    assert_nothing_happened(lab, before);
}

/// Red's table holds one route to the prefix both announce, by red's own edge.
#[test]
fn tables_of_the_same_prefix_stay_apart() {
    let lab = converged();
    for (circuit, edge, gateway) in
        [("red", "redce", "redvnet/er"), ("blue", "bluece", "bluevnet/er")]
    {
        let vrf = format!("{circuit}/AzurePrivatePeering");
        let state = msee(&lab);
        let table = state.vrfs.iter().find(|table| table.name == vrf).unwrap();
        for (prefix, from) in [("10.0.0.0/16", edge), ("10.8.0.0/16", gateway)] {
            let row = table.routes.iter().find(|row| row.prefix.to_string() == prefix).unwrap();
            assert!(row.paths.iter().all(|path| path.from.starts_with(from)), "{row:?}");
        }
    }
}

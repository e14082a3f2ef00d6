//! Links that spoil frames, shorten them, send them twice and in another order: what is wrong is
//! dropped by who receives it, for a reason, and sessions live or say what ended them.

use std::path::Path;
use std::time::Duration;

use msee::config::drill::{Directions, Event, Impairment};
use msee::config::{self, HostRef, Place, Segment};
use msee::drill::event;
use msee::fabric::{Altered, Direction as Way, LinkIndex, Observer};
use msee::lab::Lab;
use msee::model::{Instant, LinkRole};
use msee::router::DropReason;
use msee::traffic::{Direction, End, Flow, Meter, Spread};
use msee::wire::{ethertype, ipv4, vlan};

const FLOWS: u32 = 16;
const PACKETS_PER_SECOND: u64 = 800;
/// How long a link is impaired.
const LASTS: Duration = Duration::from_secs(30);

/// Looks at every frame as a router or gateway sends it: nothing of what a link does is in it.
#[derive(Default)]
struct Sent {
    ipv4_packets: u64,
    /// Sum of what entered, so that two runs can be compared.
    digest: u64,
}

impl Observer for Sent {
    fn frame(&mut self, _: LinkIndex, _: Way, bytes: &[u8], now: Instant) {
        for byte in now.as_nanos().to_le_bytes().iter().chain(bytes) {
            self.digest = (self.digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let tags = vlan::Tags::parse(bytes).expect("a node sends whole frames");
        if tags.ethertype == ethertype::IPV4 {
            let packet = ipv4::View::new(&bytes[tags.payload_offset..]).expect("a whole packet");
            assert!(packet.verify_checksum(), "sent with a wrong header: {bytes:02x?}");
            self.ipv4_packets += 1;
        }
    }
}

fn lab(seed: u64) -> Lab {
    let path = Path::new("fixtures/labs/quickstart.yaml");
    let file = config::load_lab(path, &std::fs::read_to_string(path).unwrap()).unwrap();
    let mut lab = Lab::new(&file, seed);
    lab.run_until(Instant::from_secs(30), &mut Sent::default());
    assert!(lab.is_converged());
    lab
}

/// Both ways between the two hosts of the lab.
fn begin_traffic(lab: &mut Lab) -> Vec<Flow> {
    let mut flows = Vec::new();
    let hosts = ["dc1.erp", "hub.app"].map(|name| HostRef::resolve(name, lab.file()).unwrap());
    let [site, vm] = hosts.each_ref().map(|host| End {
        host: host.to_string(),
        address: lab.with_host(host, |host| host.config().addresses[0]),
    });
    for (direction, from, to, first_id) in
        [(Direction::ToAzure, &site, &vm, 0), (Direction::ToOnprem, &vm, &site, FLOWS)]
    {
        let spread = Spread {
            name: "erp".to_owned(),
            direction,
            from: from.clone(),
            to: to.clone(),
            flows: FLOWS,
            rate_pps: PACKETS_PER_SECOND,
            size: 256,
            start: lab.now(),
            stop: lab.now() + LASTS,
            first_id,
        };
        for flow in spread.flows() {
            for host in &hosts {
                lab.with_host(host, |host| host.add_flow(&flow)).unwrap();
            }
            flows.push(flow);
        }
    }
    flows
}

fn place(segment: Segment) -> Place {
    Place { circuit: "ams".to_owned(), link: LinkRole::Primary, segment }
}

fn impair(lab: &mut Lab, impairment: Impairment) {
    let at = [Segment::Access, Segment::Nni].map(place);
    let event = Event::Impair { at: at.to_vec(), direction: Directions::Both, impairment };
    (event::row(&event).start)(lab, &event);
}

/// A lab whose primary link was impaired while traffic passed, and then nothing more is on the way.
fn impaired(seed: u64, impairment: Impairment) -> (Lab, Sent, Vec<Flow>) {
    let mut lab = lab(seed);
    // Where the MSEE and the gateways send to each other: the provider passes on what it is given.
    let core = place(Segment::Core);
    for link in lab.links_at(&core) {
        lab.watch(link);
    }
    let flows = begin_traffic(&mut lab);
    impair(&mut lab, impairment);
    let mut sent = Sent::default();
    lab.run_until(lab.now() + LASTS + Duration::from_secs(1), &mut sent);
    assert!(lab.totals().held, "{:?}", lab.totals());
    assert!(sent.ipv4_packets > 1_000, "{}", sent.ipv4_packets);
    (lab, sent, flows)
}

fn dropped(lab: &Lab, node: &str, reason: DropReason) -> u64 {
    let (_, ledger) = lab.node_ledgers().find(|(name, _)| *name == node).unwrap();
    ledger.dropped[reason as usize]
}

/// Sum over the links.
fn altered(lab: &Lab, of: fn(Altered) -> u64) -> u64 {
    lab.altered().map(|(_, altered)| of(altered)).sum()
}

/// A wrong header or checksum is dropped as such where it is looked at: an IPv4 header by the router,
/// what is behind it by the host. Sessions live.
#[test]
fn what_is_corrupted_is_dropped_for_its_checksum_and_sessions_stay() {
    let (lab, ..) = impaired(7, Impairment { corrupt_ppm: 10_000, ..Impairment::default() });
    let corrupted = altered(&lab, |altered| altered.corrupted);
    assert!(corrupted > 200, "{corrupted}");
    let malformed = |node| dropped(&lab, node, DropReason::Malformed);
    // 20 of 256 octets are the header.
    for router in ["ams/primary", "ce1"] {
        assert!(malformed(router) > 0, "{router}");
    }
    for host in ["dc1.erp", "hub.app"] {
        assert!(malformed(host) > 50, "{host}: {}", malformed(host));
        assert_eq!(dropped(&lab, host, DropReason::Misdelivered), 0);
    }
    assert!(lab.is_converged(), "{:?}", lab.sessions_missing());
    for (router, session) in lab.sessions() {
        let is_clear = session.flaps == 0 || !session.last_error.is_empty();
        assert!(is_clear, "{router}: {session:?}");
    }
}

/// Most of what a session needs is spoilt: it ends, and says why.
#[test]
fn a_session_that_corruption_ends_says_why() {
    let (lab, ..) = impaired(7, Impairment { corrupt_ppm: 900_000, ..Impairment::default() });
    let ended: Vec<_> = lab.sessions().filter(|(_, session)| session.flaps > 0).collect();
    assert!(!ended.is_empty());
    for (router, session) in ended {
        assert!(!session.last_error.is_empty(), "{router}: {session:?}");
    }
}

/// Nothing of it is dropped but what has no end.
#[test]
fn truncated_packets_are_malformed_and_doubled_and_overtaken_ones_are_not() {
    let (lab, ..) = impaired(7, Impairment { truncate_ppm: 10_000, ..Impairment::default() });
    assert!(altered(&lab, |altered| altered.truncated) > 200);
    assert!(dropped(&lab, "ams/primary", DropReason::Malformed) > 50);
    assert!(lab.is_converged(), "{:?}", lab.sessions_missing());

    let both = Impairment { duplicate_ppm: 50_000, reorder_ppm: 50_000, ..Impairment::default() };
    let (mut lab, _, flows) = impaired(7, both);
    assert!(altered(&lab, |altered| altered.duplicated) > 1_000);
    assert!(altered(&lab, |altered| altered.reordered) > 1_000);
    for node in ["ams/primary", "ce1", "dc1.erp", "hub.app"] {
        assert_eq!(dropped(&lab, node, DropReason::Malformed), 0, "{node}");
    }
    assert!(lab.is_converged(), "{:?}", lab.sessions_missing());
    assert!(lab.sessions().all(|(_, session)| session.flaps == 0));
    let (mut lost, mut reordered, mut doubled) = (0, 0, 0);
    for flow in &flows {
        let [from, to] = [&flow.from.host, &flow.to.host]
            .map(|host| HostRef::resolve(host, lab.file()).unwrap());
        let sent = lab.with_host(&from, |host| host.sent(flow.id)).unwrap();
        let end = lab.now();
        let window = lab.with_host(&to, |host| {
            let arrivals = host.arrivals(flow.id).unwrap();
            Meter::new(flow, sent, arrivals, end).window(flow.start, flow.stop)
        });
        lost += window.lost;
        reordered += window.reordered;
        doubled += window.duplicated;
    }
    assert_eq!(lost, 0);
    assert!(doubled > 500, "{reordered} reordered, {doubled} doubled");
}

#[test]
fn a_run_is_its_seed() {
    let all = Impairment {
        loss_ppm: 10_000,
        corrupt_ppm: 10_000,
        truncate_ppm: 10_000,
        duplicate_ppm: 10_000,
        reorder_ppm: 10_000,
        ..Impairment::default()
    };
    let digest = |seed| impaired(seed, all).1.digest;
    assert_eq!(digest(7), digest(7));
    assert_ne!(digest(7), digest(8));
}

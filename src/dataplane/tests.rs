//! One router's forwarding, driven by frames and changes.

mod super_frames;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use proptest::prelude::*;

use crate::dataplane::{DropReason, Forwarding};
use crate::io::Frames;
use crate::model::{
    AttachmentEntry, AttachmentIndex, Bandwidth, BfdDownReason, BfdParameters, Change,
    Encapsulation, FlowHash, GroupIndex, Injected, InnerService, Instant, LimiterIndex,
    LimiterParameters, Member, Notice, PortEntry, PortIndex, PuntClass, Punted, VlanId, VrfIndex,
};
use crate::wire::{MacAddr, arp, bfd, ethertype, icmpv6, ipv4, ipv6, ndp, protocol, tcp, udp};

const CE_PORT: PortIndex = PortIndex(0);
const CORE_PORT: PortIndex = PortIndex(1);
const LEFT_PORT: PortIndex = PortIndex(2);
const RIGHT_PORT: PortIndex = PortIndex(3);

/// Towards the customers' edges: the same C-tag and addresses in two circuits (F-05).
const CE: [AttachmentIndex; 2] = [AttachmentIndex(0), AttachmentIndex(2)];
/// Towards the gateways of each.
const CORE: [AttachmentIndex; 2] = [AttachmentIndex(1), AttachmentIndex(3)];
const LEFT: AttachmentIndex = AttachmentIndex(4);
const RIGHT: AttachmentIndex = AttachmentIndex(5);
const VRFS: [VrfIndex; 2] = [VrfIndex(0), VrfIndex(1)];
const IN: LimiterIndex = LimiterIndex(0);
const OUT: LimiterIndex = LimiterIndex(1);

const CE_PEER: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 1);
const OURS: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 2);
const OURS6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const GATEWAYS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 255, 0, 4), Ipv4Addr::new(10, 255, 0, 5)];
const SITE_HOST: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 10);
const VM: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 4);
const TO_SITE: GroupIndex = GroupIndex(1);
const TO_VNET: GroupIndex = GroupIndex(2);

const fn port_mac(port: PortIndex) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, port.0 as u8])
}

/// The MAC of a neighbour: the last octet tells the circuit.
const fn mac(kind: u8, circuit: usize) -> MacAddr {
    MacAddr([2, 0, 0, 1, kind, circuit as u8])
}

const CE_MAC: u8 = 1;
const GATEWAY_MACS: [u8; 2] = [2, 3];

fn vlan(id: u64) -> VlanId {
    VlanId::new(id).unwrap()
}

fn entry(port: PortIndex, encapsulation: Encapsulation, service: InnerService) -> AttachmentEntry {
    AttachmentEntry {
        name: format!("{encapsulation:?}"),
        port,
        encapsulation,
        service,
        mtu: 1500,
        addresses: Vec::new(),
        ingress_limiters: Vec::new(),
        egress_limiters: Vec::new(),
        polices_control: false,
        answers_icmp: true,
    }
}

fn ce_entry(circuit: usize) -> AttachmentEntry {
    let encapsulation = Encapsulation::QinQ { outer: vlan(2 + circuit as u64), inner: vlan(100) };
    let link_local = ndp::link_local(port_mac(CE_PORT));
    AttachmentEntry {
        addresses: vec![OURS.into(), OURS6.into(), link_local.into()],
        ..entry(CE_PORT, encapsulation, InnerService::Vrf(VRFS[circuit]))
    }
}

fn core_entry(circuit: usize) -> AttachmentEntry {
    let service = InnerService::Vrf(VRFS[circuit]);
    AttachmentEntry {
        addresses: vec!["10.255.0.1".parse().unwrap()],
        ..entry(CORE_PORT, Encapsulation::Vni(1000 + circuit as u32), service)
    }
}

fn attachment(index: AttachmentIndex, entry: AttachmentEntry) -> Change {
    Change::Attachment { index, entry: Some(entry) }
}

fn neighbor(attachment: AttachmentIndex, address: impl Into<IpAddr>, mac: MacAddr) -> Change {
    Change::Neighbor { attachment, address: address.into(), mac: Some(mac) }
}

fn member(attachment: AttachmentIndex, next_hop: impl Into<IpAddr>, ordinal: u8) -> Member {
    Member { attachment, next_hop: Some(next_hop.into()), ordinal }
}

fn group(vrf: VrfIndex, group: GroupIndex, members: &[Member]) -> Change {
    Change::Group { vrf, group, members: members.to_vec() }
}

fn route(vrf: VrfIndex, prefix: &str, group: GroupIndex) -> Change {
    Change::Route { vrf, prefix: prefix.parse().unwrap(), group: Some(group) }
}

fn limiter(index: LimiterIndex, mbps: u64) -> Change {
    let parameters = LimiterParameters { rate: Bandwidth::from_mbps(mbps), depth_bytes: 10 * 1500 };
    Change::Limiter { index, parameters: Some(parameters) }
}

/// Two circuits with equal addresses and C-tags, and one cross-connect.
fn lab() -> Vec<Change> {
    let mut changes = Vec::new();
    for (index, name) in ["ce", "core", "left", "right"].into_iter().enumerate() {
        let index = PortIndex(index as u16);
        let entry = PortEntry { name: name.to_owned(), mac: port_mac(index) };
        changes.push(Change::Port { index, entry });
    }
    for circuit in 0..2 {
        let vrf = VRFS[circuit];
        let gateways: Vec<_> =
            (0..2).map(|at| member(CORE[circuit], GATEWAYS[at], at as u8)).collect();
        changes.extend([
            attachment(CE[circuit], ce_entry(circuit)),
            attachment(CORE[circuit], core_entry(circuit)),
            neighbor(CE[circuit], CE_PEER, mac(CE_MAC, circuit)),
            neighbor(CORE[circuit], GATEWAYS[0], mac(GATEWAY_MACS[0], circuit)),
            neighbor(CORE[circuit], GATEWAYS[1], mac(GATEWAY_MACS[1], circuit)),
            group(vrf, TO_SITE, &[member(CE[circuit], CE_PEER, 0)]),
            group(vrf, TO_VNET, &gateways),
            route(vrf, "10.1.0.0/16", TO_SITE),
            route(vrf, "10.2.0.0/16", TO_VNET),
            route(vrf, "fd00:1::/32", TO_SITE),
            route(vrf, "fd00:2::/32", TO_VNET),
        ]);
    }
    let left = entry(LEFT_PORT, Encapsulation::Dot1q(vlan(10)), InnerService::CrossConnect(RIGHT));
    let right_tags = Encapsulation::QinQ { outer: vlan(7), inner: vlan(8) };
    let right = entry(RIGHT_PORT, right_tags, InnerService::CrossConnect(LEFT));
    changes.extend([attachment(LEFT, left), attachment(RIGHT, right)]);
    changes
}

/// What left a router: port, VNI and bytes.
type Sent = (PortIndex, Option<u32>, Vec<u8>);

struct Rig {
    forwarding: Forwarding,
    pool: Frames,
    now: Instant,
}

impl Rig {
    fn empty() -> Self {
        let forwarding = Forwarding::new(7, 7, FlowHash::Asymmetric);
        Self { forwarding, pool: Frames::new(), now: Instant::from_secs(1) }
    }

    fn new() -> Self {
        let mut rig = Self::empty();
        rig.apply(&lab());
        assert_eq!(rig.forwarding.refused_changes(), 0);
        rig
    }

    fn apply(&mut self, changes: &[Change]) {
        self.forwarding.apply(changes, self.now);
    }

    fn send(&mut self, port: PortIndex, vni: Option<u32>, bytes: &[u8]) -> Vec<Sent> {
        let mut frame = self.pool.allocate_from(bytes).unwrap();
        frame.meta.vni = vni;
        self.forwarding.receive(port, [frame], &mut self.pool, self.now);
        self.sent()
    }

    /// From the customer's edge of a circuit.
    fn send_ce(&mut self, circuit: usize, packet: &[u8]) -> Vec<Sent> {
        self.send(CE_PORT, None, &ce_frame(circuit, packet))
    }

    fn send_core(&mut self, circuit: usize, packet: &[u8]) -> Vec<Sent> {
        let from = mac(GATEWAY_MACS[0], circuit);
        let bytes = frame(port_mac(CORE_PORT), from, &[], packet);
        self.send(CORE_PORT, Some(1000 + circuit as u32), &bytes)
    }

    fn sent(&mut self) -> Vec<Sent> {
        let mut sent = Vec::new();
        while let Some((port, frame)) = self.forwarding.poll_transmit() {
            sent.push((port, frame.meta.vni, self.pool.bytes(&frame).to_vec()));
            self.pool.free(frame);
        }
        assert!(self.forwarding.ledger().holds());
        assert_eq!(self.pool.in_use(), 0, "a frame was lost");
        sent
    }

    fn notices(&mut self) -> Vec<Notice> {
        std::iter::from_fn(|| self.forwarding.poll_notice()).collect()
    }

    fn punts(&mut self) -> Vec<Punted> {
        let notices = self.notices().into_iter();
        notices
            .map(|notice| match notice {
                Notice::Punted(punted) => punted,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.forwarding.ledger().dropped[reason as usize]
    }

    /// Which gateway the flows of these source ports go to.
    fn gateways_of(&mut self, ports: std::ops::Range<u16>) -> Vec<u8> {
        let gateway = |rig: &mut Self, port| {
            let sent = rig.send_ce(0, &udp4(SITE_HOST, VM, 64, port, 100));
            sent[0].2[4]
        };
        ports.map(|port| gateway(self, port)).collect()
    }
}

fn frame(destination: MacAddr, source: MacAddr, tags: &[u16], packet: &[u8]) -> Vec<u8> {
    let kind = match packet[0] >> 4 {
        4 => ethertype::IPV4,
        6 => ethertype::IPV6,
        _ => ethertype::ARP,
    };
    framed(destination, source, tags, kind, packet)
}

fn framed(
    destination: MacAddr,
    source: MacAddr,
    tags: &[u16],
    kind: u16,
    packet: &[u8],
) -> Vec<u8> {
    let mut bytes = [destination.0, source.0].concat();
    for tag in tags {
        bytes.extend(ethertype::VLAN.to_be_bytes());
        bytes.extend(tag.to_be_bytes());
    }
    bytes.extend(kind.to_be_bytes());
    bytes.extend(packet);
    bytes
}

fn ce_frame(circuit: usize, packet: &[u8]) -> Vec<u8> {
    frame(port_mac(CE_PORT), mac(CE_MAC, circuit), &[2 + circuit as u16, 100], packet)
}

fn udp_payload(source: IpAddr, destination: IpAddr, ports: (u16, u16), len: usize) -> Vec<u8> {
    let payload = vec![0x5a; len];
    let repr =
        udp::Repr { source_port: ports.0, destination_port: ports.1, payload_len: payload.len() };
    let mut datagram = vec![0; udp::HEADER_LEN + len];
    repr.emit(source, destination, &payload, &mut datagram);
    datagram
}

fn ip4(source: Ipv4Addr, destination: Ipv4Addr, ttl: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let repr = ipv4::Repr {
        source,
        destination,
        protocol,
        ttl,
        dscp: 46,
        identification: 9,
        dont_fragment: true,
        payload_len: payload.len(),
    };
    let mut packet = vec![0; repr.buffer_len()];
    repr.emit(&mut packet);
    packet.extend(payload);
    packet
}

fn udp4(source: Ipv4Addr, destination: Ipv4Addr, ttl: u8, port: u16, len: usize) -> Vec<u8> {
    let datagram = udp_payload(source.into(), destination.into(), (port, 5001), len);
    ip4(source, destination, ttl, protocol::UDP, &datagram)
}

fn ip6(source: Ipv6Addr, destination: Ipv6Addr, hops: u8, next: u8, payload: &[u8]) -> Vec<u8> {
    let repr = ipv6::Repr {
        source,
        destination,
        next_header: next,
        hop_limit: hops,
        traffic_class: 46 << 2,
        payload_len: payload.len(),
    };
    let mut packet = vec![0; repr.buffer_len()];
    repr.emit(&mut packet);
    packet.extend(payload);
    packet
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn site_to_vm() -> Vec<u8> {
    udp4(SITE_HOST, VM, 64, 20_000, 100)
}

/// The header of an IPv4 packet changed, its checksum right again.
fn with_header(mut packet: Vec<u8>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    change(&mut packet);
    packet[10..12].copy_from_slice(&[0, 0]);
    let header_len = usize::from(packet[0] & 15) * 4;
    let sum = crate::wire::checksum::sum(&packet[..header_len]);
    packet[10..12].copy_from_slice(&crate::wire::checksum::finish(sum).to_be_bytes());
    packet
}

fn fragment(packet: &[u8], offset: u16, more: bool) -> Vec<u8> {
    let more = if more { 0x2000 } else { 0 };
    let flags = (offset / 8) | more;
    with_header(packet.to_vec(), |header| header[6..8].copy_from_slice(&flags.to_be_bytes()))
}

#[test]
fn qinq_in_is_a_backbone_frame_out_and_back() {
    let mut rig = Rig::new();
    let sent = rig.send_ce(0, &site_to_vm());
    let gateway = sent[0].2[4];
    assert!(GATEWAY_MACS.contains(&gateway));
    // DSCP 46 stays (F-80), one hop less, checksum as if made anew.
    let packet = udp4(SITE_HOST, VM, 63, 20_000, 100);
    let bytes = frame(mac(gateway, 0), port_mac(CORE_PORT), &[], &packet);
    assert_eq!(sent, [(CORE_PORT, Some(1000), bytes)]);

    let sent = rig.send_core(0, &udp4(VM, SITE_HOST, 2, 5001, 100));
    let packet = udp4(VM, SITE_HOST, 1, 5001, 100);
    let bytes = frame(mac(CE_MAC, 0), port_mac(CE_PORT), &[2, 100], &packet);
    assert_eq!(sent, [(CE_PORT, None, bytes)]);

    let ledger = rig.forwarding.ledger();
    assert_eq!((ledger.received, ledger.transmitted), (2, 2));
    let ce = rig.forwarding.counters(CE[0]);
    assert_eq!((ce.received.packets, ce.received.bytes), (1, 128));
    assert_eq!((ce.transmitted.packets, ce.transmitted.bytes), (1, 128));
}

#[test]
fn ipv6_is_forwarded_too() {
    let mut rig = Rig::new();
    let (host, vm) = (v6("fd00:1::a"), v6("fd00:2::4"));
    let datagram = udp_payload(host.into(), vm.into(), (1, 2), 10);
    let sent = rig.send_ce(1, &ip6(host, vm, 64, protocol::UDP, &datagram));
    let expected = ip6(host, vm, 63, protocol::UDP, &datagram);
    let to = mac(sent[0].2[4], 1);
    let bytes = frame(to, port_mac(CORE_PORT), &[], &expected);
    assert_eq!(sent, [(CORE_PORT, Some(1001), bytes)]);
}

#[test]
fn padding_is_no_part_of_the_packet_and_88a8_is_accepted_on_receipt() {
    let mut rig = Rig::new();
    let packet = udp4(SITE_HOST, VM, 64, 1, 1);
    let mut bytes = ce_frame(0, &packet);
    bytes[12..14].copy_from_slice(&ethertype::QINQ.to_be_bytes());
    bytes.resize(64, 0xee);
    let sent = rig.send(CE_PORT, None, &bytes);
    assert_eq!(sent[0].2.len(), 14 + packet.len());
}

/// One frame for each reason that a frame from a customer can cause.
#[test]
fn each_drop_has_its_reason() {
    let ours = port_mac(CE_PORT);
    let peer = mac(CE_MAC, 0);
    let good = site_to_vm();
    let with = |at: usize, value: u8| {
        let mut packet = good.clone();
        packet[at] = value;
        packet
    };
    let tagged = |tags: &[u16], packet: &[u8]| frame(ours, peer, tags, packet);
    let ce = |packet: &[u8]| tagged(&[2, 100], packet);
    let ip = |packet: Vec<u8>| ce(&packet);
    let bfd_packet = |ttl| {
        let payload = udp_payload(CE_PEER.into(), OURS.into(), (49_152, bfd::PORT), bfd::LEN);
        ip4(CE_PEER, OURS, ttl, protocol::UDP, &payload)
    };
    let solicit = |hops| {
        let message = [135, 0, 0, 0];
        ip6(v6("fe80::1"), OURS6, hops, protocol::ICMPV6, &message)
    };
    let host6 = v6("fd00:1::a");
    let cases: Vec<(DropReason, &str, Vec<u8>)> = vec![
        (DropReason::UnknownTags, "no such S-tag", tagged(&[9, 100], &good)),
        (DropReason::UnknownTags, "no such C-tag", tagged(&[2, 101], &good)),
        (DropReason::UnknownTags, "no C-tag", tagged(&[2], &good)),
        (DropReason::UnknownTags, "no tag", tagged(&[], &good)),
        (DropReason::Malformed, "cut in the tags", ce(&good)[..15].to_vec()),
        (DropReason::Malformed, "no header", ce(&good)[..30].to_vec()),
        (DropReason::Malformed, "cut", ce(&good)[..100].to_vec()),
        (DropReason::Malformed, "version", framed(ours, peer, &[2, 100], 0x0800, &with(0, 0x55))),
        (DropReason::Malformed, "checksum", ip(with(8, 63))),
        (DropReason::Malformed, "loopback source", ip(udp4([127, 0, 0, 1].into(), VM, 9, 1, 1))),
        (DropReason::Malformed, "group source", ip(udp4([224, 0, 0, 1].into(), VM, 9, 1, 1))),
        (DropReason::Malformed, "short ARP", framed(ours, peer, &[2, 100], 0x0806, &[0; 27])),
        (DropReason::Malformed, "group source", ip(ip6(v6("ff02::1"), OURS6, 64, 59, &[]))),
        (DropReason::Malformed, "ND from afar", ip(solicit(254))),
        (DropReason::NotForUs, "other MAC", frame(peer, ours, &[2, 100], &good)),
        (DropReason::NotForUs, "broadcast", frame(MacAddr::BROADCAST, peer, &[2, 100], &good)),
        (
            DropReason::NotForUs,
            "a group nobody joined",
            frame(
                ndp::multicast_mac(v6("ff02::5")),
                peer,
                &[2, 100],
                &ip6(v6("fe80::1"), v6("ff02::5"), 255, protocol::ICMPV6, &[135]),
            ),
        ),
        (DropReason::UnknownProtocol, "LLDP", framed(ours, peer, &[2, 100], 0x88cc, &good)),
        (DropReason::UnknownProtocol, "a third tag", tagged(&[2, 100, 5], &good)),
        (DropReason::NoRoute, "no route", ip(udp4(SITE_HOST, [10, 3, 0, 1].into(), 9, 1, 1))),
        (DropReason::NoRoute, "group", ip(udp4(SITE_HOST, [224, 0, 0, 5].into(), 9, 1, 1))),
        (DropReason::NoRoute, "no route", ip(ip6(host6, v6("fd00:3::1"), 9, 59, &[]))),
        (DropReason::NoRoute, "link-local source", ip(ip6(v6("fe80::1"), host6, 9, 59, &[]))),
        (DropReason::NoRoute, "link-local elsewhere", ip(ip6(host6, v6("fe80::9"), 9, 59, &[]))),
        (DropReason::BfdRefused, "TTL 254", ip(bfd_packet(254))),
        (DropReason::BfdRefused, "no session", ip(bfd_packet(255))),
    ];
    for (reason, what, bytes) in cases {
        let mut rig = Rig::new();
        let sent = rig.send(CE_PORT, None, &bytes);
        assert_eq!(rig.dropped(reason), 1, "{what}: {:?}", rig.forwarding.ledger());
        assert_eq!((sent.len(), rig.notices().len()), (0, 0), "{what}");
        let counted = rig.forwarding.counters(CE[0]).dropped[reason as usize];
        let known = reason != DropReason::UnknownTags && what != "cut in the tags";
        assert_eq!(counted, u64::from(known), "{what}");
    }
}

#[test]
fn what_is_for_the_router_is_punted_with_its_class() {
    let peer = mac(CE_MAC, 0);
    let tcp_segment = [0; tcp::MIN_HEADER_LEN];
    let request = arp::Repr {
        operation: arp::Operation::Request,
        sender_mac: peer,
        sender: CE_PEER,
        target_mac: MacAddr::default(),
        target: OURS,
    };
    let mut arp_packet = vec![0; arp::LEN];
    request.emit(&mut arp_packet);
    let group = ndp::solicited_node(OURS6);
    let link_local = ndp::link_local(port_mac(CE_PORT));
    let solicit = ip6(v6("fe80::1"), group, 255, protocol::ICMPV6, &[135, 0, 0, 0]);
    let echo6 = ip6(v6("fe80::1"), link_local, 64, protocol::ICMPV6, &[icmpv6::kind::ECHO_REQUEST]);
    let core_address = "10.255.0.1".parse().unwrap();
    let first_fragment = fragment(&udp4(CE_PEER, OURS, 64, 1, 16), 0, true);
    let cases = [
        (PuntClass::Arp, MacAddr::BROADCAST, arp_packet.clone()),
        (PuntClass::Arp, port_mac(CE_PORT), arp_packet),
        (PuntClass::Tcp, port_mac(CE_PORT), ip4(CE_PEER, OURS, 1, protocol::TCP, &tcp_segment)),
        (PuntClass::Local, port_mac(CE_PORT), ip4(CE_PEER, OURS, 64, protocol::ICMP, &[8, 0])),
        (PuntClass::Local, port_mac(CE_PORT), ip4(SITE_HOST, core_address, 64, 1, &[8, 0])),
        (PuntClass::Local, port_mac(CE_PORT), udp4(CE_PEER, OURS, 64, 1, 1)),
        (PuntClass::Local, port_mac(CE_PORT), first_fragment),
        (PuntClass::Ndp, ndp::multicast_mac(group), solicit),
        (PuntClass::Local, port_mac(CE_PORT), echo6),
        (PuntClass::TtlExpired, port_mac(CE_PORT), udp4(SITE_HOST, VM, 1, 1, 1)),
        (PuntClass::TtlExpired, port_mac(CE_PORT), ip6(OURS6, v6("fd00:2::4"), 1, 59, &[])),
    ];
    for (class, to, packet) in cases {
        let mut rig = Rig::new();
        let mut bytes = frame(to, peer, &[2, 100], &packet);
        bytes.resize(bytes.len().max(72), 0);
        assert_eq!(rig.send(CE_PORT, None, &bytes), []);
        let expected = Punted { attachment: CE[0], class, source: peer, packet };
        assert_eq!(rig.punts(), [expected]);
        assert_eq!(rig.forwarding.ledger().consumed, 1);
    }
}

/// F-78: a gateway is silent.
#[test]
fn a_silent_attachment_answers_no_errors() {
    let mut rig = Rig::new();
    rig.apply(&[attachment(CE[0], AttachmentEntry { answers_icmp: false, ..ce_entry(0) })]);
    rig.apply(&[attachment(CORE[0], AttachmentEntry { mtu: 1400, ..core_entry(0) })]);
    rig.send_ce(0, &udp4(SITE_HOST, VM, 1, 1, 1));
    rig.send_ce(0, &udp4(SITE_HOST, VM, 64, 1, 1400));
    assert_eq!(rig.notices(), []);
    assert_eq!((rig.dropped(DropReason::TtlExpired), rig.dropped(DropReason::TooLarge)), (1, 1));
}

/// F-77.
#[test]
fn the_egress_mtu_counts_ip_bytes_and_only_who_forbids_fragments_is_told() {
    let mut rig = Rig::new();
    rig.apply(&[attachment(CORE[0], AttachmentEntry { mtu: 1400, ..core_entry(0) })]);
    assert_eq!(rig.send_ce(0, &udp4(SITE_HOST, VM, 64, 1, 1400 - 28)).len(), 1);
    let large = udp4(SITE_HOST, VM, 64, 1, 1401 - 28);
    assert_eq!(rig.send_ce(0, &large), []);
    assert_eq!(rig.punts()[0].class, PuntClass::TooLarge { mtu: 1400 });
    let large = with_header(large, |header| header[6] = 0);
    assert_eq!(rig.send_ce(0, &large), []);
    assert_eq!(rig.notices(), []);
    assert_eq!(rig.dropped(DropReason::TooLarge), 1);
    let large6 = ip6(v6("fd00:1::a"), v6("fd00:2::4"), 64, 59, &[0; 1361]);
    assert_eq!(rig.send_ce(0, &large6), []);
    assert_eq!(rig.punts()[0].class, PuntClass::TooLarge { mtu: 1400 });
}

/// F-05: equal prefixes, addresses and C-tags.
#[test]
fn two_circuits_with_equal_addresses_and_c_tags_never_mix() {
    let mut rig = Rig::new();
    for circuit in 0..2 {
        let sent = rig.send_ce(circuit, &site_to_vm());
        assert_eq!((sent[0].1, sent[0].2[5]), (Some(1000 + circuit as u32), circuit as u8));
        let sent = rig.send_core(circuit, &udp4(VM, SITE_HOST, 9, 1, 1));
        assert_eq!((sent[0].2[15], sent[0].2[5]), (2 + circuit as u8, circuit as u8));
    }
    // A route that only one circuit has is none for the other.
    rig.apply(&[route(VRFS[0], "10.9.0.0/16", TO_VNET)]);
    let packet = udp4(SITE_HOST, [10, 9, 0, 1].into(), 9, 1, 1);
    assert_eq!(rig.send_ce(0, &packet).len(), 1);
    assert_eq!(rig.send_ce(1, &packet).len(), 0);
    assert_eq!(rig.dropped(DropReason::NoRoute), 1);
}

#[test]
fn a_change_that_would_cross_circuits_is_refused() {
    let mut rig = Rig::new();
    let taken = AttachmentEntry { encapsulation: ce_entry(0).encapsulation, ..ce_entry(1) };
    rig.apply(&[
        group(VRFS[0], TO_VNET, &[member(CORE[1], GATEWAYS[0], 0)]),
        group(VRFS[0], GroupIndex::NO_ROUTE, &[member(CORE[0], GATEWAYS[0], 0)]),
        route(VRFS[1], "10.7.0.0/16", GroupIndex(77)),
        attachment(AttachmentIndex(9), taken),
    ]);
    assert_eq!(rig.forwarding.refused_changes(), 4);
    assert_eq!(rig.send_ce(0, &site_to_vm())[0].1, Some(1000));
}

#[test]
fn equal_changes_change_nothing_and_tags_can_be_swapped_in_one_batch() {
    let mut rig = Rig::new();
    let before = format!("{:?}", rig.forwarding);
    rig.apply(&lab());
    assert_eq!(format!("{:?}", rig.forwarding), before);

    let swapped = |circuit: usize| AttachmentEntry {
        encapsulation: ce_entry(1 - circuit).encapsulation,
        ..ce_entry(circuit)
    };
    rig.apply(&[attachment(CE[0], swapped(0)), attachment(CE[1], swapped(1))]);
    assert_eq!(rig.forwarding.refused_changes(), 0);
    assert_eq!(rig.send_ce(0, &site_to_vm())[0].1, Some(1001));
}

#[test]
fn an_attachment_that_goes_leaves_nothing_behind() {
    let mut rig = Rig::new();
    rig.apply(&[Change::Attachment { index: CORE[0], entry: None }]);
    assert_eq!(rig.send_ce(0, &site_to_vm()), []);
    assert_eq!(rig.dropped(DropReason::LinkDown), 1);
    assert_eq!(rig.send_core(0, &site_to_vm()), []);
    assert_eq!(rig.dropped(DropReason::UnknownTags), 1);
    // Its index comes back in the other VRF: nothing of the first leads there.
    let moved = AttachmentEntry { service: InnerService::Vrf(VRFS[1]), ..core_entry(0) };
    rig.apply(&[attachment(CORE[0], moved)]);
    assert_eq!(rig.send_ce(0, &site_to_vm()), []);
    assert_eq!(rig.send_ce(1, &site_to_vm()).len(), 1);
}

#[test]
fn an_attachment_moves_to_another_vrf_without_its_next_hops() {
    let mut rig = Rig::new();
    let moved = AttachmentEntry { service: InnerService::Vrf(VRFS[1]), ..core_entry(0) };
    rig.apply(&[attachment(CORE[0], moved)]);
    assert_eq!(rig.send_ce(0, &site_to_vm()), []);
    let sent = rig.send_core(0, &udp4(VM, SITE_HOST, 9, 1, 1));
    assert_eq!(sent[0].2[5], 1, "to the edge of the second circuit");
}

#[test]
fn a_cross_connect_replaces_tags_and_nothing_else() {
    let mut rig = Rig::new();
    let (from, to) = (mac(8, 0), mac(9, 0));
    for (packet, kind) in [
        (udp4(SITE_HOST, VM, 1, 1, 1), ethertype::IPV4),
        (vec![0; 28], ethertype::ARP),
        (vec![7; 40], 0x88cc),
    ] {
        let left = framed(to, from, &[10], kind, &packet);
        let right = framed(to, from, &[7, 8], kind, &packet);
        assert_eq!(rig.send(LEFT_PORT, None, &left), [(RIGHT_PORT, None, right.clone())]);
        assert_eq!(rig.send(RIGHT_PORT, None, &right), [(LEFT_PORT, None, left)]);
    }
    let large = framed(to, from, &[10], ethertype::IPV4, &udp4(SITE_HOST, VM, 1, 1, 1473));
    assert_eq!(rig.send(LEFT_PORT, None, &large), []);
    assert_eq!(rig.dropped(DropReason::TooLarge), 1);
    rig.apply(&[Change::Attachment { index: RIGHT, entry: None }]);
    let left = framed(to, from, &[10], ethertype::ARP, &[0; 28]);
    assert_eq!(rig.send(LEFT_PORT, None, &left), []);
    assert_eq!(rig.dropped(DropReason::NoRoute), 1);
}

/// Section 20: what the limiter charges; `policesControl`.
#[test]
fn control_passes_a_cross_connects_limiter_free_unless_policed() {
    for (polices_control, passes) in [(false, 100), (true, 0)] {
        let mut rig = Rig::new();
        let left = AttachmentEntry {
            ingress_limiters: vec![IN],
            polices_control,
            ..entry(LEFT_PORT, Encapsulation::Dot1q(vlan(10)), InnerService::CrossConnect(RIGHT))
        };
        rig.apply(&[limiter(IN, 0), attachment(LEFT, left)]);
        let bgp = tcp_segment(179);
        let bfd_packet = udp_payload(CE_PEER.into(), OURS.into(), (49_152, bfd::PORT), bfd::LEN);
        let control = [
            framed(mac(1, 1), mac(2, 2), &[10], ethertype::ARP, &[0; 28]),
            frame(mac(1, 1), mac(2, 2), &[10], &ip4(CE_PEER, OURS, 1, protocol::TCP, &bgp)),
            frame(mac(1, 1), mac(2, 2), &[10], &ip4(CE_PEER, OURS, 255, 17, &bfd_packet)),
            frame(mac(1, 1), mac(2, 2), &[10], &ip6(OURS6, OURS6, 255, 58, &[136])),
        ];
        let sent: usize = control.iter().map(|bytes| rig.send(LEFT_PORT, None, bytes).len()).sum();
        assert_eq!(sent, control.len() * passes / 100);
        let data = framed(mac(1, 1), mac(2, 2), &[10], ethertype::IPV4, &site_to_vm());
        assert_eq!(rig.send(LEFT_PORT, None, &data), []);
        assert!(rig.dropped(DropReason::RateLimited) > 0);
    }
}

fn tcp_segment(port: u16) -> Vec<u8> {
    let mut segment = vec![0; tcp::MIN_HEADER_LEN];
    segment[..2].copy_from_slice(&port.to_be_bytes());
    segment[12] = 5 << 4;
    segment
}

/// F-70, F-71, F-73: delivered is the rate, whatever is offered, and attachments that name one
/// limiter share it.
#[test]
fn limiters_deliver_their_rate_and_are_shared() {
    let mut rig = Rig::new();
    let limited = |circuit: usize| AttachmentEntry {
        ingress_limiters: vec![IN],
        egress_limiters: vec![OUT],
        ..ce_entry(circuit)
    };
    rig.apply(&[
        limiter(IN, 10),
        limiter(OUT, 20),
        attachment(CE[0], limited(0)),
        attachment(CE[1], limited(1)),
    ]);
    // 1,250 bytes each 250 µs from each of two circuits: 40 Mbps each, for two seconds.
    let packet = udp4(SITE_HOST, VM, 64, 1, 1250 - 28);
    let back = udp4(VM, SITE_HOST, 64, 1, 1250 - 28);
    let mut delivered = [0_u64; 2];
    for _ in 0..8_000 {
        rig.now += Duration::from_micros(250);
        for circuit in 0..2 {
            delivered[0] += rig.send_ce(circuit, &packet).len() as u64;
            delivered[1] += rig.send_core(circuit, &back).len() as u64;
        }
    }
    // Rate × time, and the depth once.
    for (delivered, mbps) in delivered.into_iter().zip([10, 20]) {
        let most = (mbps * 2_000_000 / 8 + 15_000) / 1250;
        assert!((most - 1..=most).contains(&delivered), "{mbps} Mbps: {delivered} of {most}");
    }
    assert_eq!(rig.dropped(DropReason::RateLimited), 32_000 - delivered[0] - delivered[1]);
    let counters = rig.forwarding.limiter_counters(IN).unwrap();
    assert_eq!(counters.conforming_packets, delivered[0]);
    assert_eq!(counters.surplus_bytes, (16_000 - delivered[0]) * 1250);

    // F-23: a higher rate at once, counters kept.
    rig.apply(&[limiter(IN, 1_000)]);
    rig.now += Duration::from_millis(20);
    assert_eq!(rig.send_ce(0, &packet).len(), 1);
    let after = rig.forwarding.limiter_counters(IN).unwrap();
    assert_eq!(after.conforming_packets, delivered[0] + 1);
}

/// Ingress is charged first and keeps it when egress refuses (section 20).
#[test]
fn ingress_is_charged_first_without_refund() {
    let mut rig = Rig::new();
    let ce = AttachmentEntry { ingress_limiters: vec![IN], ..ce_entry(0) };
    let core = AttachmentEntry { egress_limiters: vec![OUT], ..core_entry(0) };
    rig.apply(&[
        limiter(IN, 10),
        limiter(OUT, 0),
        attachment(CE[0], ce),
        attachment(CORE[0], core),
    ]);
    assert_eq!(rig.send_ce(0, &site_to_vm()), []);
    assert_eq!(rig.forwarding.limiter_counters(IN).unwrap().conforming_packets, 1);
    assert_eq!(rig.forwarding.limiter_counters(OUT).unwrap().surplus_bytes, 128);
    // What the router sends itself is free.
    let injected = Injected {
        attachment: CORE[0],
        destination: mac(1, 1),
        ethertype: ethertype::IPV4,
        packet: site_to_vm(),
    };
    rig.forwarding.inject(injected, &mut rig.pool);
    assert_eq!(rig.sent().len(), 1);
}

#[test]
fn injected_packets_get_header_and_tags() {
    let mut rig = Rig::new();
    let packet = vec![9; 28];
    let injected = |attachment| Injected {
        attachment,
        destination: MacAddr::BROADCAST,
        ethertype: ethertype::ARP,
        packet: packet.clone(),
    };
    rig.forwarding.inject(injected(CE[1]), &mut rig.pool);
    let tags = [3, 100];
    let bytes = framed(MacAddr::BROADCAST, port_mac(CE_PORT), &tags, ethertype::ARP, &packet);
    assert_eq!(rig.sent(), [(CE_PORT, None, bytes)]);
    rig.forwarding.inject(injected(CORE[1]), &mut rig.pool);
    assert_eq!(rig.sent()[0].1, Some(1001));
    rig.forwarding.inject(injected(AttachmentIndex(99)), &mut rig.pool);
    assert_eq!(rig.sent(), []);
    let ledger = rig.forwarding.ledger();
    assert_eq!((ledger.originated, ledger.transmitted), (3, 2));
}

#[test]
fn an_unknown_mac_is_asked_for_and_the_packet_can_leave_as_it_was_punted() {
    let mut rig = Rig::new();
    let forget = Change::Neighbor { attachment: CE[0], address: CE_PEER.into(), mac: None };
    let glean = Member { attachment: CE[0], next_hop: None, ordinal: 0 };
    rig.apply(&[
        forget,
        group(VRFS[0], GroupIndex(3), &[glean]),
        route(VRFS[0], "172.16.0.0/30", GroupIndex(3)),
    ]);
    for (destination, next_hop) in [(SITE_HOST, CE_PEER), (CE_PEER, CE_PEER)] {
        assert_eq!(rig.send_core(0, &udp4(VM, destination, 64, 1, 1)), []);
        let punts = rig.punts();
        let class = PuntClass::Glean { egress: CE[0], next_hop: next_hop.into() };
        assert_eq!((punts[0].class, punts[0].attachment), (class, CORE[0]));
        assert_eq!(punts[0].packet, udp4(VM, destination, 63, 1, 1));
    }
    rig.apply(&[neighbor(CE[0], CE_PEER, mac(CE_MAC, 0))]);
    assert_eq!(rig.send_core(0, &udp4(VM, SITE_HOST, 64, 1, 1)).len(), 1);
    assert_eq!(rig.send_core(0, &udp4(VM, CE_PEER, 64, 1, 1)).len(), 1);
}

#[test]
fn all_fragments_of_a_packet_take_one_way() {
    let mut rig = Rig::new();
    let mut ways = Vec::new();
    for port in 0..64 {
        // Other ports in the first bytes: only the first fragment has any.
        let packet = udp4(SITE_HOST, VM, 64, port, 64);
        let sent = [(0, true), (64, true), (1400, false)]
            .map(|(offset, more)| rig.send_ce(0, &fragment(&packet, offset, more))[0].2[4]);
        ways.extend(sent);
    }
    ways.dedup();
    assert_eq!(ways.len(), 1);
    // Whole packets of the same flows do spread.
    let mut whole = rig.gateways_of(0..64);
    whole.sort_unstable();
    whole.dedup();
    assert_eq!(whole, GATEWAY_MACS);
}

#[test]
fn punts_are_bounded_per_attachment_and_class() {
    let mut rig = Rig::new();
    for _ in 0..1_000 {
        rig.send_ce(0, &ip4(CE_PEER, OURS, 64, protocol::ICMP, &[8, 0]));
        rig.send_ce(0, &udp4(SITE_HOST, VM, 1, 1, 1));
    }
    assert_eq!(rig.dropped(DropReason::PuntFull), 1_000 - 256);
    assert_eq!(rig.dropped(DropReason::TtlExpired), 1_000 - 50);
    assert_eq!(rig.notices().len(), 256 + 50);
    rig.send_ce(1, &ip4(CE_PEER, OURS, 64, protocol::ICMP, &[8, 0]));
    rig.send_ce(0, &ip4(CE_PEER, OURS, 64, protocol::TCP, &[8, 0]));
    assert_eq!(rig.notices().len(), 2);
}

#[test]
fn a_lost_carrier_kills_what_is_behind_the_port_and_nothing_else() {
    let mut rig = Rig::new();
    rig.forwarding.carrier(CORE_PORT, false);
    rig.forwarding.carrier(CORE_PORT, false);
    let rewritten = |circuit: usize, gateway: usize| Notice::GroupsRewritten {
        vrf: VRFS[circuit],
        attachment: CORE[circuit],
        next_hop: GATEWAYS[gateway].into(),
        groups: 1,
    };
    let notices = rig.notices();
    assert_eq!(notices[0], Notice::Carrier { port: CORE_PORT, up: false });
    assert_eq!(notices[1..], [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(c, g)| rewritten(c, g)));
    assert_eq!(rig.send_ce(0, &site_to_vm()), []);
    assert_eq!(rig.dropped(DropReason::LinkDown), 1);
    assert_eq!(rig.send_core(0, &udp4(VM, SITE_HOST, 64, 1, 1)).len(), 1);
    // A group made while the carrier is away is dead, too.
    rig.apply(&[
        group(VRFS[0], GroupIndex(5), &[member(CORE[0], [10, 255, 0, 9], 0)]),
        neighbor(CORE[0], [10, 255, 0, 9], mac(5, 5)),
        route(VRFS[0], "10.2.0.4/32", GroupIndex(5)),
    ]);
    assert_eq!(rig.send_ce(0, &site_to_vm()), []);
    rig.forwarding.carrier(CORE_PORT, true);
    assert_eq!(rig.notices(), [Notice::Carrier { port: CORE_PORT, up: true }]);
    assert_eq!(rig.send_ce(0, &site_to_vm()).len(), 1);
}

/// Circuit 0's MSEE and gateway, back to back by the core port, with BFD to the first of two
/// gateways.
struct Pair {
    msee: Rig,
    gateway: Rig,
    cut: bool,
}

impl Pair {
    fn new() -> Self {
        let mut gateway = Rig::empty();
        let entry = AttachmentEntry { addresses: vec![GATEWAYS[0].into()], ..core_entry(0) };
        gateway.apply(&[
            Change::Port {
                index: CORE_PORT,
                entry: PortEntry { name: "core".to_owned(), mac: mac(GATEWAY_MACS[0], 0) },
            },
            attachment(CORE[0], entry),
            neighbor(CORE[0], core_address(), port_mac(CORE_PORT)),
            session(core_address(), Some(GATEWAYS[0].into())),
        ]);
        let mut pair = Self { msee: Rig::new(), gateway, cut: false };
        pair.msee.apply(&[session(GATEWAYS[0].into(), Some(core_address()))]);
        pair
    }

    fn up() -> Self {
        let mut pair = Self::new();
        pair.run_for(Duration::from_secs(5));
        let up = Notice::BfdUp { attachment: CORE[0], peer: GATEWAYS[0].into() };
        assert_eq!(pair.msee.notices(), [up]);
        pair
    }

    fn run_for(&mut self, span: Duration) {
        let end = self.msee.now + span;
        while self.msee.now < end {
            let due =
                self.msee.forwarding.poll_timeout().min(self.gateway.forwarding.poll_timeout());
            let now = due.max(self.msee.now).min(end);
            for rig in [&mut self.msee, &mut self.gateway] {
                rig.now = now;
                rig.forwarding.handle_timeout(now, &mut rig.pool);
            }
            self.exchange();
            if due > end {
                break;
            }
        }
        self.msee.now = end;
        self.gateway.now = end;
    }

    fn exchange(&mut self) {
        loop {
            let (there, back) = (self.msee.sent(), self.gateway.sent());
            if there.is_empty() && back.is_empty() {
                return;
            }
            if self.cut {
                continue;
            }
            for (sent, to) in [(there, &mut self.gateway), (back, &mut self.msee)] {
                for (port, vni, bytes) in sent {
                    let mut frame = to.pool.allocate_from(&bytes).unwrap();
                    frame.meta.vni = vni;
                    to.forwarding.receive(port, [frame], &mut to.pool, to.now);
                }
            }
        }
    }
}

fn core_address() -> IpAddr {
    "10.255.0.1".parse().unwrap()
}

fn session(peer: IpAddr, local: Option<IpAddr>) -> Change {
    let session = local.map(|local| BfdParameters {
        local,
        desired_min_tx: Duration::from_millis(300),
        required_min_rx: Duration::from_millis(300),
        detect_mult: 3,
    });
    Change::Bfd { attachment: CORE[0], peer, session }
}

#[test]
fn bfd_packets_are_what_the_rfc_says() {
    let mut pair = Pair::new();
    pair.msee.now += Duration::from_secs(2);
    pair.msee.forwarding.handle_timeout(pair.msee.now, &mut pair.msee.pool);
    let (port, vni, bytes) = pair.msee.sent().remove(0);
    assert_eq!((port, vni), (CORE_PORT, Some(1000)));
    assert_eq!(bytes[..6], mac(GATEWAY_MACS[0], 0).0);
    let packet = ipv4::View::new(&bytes[14..]).unwrap();
    assert!(packet.verify_checksum());
    assert_eq!((packet.ttl(), packet.dscp()), (255, 48));
    let (source, destination) = (packet.source().into(), packet.destination().into());
    let datagram = udp::View::new(packet.payload()).unwrap();
    assert!(datagram.verify_checksum(source, destination));
    assert!(datagram.source_port() >= 49_152 && datagram.destination_port() == bfd::PORT);
    let ledger = pair.msee.forwarding.ledger();
    assert_eq!(ledger.originated, ledger.transmitted);
}

#[test]
fn a_silent_cut_moves_the_flows_of_the_dead_member_and_only_those() {
    let mut pair = Pair::up();
    let before = pair.msee.gateways_of(0..64);
    pair.cut = true;
    pair.run_for(Duration::from_secs(1));
    let peer = GATEWAYS[0].into();
    let reason = BfdDownReason::DetectionTimeExpired;
    let expected = [
        Notice::BfdDown { attachment: CORE[0], peer, reason },
        Notice::GroupsRewritten { vrf: VRFS[0], attachment: CORE[0], next_hop: peer, groups: 1 },
    ];
    assert_eq!(pair.msee.notices(), expected);
    let [dead, living] = GATEWAY_MACS;
    assert!(before.contains(&dead) && before.contains(&living));
    assert!(pair.msee.gateways_of(0..64).iter().all(|gateway| *gateway == living));
    assert_eq!(pair.msee.send_ce(1, &site_to_vm()).len(), 1, "the other circuit has no session");

    pair.cut = false;
    pair.run_for(Duration::from_secs(5));
    assert_eq!(pair.msee.notices(), [Notice::BfdUp { attachment: CORE[0], peer }]);
    assert_eq!(pair.msee.gateways_of(0..64), before, "each flow is back where it was");
}

fn uses_first(pair: &mut Pair) -> bool {
    pair.msee.gateways_of(0..64).contains(&GATEWAY_MACS[0])
}

#[test]
fn a_session_taken_out_of_service_kills_nothing() {
    let mut pair = Pair::up();
    let now = pair.gateway.now;
    pair.gateway.forwarding.set_bfd_admin_down(CORE[0], core_address(), true, now);
    pair.run_for(Duration::from_secs(2));
    let reason = BfdDownReason::NeighborAdminDown;
    let down = Notice::BfdDown { attachment: CORE[0], peer: GATEWAYS[0].into(), reason };
    assert_eq!(pair.msee.notices(), [down]);
    assert!(uses_first(&mut pair));
}

#[test]
fn a_session_that_never_was_up_kills_nothing() {
    let mut pair = Pair::new();
    pair.cut = true;
    pair.run_for(Duration::from_secs(5));
    assert_eq!(pair.msee.notices(), []);
    assert!(uses_first(&mut pair));
}

#[test]
fn removing_the_session_revives_the_path() {
    let mut pair = Pair::up();
    pair.cut = true;
    pair.run_for(Duration::from_secs(1));
    assert!(!uses_first(&mut pair));
    pair.msee.apply(&[session(GATEWAYS[0].into(), None)]);
    assert!(uses_first(&mut pair));
}

/// Carrier back does not overrule BFD; BFD up does.
#[test]
fn a_returning_carrier_waits_for_bfd() {
    let mut pair = Pair::up();
    pair.cut = true;
    pair.msee.forwarding.carrier(CORE_PORT, false);
    pair.run_for(Duration::from_millis(200));
    pair.msee.forwarding.carrier(CORE_PORT, true);
    assert!(uses_first(&mut pair), "shorter than the detection time");
    pair.msee.forwarding.carrier(CORE_PORT, false);
    pair.run_for(Duration::from_secs(2));
    pair.msee.forwarding.carrier(CORE_PORT, true);
    assert!(!uses_first(&mut pair));
    pair.cut = false;
    pair.run_for(Duration::from_secs(5));
    assert!(uses_first(&mut pair));
}

/// Control has heard of the failure when it takes the next hop out; a peer that comes back without
/// BFD is not cut off for ever.
#[test]
fn a_next_hop_that_control_gave_up_and_learned_again_is_used() {
    let mut pair = Pair::up();
    pair.cut = true;
    pair.run_for(Duration::from_secs(1));
    let both = [member(CORE[0], GATEWAYS[0], 0), member(CORE[0], GATEWAYS[1], 1)];
    pair.msee.apply(&[group(VRFS[0], TO_VNET, &both[1..]), group(VRFS[0], TO_VNET, &both)]);
    assert!(!uses_first(&mut pair), "within one batch it was never given up");
    pair.msee.apply(&[group(VRFS[0], TO_VNET, &both[1..])]);
    pair.msee.apply(&[group(VRFS[0], TO_VNET, &both)]);
    assert!(uses_first(&mut pair));
}

/// A BFD packet of one circuit never moves a session of another (F-05).
#[test]
fn bfd_from_another_attachment_is_refused() {
    let mut pair = Pair::up();
    pair.run_for(Duration::from_secs(1));
    pair.gateway.forwarding.handle_timeout(pair.gateway.now, &mut pair.gateway.pool);
    pair.gateway.now += Duration::from_secs(1);
    pair.gateway.forwarding.handle_timeout(pair.gateway.now, &mut pair.gateway.pool);
    let (port, _, bytes) = pair.gateway.sent().remove(0);
    pair.msee.send(port, Some(1001), &bytes);
    assert_eq!(pair.msee.dropped(DropReason::BfdRefused), 1);
}

#[test]
fn a_large_burst_is_taken_in_batches_and_the_ledger_holds() {
    let mut rig = Rig::new();
    let bytes = ce_frame(0, &site_to_vm());
    let frames: Vec<_> = (0..200).map(|_| rig.pool.allocate_from(&bytes).unwrap()).collect();
    rig.forwarding.receive(CE_PORT, frames, &mut rig.pool, rig.now);
    assert_eq!(rig.forwarding.ledger().queued, 200);
    assert!(rig.forwarding.ledger().holds());
    assert_eq!(rig.sent().len(), 200);
}

fn valid_frames() -> Vec<(PortIndex, Option<u32>, Vec<u8>)> {
    let payload = udp_payload(CE_PEER.into(), OURS.into(), (49_152, bfd::PORT), bfd::LEN);
    let solicit = ip6(v6("fe80::1"), OURS6, 255, protocol::ICMPV6, &[135, 0, 0, 0]);
    let to_core = frame(port_mac(CORE_PORT), mac(2, 0), &[], &udp4(VM, SITE_HOST, 9, 1, 9));
    vec![
        (CE_PORT, None, ce_frame(0, &site_to_vm())),
        (CE_PORT, None, ce_frame(1, &ip6(OURS6, v6("fd00:2::4"), 9, 17, &[0; 20]))),
        (CE_PORT, None, ce_frame(0, &ip4(CE_PEER, OURS, 255, protocol::UDP, &payload))),
        (CE_PORT, None, ce_frame(0, &solicit)),
        (CE_PORT, None, framed(port_mac(CE_PORT), mac(1, 0), &[2, 100], 0x0806, &[0; 28])),
        (CORE_PORT, Some(1000), to_core),
        (LEFT_PORT, None, framed(mac(1, 1), mac(2, 2), &[10], 0x0800, &site_to_vm())),
        (RIGHT_PORT, None, framed(mac(1, 1), mac(2, 2), &[7, 8], 0x86dd, &solicit)),
    ]
}

proptest! {
    /// `Rig::sent` checks the ledger and the pool.
    #[test]
    fn no_frame_panics_or_is_lost(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        port in 0_u16..6,
        vni in proptest::option::of(998_u32..1004),
    ) {
        Rig::new().send(PortIndex(port), vni, &bytes);
    }

    #[test]
    fn no_mutation_of_a_valid_frame_panics_or_is_lost(
        which in 0_usize..8,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut rig = Rig::new();
        let (port, vni, mut bytes) = valid_frames().remove(which);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let keep = cut.map_or(bytes.len(), |cut| cut.index(bytes.len()));
        for (out, _, _) in rig.send(port, vni, &bytes[..keep]) {
            // A circuit's frames leave by a circuit's ports, a cross-connect's by its own.
            prop_assert_eq!(out.0 < 2, port.0 < 2);
        }
    }
}

//! Whole frames against etherparse, which shares no code with this module: what is emitted here is
//! read there with the same fields and right checksums, and the other way round. Below are the
//! strategies that the tests of all protocols use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::icmpv4::{self as other_icmpv4, DestUnreachableHeader};
use etherparse::{
    EtherType, IcmpEchoHeader, Icmpv4Type, Icmpv6Type, IpDscp, IpHeaders, IpNumber, Ipv4Header,
    Ipv6FlowLabel, Ipv6Header, LinkSlice, NetSlice, PacketBuilder, PacketBuilderStep, SlicedPacket,
    TcpHeader, TransportSlice, VlanId, icmpv6 as other_icmpv6,
};
use proptest::prelude::*;

use super::{MacAddr, ethernet, ethertype, icmp, icmpv6, ipv4, ipv6, protocol, tcp, udp, vlan};

/// What is around a transport header: everything up to the addresses.
#[derive(Clone, Copy, Debug)]
struct Envelope {
    destination_mac: MacAddr,
    source_mac: MacAddr,
    outer: u16,
    inner: u16,
    source: IpAddr,
    destination: IpAddr,
    hops: u8,
    dscp: u8,
    identification: u16,
    dont_fragment: bool,
}

proptest! {
    #[test]
    fn emitted_udp_is_read_by_etherparse(
        envelope in envelope(), ports: (u16, u16), payload: Vec<u8>,
    ) {
        let (source, destination) = (envelope.source, envelope.destination);
        let (source_port, destination_port) = ports;
        let repr = udp::Repr { source_port, destination_port, payload_len: payload.len() };
        let mut datagram = vec![0xee; repr.buffer_len()];
        repr.emit(source, destination, &payload, &mut datagram);
        let frame = envelope.emit(protocol::UDP, &datagram);
        let transport = envelope.check(&frame, protocol::UDP);
        let TransportSlice::Udp(other) = transport else { panic!("UDP") };
        prop_assert_eq!((other.source_port(), other.destination_port()), ports);
        prop_assert_eq!(other.payload(), &payload);
        let header = other.to_header();
        let checksum = match (source, destination) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                header.calc_checksum_ipv4_raw(from.octets(), to.octets(), &payload)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                header.calc_checksum_ipv6_raw(from.octets(), to.octets(), &payload)
            }
            _ => unreachable!(),
        };
        prop_assert_eq!(other.checksum(), checksum.unwrap());
    }

    #[test]
    fn emitted_tcp_is_read_by_etherparse(
        envelope in envelope(), ports: (u16, u16), numbers: (u32, u32), words: (u16, u16),
        flags: u8, options in prop::collection::vec(any::<u8>(), 0..=40), payload: Vec<u8>,
    ) {
        let (source, destination) = (envelope.source, envelope.destination);
        let repr = tcp::Repr {
            source_port: ports.0,
            destination_port: ports.1,
            sequence: numbers.0,
            acknowledgement: numbers.1,
            flags: tcp::Flags(flags),
            window: words.0,
            urgent: words.1,
            options: &options,
            payload_len: payload.len(),
        };
        let mut segment = vec![0xee; repr.buffer_len()];
        repr.emit(source, destination, &payload, &mut segment);
        let frame = envelope.emit(protocol::TCP, &segment);
        let transport = envelope.check(&frame, protocol::TCP);
        let TransportSlice::Tcp(other) = transport else { panic!("TCP") };
        prop_assert_eq!((other.source_port(), other.destination_port()), ports);
        prop_assert_eq!((other.sequence_number(), other.acknowledgment_number()), numbers);
        prop_assert_eq!((other.window_size(), other.urgent_pointer()), words);
        for (flag, set) in flag_pairs(&other.to_header()) {
            prop_assert_eq!(repr.flags.contains(flag), set);
        }
        prop_assert_eq!(&other.options()[..options.len()], options);
        prop_assert_eq!(other.payload(), payload);
        let checksum = match (source, destination) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                other.calc_checksum_ipv4(from.octets(), to.octets())
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                other.calc_checksum_ipv6(from.octets(), to.octets())
            }
            _ => unreachable!(),
        };
        prop_assert_eq!(other.checksum(), checksum.unwrap());
    }

    #[test]
    fn emitted_icmp_is_read_by_etherparse(
        envelope in envelope4(), ident: u16, sequence: u16, data: Vec<u8>,
    ) {
        for (repr, kind) in icmp_messages(ident, sequence, &data) {
            let mut message = vec![0xee; repr.buffer_len()];
            repr.emit(&mut message);
            let frame = envelope.emit(protocol::ICMP, &message);
            let transport = envelope.check(&frame, protocol::ICMP);
            let TransportSlice::Icmpv4(other) = transport else { panic!("ICMP") };
            prop_assert_eq!(other.payload(), &data);
            prop_assert_eq!(other.checksum(), kind.calc_checksum(&data));
            prop_assert_eq!(other.icmp_type(), kind);
        }
    }

    #[test]
    fn emitted_icmpv6_is_read_by_etherparse(
        (envelope, from, to) in envelope6(), ident: u16, sequence: u16, data: Vec<u8>,
    ) {
        for (repr, kind) in icmpv6_messages(ident, sequence, &data) {
            let mut message = vec![0xee; repr.buffer_len()];
            repr.emit(from, to, &mut message);
            let frame = envelope.emit(protocol::ICMPV6, &message);
            let transport = envelope.check(&frame, protocol::ICMPV6);
            let TransportSlice::Icmpv6(other) = transport else { panic!("ICMPv6") };
            prop_assert_eq!(other.payload(), &data);
            prop_assert!(other.is_checksum_valid(from.octets(), to.octets()));
            prop_assert_eq!(other.icmp_type(), kind);
        }
    }

    #[test]
    fn udp_of_etherparse_is_read(envelope in envelope(), ports: (u16, u16), payload: Vec<u8>) {
        let mut frame = Vec::new();
        envelope.builder().udp(ports.0, ports.1).write(&mut frame, &payload).unwrap();
        let datagram = envelope.open(&frame, protocol::UDP);
        let view = udp::View::new(datagram).unwrap();
        prop_assert!(view.verify_checksum(envelope.source, envelope.destination));
        prop_assert_eq!((view.source_port(), view.destination_port()), ports);
        prop_assert_eq!(view.payload(), payload);
    }

    #[test]
    fn tcp_of_etherparse_is_read(
        envelope in envelope(), ports: (u16, u16), numbers: (u32, u32), window: u16,
        flags: [bool; 6], options in prop::collection::vec(any::<u8>(), 0..=40), payload: Vec<u8>,
    ) {
        let mut other = TcpHeader::new(ports.0, ports.1, numbers.0, window);
        other.acknowledgment_number = numbers.1;
        [other.fin, other.syn, other.rst, other.psh, other.ack, other.urg] = flags;
        other.set_options_raw(&options).unwrap();
        let mut frame = Vec::new();
        envelope.builder().tcp_header(other.clone()).write(&mut frame, &payload).unwrap();
        let view = tcp::View::new(envelope.open(&frame, protocol::TCP)).unwrap();
        prop_assert!(view.verify_checksum(envelope.source, envelope.destination));
        prop_assert_eq!((view.source_port(), view.destination_port()), ports);
        prop_assert_eq!((view.sequence(), view.acknowledgement()), numbers);
        prop_assert_eq!(view.window(), window);
        for (flag, set) in flag_pairs(&other) {
            prop_assert_eq!(view.flags().contains(flag), set);
        }
        prop_assert_eq!(view.option_bytes(), other.options.as_slice());
        prop_assert_eq!(view.payload(), payload);
    }

    #[test]
    fn icmp_of_etherparse_is_read(
        envelope in envelope4(), ident: u16, sequence: u16, data: Vec<u8>,
    ) {
        for (repr, kind) in icmp_messages(ident, sequence, &data) {
            let mut frame = Vec::new();
            envelope.builder().icmpv4(kind).write(&mut frame, &data).unwrap();
            let view = icmp::View::new(envelope.open(&frame, protocol::ICMP)).unwrap();
            prop_assert_eq!(icmp::Repr::parse(&view), Ok(repr));
        }
    }

    #[test]
    fn icmpv6_of_etherparse_is_read(
        (envelope, from, to) in envelope6(), ident: u16, sequence: u16, data: Vec<u8>,
    ) {
        for (repr, kind) in icmpv6_messages(ident, sequence, &data) {
            let mut frame = Vec::new();
            envelope.builder().icmpv6(kind).write(&mut frame, &data).unwrap();
            let view = icmpv6::View::new(envelope.open(&frame, protocol::ICMPV6)).unwrap();
            prop_assert!(view.verify_checksum(from, to));
            prop_assert_eq!(icmpv6::Repr::parse(&view), Ok(repr));
        }
    }
}

impl Envelope {
    /// A frame of ours: tags pushed in front of Ethernet and IP.
    fn emit(&self, protocol: u8, transport: &[u8]) -> Vec<u8> {
        let mut packet = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = vec![0xee; ipv4::MIN_HEADER_LEN];
                let repr = ipv4::Repr {
                    source,
                    destination,
                    protocol,
                    ttl: self.hops,
                    dscp: self.dscp,
                    identification: self.identification,
                    dont_fragment: self.dont_fragment,
                    payload_len: transport.len(),
                };
                repr.emit(&mut header);
                header
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut header = vec![0xee; ipv6::HEADER_LEN];
                let repr = ipv6::Repr {
                    source,
                    destination,
                    next_header: protocol,
                    hop_limit: self.hops,
                    traffic_class: self.dscp << 2,
                    payload_len: transport.len(),
                };
                repr.emit(&mut header);
                header
            }
            _ => unreachable!("both addresses are of one family"),
        };
        packet.extend_from_slice(transport);

        let untagged = 2 * vlan::TAG_LEN;
        let mut frame = vec![0xee; untagged + ethernet::HEADER_LEN];
        let repr = ethernet::Repr {
            destination: self.destination_mac,
            source: self.source_mac,
            ethertype: self.ethertype(),
        };
        repr.emit(&mut frame[untagged..]);
        frame.extend(packet);
        vlan::push(&mut frame[vlan::TAG_LEN..], self.inner);
        vlan::push(&mut frame, self.outer);
        frame
    }

    /// Reads a frame of ours with etherparse and compares all up to the transport header.
    fn check<'a>(&self, frame: &'a [u8], protocol: u8) -> TransportSlice<'a> {
        let sliced = SlicedPacket::from_ethernet(frame).unwrap();
        let Some(LinkSlice::Ethernet2(link)) = &sliced.link else { panic!("Ethernet") };
        assert_eq!(link.destination(), self.destination_mac.0);
        assert_eq!(link.source(), self.source_mac.0);
        assert_eq!(link.ether_type(), EtherType::VLAN_TAGGED_FRAME);
        let tags: Vec<_> = sliced.vlan_ids().iter().map(|tag| tag.value()).collect();
        assert_eq!(tags, [self.outer, self.inner]);
        match sliced.net.expect("a network header") {
            NetSlice::Ipv4(net) => {
                let header = net.header().to_header();
                assert_eq!(IpAddr::from(header.source), self.source);
                assert_eq!(IpAddr::from(header.destination), self.destination);
                assert_eq!((header.protocol.0, header.time_to_live), (protocol, self.hops));
                assert_eq!((header.dscp.value(), header.ecn.value()), (self.dscp, 0));
                assert_eq!(header.identification, self.identification);
                assert_eq!(header.dont_fragment, self.dont_fragment);
                assert!(!header.is_fragmenting_payload());
                assert_eq!(header.header_checksum, header.calc_header_checksum());
            }
            NetSlice::Ipv6(net) => {
                let header = net.header().to_header();
                assert_eq!(IpAddr::from(header.source), self.source);
                assert_eq!(IpAddr::from(header.destination), self.destination);
                assert_eq!((header.next_header.0, header.hop_limit), (protocol, self.hops));
                assert_eq!(header.traffic_class, self.dscp << 2);
                assert_eq!(header.flow_label, Ipv6FlowLabel::ZERO);
            }
            NetSlice::Arp(_) => panic!("IP"),
        }
        sliced.transport.expect("a transport header")
    }

    /// The same frame as etherparse makes it. Its outer tag is an 802.1ad one.
    fn builder(&self) -> PacketBuilderStep<IpHeaders> {
        let tag = |vlan| VlanId::try_new(vlan).unwrap();
        let ip = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let (source, destination) = (source.octets(), destination.octets());
                let mut header =
                    Ipv4Header::new(0, self.hops, IpNumber(0), source, destination).unwrap();
                header.dscp = IpDscp::try_new(self.dscp).unwrap();
                header.identification = self.identification;
                header.dont_fragment = self.dont_fragment;
                IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let header = Ipv6Header {
                    traffic_class: self.dscp << 2,
                    hop_limit: self.hops,
                    source: source.octets(),
                    destination: destination.octets(),
                    ..Ipv6Header::default()
                };
                IpHeaders::Ipv6(header, etherparse::Ipv6Extensions::default())
            }
            _ => unreachable!("both addresses are of one family"),
        };
        PacketBuilder::ethernet2(self.source_mac.0, self.destination_mac.0)
            .double_vlan(tag(self.outer), tag(self.inner))
            .ip(ip)
    }

    /// Reads a frame of etherparse, compares all up to the transport header and returns that.
    fn open<'a>(&self, frame: &'a [u8], protocol: u8) -> &'a [u8] {
        let link = ethernet::View::new(frame).unwrap();
        assert_eq!(link.destination(), self.destination_mac);
        assert_eq!(link.source(), self.source_mac);
        assert_eq!(link.ethertype(), ethertype::QINQ);
        let tags = vlan::Tags::parse(frame).unwrap();
        assert_eq!((tags.outer, tags.inner), (Some(self.outer), Some(self.inner)));
        assert_eq!(tags.ethertype, self.ethertype());
        let packet = &frame[tags.payload_offset..];
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let view = ipv4::View::new(packet).unwrap();
                let expected = ipv4::Repr {
                    source,
                    destination,
                    protocol,
                    ttl: self.hops,
                    dscp: self.dscp,
                    identification: self.identification,
                    dont_fragment: self.dont_fragment,
                    payload_len: packet.len() - ipv4::MIN_HEADER_LEN,
                };
                assert_eq!(ipv4::Repr::parse(&view), Ok(expected));
                view.payload()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let view = ipv6::View::new(packet).unwrap();
                let expected = ipv6::Repr {
                    source,
                    destination,
                    next_header: protocol,
                    hop_limit: self.hops,
                    traffic_class: self.dscp << 2,
                    payload_len: packet.len() - ipv6::HEADER_LEN,
                };
                assert_eq!(ipv6::Repr::parse(&view), Ok(expected));
                view.payload()
            }
            _ => unreachable!("both addresses are of one family"),
        }
    }

    fn ethertype(&self) -> u16 {
        if self.source.is_ipv4() { ethertype::IPV4 } else { ethertype::IPV6 }
    }
}

fn flag_pairs(header: &TcpHeader) -> [(tcp::Flags, bool); 6] {
    [
        (tcp::Flags::FIN, header.fin),
        (tcp::Flags::SYN, header.syn),
        (tcp::Flags::RST, header.rst),
        (tcp::Flags::PSH, header.psh),
        (tcp::Flags::ACK, header.ack),
        (tcp::Flags::URG, header.urg),
    ]
}

/// Every message with its name in etherparse.
fn icmp_messages(ident: u16, sequence: u16, data: &[u8]) -> [(icmp::Repr<'_>, Icmpv4Type); 5] {
    use Icmpv4Type as Other;
    use icmp::Repr;

    let echo = IcmpEchoHeader { id: ident, seq: sequence };
    let too_large = DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: sequence };
    let time = other_icmpv4::TimeExceededCode::TtlExceededInTransit;
    let host = icmp::unreachable::HOST;
    [
        (Repr::EchoRequest { ident, sequence, data }, Other::EchoRequest(echo)),
        (Repr::EchoReply { ident, sequence, data }, Other::EchoReply(echo)),
        (Repr::TimeExceeded { original: data }, Other::TimeExceeded(time)),
        (
            Repr::DestinationUnreachable { code: host, original: data },
            Other::DestinationUnreachable(DestUnreachableHeader::Host),
        ),
        (
            Repr::FragmentationNeeded { mtu: sequence, original: data },
            Other::DestinationUnreachable(too_large),
        ),
    ]
}

/// Every message with its name in etherparse.
fn icmpv6_messages(ident: u16, sequence: u16, data: &[u8]) -> [(icmpv6::Repr<'_>, Icmpv6Type); 5] {
    use Icmpv6Type as Other;
    use icmpv6::Repr;

    let echo = IcmpEchoHeader { id: ident, seq: sequence };
    let mtu = u32::from(ident) << 16 | u32::from(sequence);
    let time = other_icmpv6::TimeExceededCode::HopLimitExceeded;
    let address = icmpv6::unreachable::ADDRESS;
    [
        (Repr::EchoRequest { ident, sequence, data }, Other::EchoRequest(echo)),
        (Repr::EchoReply { ident, sequence, data }, Other::EchoReply(echo)),
        (Repr::TimeExceeded { original: data }, Other::TimeExceeded(time)),
        (
            Repr::DestinationUnreachable { code: address, original: data },
            Other::DestinationUnreachable(other_icmpv6::DestUnreachableCode::Address),
        ),
        (Repr::PacketTooBig { mtu, original: data }, Other::PacketTooBig { mtu }),
    ]
}

fn envelope4() -> impl Strategy<Value = Envelope> {
    (envelope(), any::<(Ipv4Addr, Ipv4Addr)>()).prop_map(|(envelope, (from, to))| Envelope {
        source: from.into(),
        destination: to.into(),
        ..envelope
    })
}

fn envelope6() -> impl Strategy<Value = (Envelope, Ipv6Addr, Ipv6Addr)> {
    (envelope(), any::<(Ipv6Addr, Ipv6Addr)>()).prop_map(|(envelope, (from, to))| {
        (Envelope { source: from.into(), destination: to.into(), ..envelope }, from, to)
    })
}

fn envelope() -> impl Strategy<Value = Envelope> {
    let numbers = (0..4096_u16, 0..4096_u16, any::<u8>(), 0..64_u8, any::<u16>(), any::<bool>());
    (mac(), mac(), addresses(), numbers).prop_map(
        |(destination_mac, source_mac, (source, destination), numbers)| Envelope {
            destination_mac,
            source_mac,
            outer: numbers.0,
            inner: numbers.1,
            source,
            destination,
            hops: numbers.2,
            dscp: numbers.3,
            identification: numbers.4,
            dont_fragment: numbers.5,
        },
    )
}

pub(super) fn mac() -> impl Strategy<Value = MacAddr> {
    any::<[u8; 6]>().prop_map(MacAddr)
}

/// Source and destination of one family.
pub(super) fn addresses() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    prop_oneof![
        any::<(Ipv4Addr, Ipv4Addr)>().prop_map(|(from, to)| (from.into(), to.into())),
        any::<(Ipv6Addr, Ipv6Addr)>().prop_map(|(from, to)| (from.into(), to.into())),
    ]
}

/// Random bytes, or `valid` with a few bytes changed, cut short or continued.
pub(super) fn hostile(valid: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..4);
    let len = 0..valid.len() * 2;
    let damaged = (changes, any::<bool>(), len).prop_map(move |(changes, whole, len)| {
        let mut bytes = valid.clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.resize(if whole { bytes.len() } else { len }, 0);
        bytes
    });
    prop_oneof![3 => damaged, 1 => any::<Vec<u8>>()]
}

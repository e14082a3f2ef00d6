//! ICMP and ICMPv6 of the router's own: answers to echo requests, and errors about packets that
//! cannot be forwarded or that nobody here takes.
//!
//! One [`Responder`] for each attachment, so that a flood on one takes nothing from another. What
//! an error may be about is decided by RFC 1122, 3.2.2, RFC 1812, 4.3.2.7, and RFC 4443, 2.4 (e).
//! Errors come from our address on the attachment the packet came in by: that is what a traceroute
//! shows (F-78).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::model::{Instant, PuntClass, Punted};
use crate::wire::{icmp, icmpv6, ipv4, ipv6, protocol};

/// Time that one answer costs: 100 answers a second.
const ANSWER_INTERVAL: Duration = Duration::from_millis(10);

/// Answers that may follow one another at once.
const ANSWER_BURST: u32 = 100;

/// TTL or hop limit of what is sent from here.
const HOP_LIMIT: u8 = 255;

/// Errors are sent with precedence 6 (RFC 1812, 4.3.2.5): DSCP CS6.
const ERROR_DSCP: u8 = 48;

/// Answers for one attachment, at most 100 a second.
#[derive(Clone, Debug, Default)]
pub struct Responder {
    /// When all that was answered is paid for.
    paid_at: Instant,
    suppressed: u64,
}

impl Responder {
    /// The IP packet that answers `punted`, to go out by the attachment it came from; `None` when
    /// nothing is to be answered. `our` are the router's addresses on that attachment.
    pub fn answer(&mut self, punted: &Punted, our: &[IpAddr], now: Instant) -> Option<Vec<u8>> {
        let answer = answer(punted, our)?;
        if self.conforms(now) {
            return Some(answer);
        }
        self.suppressed += 1;
        None
    }

    /// Answers that the rate limit has kept back.
    pub fn suppressed(&self) -> u64 {
        self.suppressed
    }

    fn conforms(&mut self, now: Instant) -> bool {
        let paid_at = self.paid_at.max(now) + ANSWER_INTERVAL;
        let conforms = paid_at <= now + ANSWER_INTERVAL * ANSWER_BURST;
        if conforms {
            self.paid_at = paid_at;
        }
        conforms
    }
}

/// As [`Responder::answer`], without a limit.
pub fn answer(punted: &Punted, our: &[IpAddr]) -> Option<Vec<u8>> {
    match punted.packet.first()? >> 4 {
        4 => answer_v4(punted.class, &ipv4::View::new(&punted.packet).ok()?, &punted.packet, our),
        6 => answer_v6(punted.class, &ipv6::View::new(&punted.packet).ok()?, &punted.packet, our),
        _ => None,
    }
}

fn answer_v4(
    class: PuntClass,
    packet: &ipv4::View<'_>,
    octets: &[u8],
    our: &[IpAddr],
) -> Option<Vec<u8>> {
    let to_us = our.contains(&packet.destination().into());
    let original = icmp::original(&octets[..packet.total_len()]);
    let error = match class {
        PuntClass::Local if to_us && packet.is_fragment() => return None,
        PuntClass::Local if to_us && packet.protocol() == protocol::ICMP => {
            return echo_v4(packet);
        }
        PuntClass::Local if to_us && packet.protocol() == protocol::UDP => {
            icmp::Repr::DestinationUnreachable { code: icmp::unreachable::PORT, original }
        }
        PuntClass::TtlExpired => icmp::Repr::TimeExceeded { original },
        PuntClass::TooLarge { mtu } if packet.dont_fragment() => {
            icmp::Repr::FragmentationNeeded { mtu, original }
        }
        PuntClass::TooLarge { .. }
        | PuntClass::Local
        | PuntClass::Arp
        | PuntClass::Ndp
        | PuntClass::Tcp
        | PuntClass::Glean { .. } => return None,
    };
    if !deserves_error_v4(packet) {
        return None;
    }
    let source = if to_us { packet.destination() } else { first_v4(our)? };
    Some(emit_v4(source, packet.source(), ERROR_DSCP, &error))
}

fn answer_v6(
    class: PuntClass,
    packet: &ipv6::View<'_>,
    octets: &[u8],
    our: &[IpAddr],
) -> Option<Vec<u8>> {
    let to_us = our.contains(&packet.destination().into());
    let original = icmpv6::original(&octets[..ipv6::HEADER_LEN + packet.payload_len()]);
    let error = match class {
        PuntClass::Local if to_us && packet.next_header() == protocol::ICMPV6 => {
            return echo_v6(packet);
        }
        PuntClass::Local if to_us && packet.next_header() == protocol::UDP => {
            icmpv6::Repr::DestinationUnreachable { code: icmpv6::unreachable::PORT, original }
        }
        PuntClass::TtlExpired => icmpv6::Repr::TimeExceeded { original },
        PuntClass::TooLarge { mtu } => icmpv6::Repr::PacketTooBig { mtu: mtu.into(), original },
        PuntClass::Local
        | PuntClass::Arp
        | PuntClass::Ndp
        | PuntClass::Tcp
        | PuntClass::Glean { .. } => return None,
    };
    if !deserves_error_v6(packet) {
        return None;
    }
    let source = if to_us { packet.destination() } else { source_v6(our, packet.source())? };
    Some(emit_v6(source, packet.source(), ERROR_DSCP << 2, &error))
}

/// An echo reply comes from the address that was asked and keeps the DSCP of the request (RFC
/// 1812, 4.3.2.5 and 4.3.3.6).
fn echo_v4(packet: &ipv4::View<'_>) -> Option<Vec<u8>> {
    let message = icmp::View::new(packet.payload()).ok()?;
    let icmp::Repr::EchoRequest { ident, sequence, data } = icmp::Repr::parse(&message).ok()?
    else {
        return None;
    };
    let reply = icmp::Repr::EchoReply { ident, sequence, data };
    let answerable = is_single_v4(packet.source());
    answerable.then(|| emit_v4(packet.destination(), packet.source(), packet.dscp(), &reply))
}

fn echo_v6(packet: &ipv6::View<'_>) -> Option<Vec<u8>> {
    let message = icmpv6::View::new(packet.payload()).ok()?;
    if !message.verify_checksum(packet.source(), packet.destination()) {
        return None;
    }
    let icmpv6::Repr::EchoRequest { ident, sequence, data } = icmpv6::Repr::parse(&message).ok()?
    else {
        return None;
    };
    let reply = icmpv6::Repr::EchoReply { ident, sequence, data };
    let (source, to) = (packet.destination(), packet.source());
    is_single_v6(to).then(|| emit_v6(source, to, packet.traffic_class(), &reply))
}

/// RFC 1122, 3.2.2: no error about an ICMP error, to or about a group, about a fragment other than
/// the first, or to a source that is not one host.
fn deserves_error_v4(packet: &ipv4::View<'_>) -> bool {
    packet.fragment_offset() == 0
        && is_single_v4(packet.source())
        && !packet.destination().is_multicast()
        && !packet.destination().is_broadcast()
        && (packet.protocol() != protocol::ICMP || asks_v4(packet.payload()))
}

/// RFC 4443, 2.4 (e). Packets to groups are not forwarded, so its exceptions for them do not arise.
fn deserves_error_v6(packet: &ipv6::View<'_>) -> bool {
    is_single_v6(packet.source())
        && !packet.destination().is_multicast()
        && match innermost(packet) {
            None => false,
            Some((protocol::ICMPV6, message)) => asks_v6(message),
            Some(_) => true,
        }
}

/// Echo, timestamp or another query: any ICMP but an error (RFC 1122, 3.2.2).
fn asks_v4(message: &[u8]) -> bool {
    const ERRORS: [u8; 5] = [3, 4, 5, 11, 12];
    message.first().is_some_and(|kind| !ERRORS.contains(kind))
}

/// Informational ICMPv6 other than a redirect (RFC 4443, 2.4 e.1 and e.2).
fn asks_v6(message: &[u8]) -> bool {
    const REDIRECT: u8 = 137;
    message.first().is_some_and(|kind| *kind >= 128 && *kind != REDIRECT)
}

/// The upper-layer protocol and its bytes, behind any extension headers; `None` when the packet is
/// a fragment other than the first or ends within its headers.
fn innermost<'a>(packet: &ipv6::View<'a>) -> Option<(u8, &'a [u8])> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION_OPTIONS: u8 = 60;
    let (mut next, mut rest) = (packet.next_header(), packet.payload());
    loop {
        let len = match next {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => 8 + usize::from(*rest.get(1)?) * 8,
            FRAGMENT if *rest.get(2)? == 0 && *rest.get(3)? < 8 => 8,
            FRAGMENT => return None,
            _ => return Some((next, rest)),
        };
        next = *rest.first()?;
        rest = rest.get(len..)?;
    }
}

/// An address that one host can have.
fn is_single_v4(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    (1..=223).contains(&first) && !address.is_loopback()
}

fn is_single_v6(address: Ipv6Addr) -> bool {
    !address.is_unspecified() && !address.is_multicast() && !address.is_loopback()
}

fn first_v4(our: &[IpAddr]) -> Option<Ipv4Addr> {
    our.iter().find_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    })
}

/// Our address of the scope that `to` can answer; a global one serves for both.
fn source_v6(our: &[IpAddr], to: Ipv6Addr) -> Option<Ipv6Addr> {
    let ours = || {
        our.iter().filter_map(|address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(*address),
        })
    };
    let same_scope =
        |address: &Ipv6Addr| address.is_unicast_link_local() == to.is_unicast_link_local();
    ours().find(same_scope).or_else(|| ours().find(|address| !address.is_unicast_link_local()))
}

fn emit_v4(source: Ipv4Addr, to: Ipv4Addr, dscp: u8, message: &icmp::Repr<'_>) -> Vec<u8> {
    let header = ipv4::Repr {
        source,
        destination: to,
        protocol: protocol::ICMP,
        ttl: HOP_LIMIT,
        dscp,
        identification: 0,
        dont_fragment: false,
        payload_len: message.buffer_len(),
    };
    let mut packet = vec![0; header.buffer_len() + message.buffer_len()];
    header.emit(&mut packet);
    message.emit(&mut packet[header.buffer_len()..]);
    packet
}

fn emit_v6(source: Ipv6Addr, to: Ipv6Addr, class: u8, message: &icmpv6::Repr<'_>) -> Vec<u8> {
    let header = ipv6::Repr {
        source,
        destination: to,
        next_header: protocol::ICMPV6,
        hop_limit: HOP_LIMIT,
        traffic_class: class,
        payload_len: message.buffer_len(),
    };
    let mut packet = vec![0; header.buffer_len() + message.buffer_len()];
    header.emit(&mut packet);
    message.emit(source, to, &mut packet[header.buffer_len()..]);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AttachmentIndex;
    use crate::wire::{MacAddr, checksum};

    const OUR_V4: &str = "172.16.0.2";
    const OUR_V6: &str = "fd00::2";

    /// Source, destination, protocol and payload of a packet, and type and code of the answer.
    type Case<'a> = (PuntClass, &'a str, &'a str, u8, &'a [u8], Option<(u8, u8)>);

    #[test]
    fn errors_and_replies_by_class() {
        let [v4, v6] = ["10.1.0.5", "fd01::5"];
        let echo_v4: &[u8] = &message_v4(8);
        let echo_v6: &[u8] = &message_v6(128, v6, OUR_V6);
        let udp: &[u8] = &[0; 8];
        let big = PuntClass::TooLarge { mtu: 1400 };
        let local = PuntClass::Local;
        let ttl = PuntClass::TtlExpired;
        let [far_v4, far_v6] = ["10.9.9.9", "fd09::9"];
        let glean = PuntClass::Glean { egress: AttachmentIndex(1), next_hop: ip(far_v4) };
        let cases: &[Case] = &[
            // Echo of our addresses, and of no other.
            (local, v4, OUR_V4, 1, echo_v4, Some((0, 0))),
            (local, v6, OUR_V6, 58, echo_v6, Some((129, 0))),
            (local, v4, "224.0.0.1", 1, echo_v4, None),
            (local, v4, far_v4, 1, echo_v4, None),
            (local, "0.0.0.0", OUR_V4, 1, echo_v4, None),
            (local, "224.0.0.5", OUR_V4, 1, echo_v4, None),
            (local, v4, OUR_V4, 1, &[8, 0, 1, 2, 3, 4, 5, 6], None),
            (local, v6, OUR_V6, 58, &[128, 0, 1, 2, 3, 4, 5, 6], None),
            (local, v4, OUR_V4, 1, &message_v4(0), None),
            (local, v6, OUR_V6, 58, &message_v6(129, v6, OUR_V6), None),
            (local, v4, OUR_V4, 1, &[8], None),
            // The last hop of a traceroute to us.
            (local, v4, OUR_V4, 17, udp, Some((3, 3))),
            (local, v6, OUR_V6, 17, udp, Some((1, 4))),
            (local, v4, OUR_V4, 47, udp, None),
            // The other hops.
            (ttl, v4, far_v4, 17, udp, Some((11, 0))),
            (ttl, v6, far_v6, 17, udp, Some((3, 0))),
            (ttl, v4, far_v4, 1, echo_v4, Some((11, 0))),
            (ttl, v6, far_v6, 58, echo_v6, Some((3, 0))),
            (ttl, v4, far_v4, 6, udp, Some((11, 0))),
            // Too large.
            (big, v4, far_v4, 17, udp, Some((3, 4))),
            (big, v6, far_v6, 17, udp, Some((2, 0))),
            // Never about an error, to or about a group, to nobody.
            (ttl, v4, far_v4, 1, &message_v4(3), None),
            (ttl, v4, far_v4, 1, &message_v4(11), None),
            (ttl, v4, far_v4, 1, &message_v4(5), None),
            (ttl, v4, far_v4, 1, &[], None),
            (ttl, v6, far_v6, 58, &message_v6(1, v6, far_v6), None),
            (ttl, v6, far_v6, 58, &message_v6(127, v6, far_v6), None),
            (ttl, v6, far_v6, 58, &message_v6(137, v6, far_v6), None),
            (ttl, v6, far_v6, 58, &[], None),
            (ttl, v4, "224.0.0.9", 17, udp, None),
            (ttl, v4, "255.255.255.255", 17, udp, None),
            (ttl, v6, "ff02::9", 17, udp, None),
            (ttl, "0.0.0.0", far_v4, 17, udp, None),
            (ttl, "127.0.0.1", far_v4, 17, udp, None),
            (ttl, "240.0.0.1", far_v4, 17, udp, None),
            (ttl, "224.1.1.1", far_v4, 17, udp, None),
            (ttl, "::", far_v6, 17, udp, None),
            (ttl, "ff02::1", far_v6, 17, udp, None),
            (big, "::", far_v6, 17, udp, None),
            (glean, v4, far_v4, 17, udp, None),
            (PuntClass::Tcp, v4, OUR_V4, 6, udp, None),
            // Behind extension headers of IPv6: an error, a later fragment, a first one.
            (ttl, v6, far_v6, 0, &[58, 0, 1, 4, 0, 0, 0, 0, 1, 0, 0, 0], None),
            (ttl, v6, far_v6, 0, &[58, 0, 1, 4, 0, 0, 0, 0, 128, 0, 0, 0], Some((3, 0))),
            (ttl, v6, far_v6, 44, &[17, 0, 0, 8, 0, 0, 0, 1, 9, 9], None),
            (ttl, v6, far_v6, 44, &[17, 0, 1, 1, 0, 0, 0, 1, 9, 9], None),
            (ttl, v6, far_v6, 44, &[17, 0, 0, 1, 0, 0, 0, 1, 9, 9], Some((3, 0))),
            (ttl, v6, far_v6, 60, &[17, 200, 0, 0], None),
        ];
        for (n, (class, source, destination, protocol, payload, expected)) in
            cases.iter().enumerate()
        {
            let punted = punt(*class, packet(source, destination, *protocol, payload));
            let answered = answer(&punted, &our());
            assert_eq!(answered.as_deref().map(kind_and_code), *expected, "case {n}");
            let Some(answered) = answered else { continue };
            let (from, to) = check(&answered);
            let ours = if ip(source).is_ipv4() { OUR_V4 } else { OUR_V6 };
            assert_eq!((from, to), (ip(ours), ip(source)), "case {n}");
        }
    }

    #[test]
    fn ipv4_fragments_and_packets_that_may_be_fragmented() {
        let mut fragment = packet("10.1.0.5", "10.9.9.9", 17, &[0; 64]);
        let mut with = |flags_and_offset: u16, class| {
            fragment[6..8].copy_from_slice(&flags_and_offset.to_be_bytes());
            answer(&punt(class, fragment.clone()), &our()).is_some()
        };
        assert!(with(0x2000, PuntClass::TtlExpired), "the first of several");
        assert!(!with(0x2008, PuntClass::TtlExpired), "one in the middle");
        assert!(!with(0x0008, PuntClass::TtlExpired), "the last");
        assert!(with(0x4000, PuntClass::TooLarge { mtu: 1400 }));
        assert!(!with(0x0000, PuntClass::TooLarge { mtu: 1400 }), "without DF there is no error");
    }

    #[test]
    fn errors_quote_as_much_as_they_may_and_no_padding() {
        for (len, padding) in [(4, 26), (100, 0), (1400, 0)] {
            let mut v4 = packet("10.1.0.5", "10.9.9.9", 17, &vec![5; len]);
            let whole = v4.len();
            v4.resize(whole + padding, 0xee);
            let error =
                answer(&punt(PuntClass::TooLarge { mtu: 1400 }, v4.clone()), &our()).unwrap();
            let quoted = whole.min(576 - 28);
            assert_eq!(error[28..], v4[..quoted]);
            assert_eq!(error[26..28], 1400_u16.to_be_bytes());

            let mut v6 = packet("fd01::5", "fd09::9", 17, &vec![5; len]);
            let whole = v6.len();
            v6.resize(whole + padding, 0xee);
            let error =
                answer(&punt(PuntClass::TooLarge { mtu: 1400 }, v6.clone()), &our()).unwrap();
            let quoted = whole.min(1280 - 48);
            assert_eq!(error[48..], v6[..quoted]);
            assert_eq!(error[44..48], 1400_u32.to_be_bytes());
        }
    }

    #[test]
    fn echo_replies_keep_data_and_dscp() {
        let mut request = packet("10.1.0.5", OUR_V4, 1, &message_v4(8));
        request[1] = 46 << 2;
        let reply = answer(&punt(PuntClass::Local, request.clone()), &our()).unwrap();
        assert_eq!(reply[1], 46 << 2);
        assert_eq!(reply[24..], request[24..], "identifier, sequence and data");
    }

    #[test]
    fn errors_to_link_local_sources_come_from_a_link_local_address() {
        let expired = packet("fe80::5", "fd09::9", 17, &[0; 8]);
        let our = [ip(OUR_V6), ip("fe80::2")];
        let error = answer(&punt(PuntClass::TtlExpired, expired.clone()), &our).unwrap();
        assert_eq!(check(&error).0, ip("fe80::2"));
        let error = answer(&punt(PuntClass::TtlExpired, expired.clone()), &our[..1]).unwrap();
        assert_eq!(check(&error).0, ip(OUR_V6));
        assert_eq!(answer(&punt(PuntClass::TtlExpired, expired), &[ip(OUR_V4)]), None);
    }

    #[test]
    fn a_hundred_answers_a_second() {
        let request = punt(PuntClass::Local, packet("10.1.0.5", OUR_V4, 1, &message_v4(8)));
        let mut responder = Responder::default();
        let mut answers_at = |ms| {
            let now = Instant::from_millis(ms);
            (0..500).filter(|_| responder.answer(&request, &our(), now).is_some()).count()
        };
        assert_eq!(answers_at(5_000), 100);
        assert_eq!(answers_at(5_009), 0);
        assert_eq!(answers_at(5_010), 1);
        assert_eq!(answers_at(5_510), 50);
        assert_eq!(answers_at(60_000), 100, "no more is saved up than one second's");
        assert_eq!(responder.suppressed(), 5 * 500 - 251);

        let unanswered = punt(PuntClass::Tcp, request.packet.clone());
        assert_eq!(responder.answer(&unanswered, &our(), Instant::from_secs(60)), None);
        assert_eq!(responder.suppressed(), 5 * 500 - 251, "what has no answer costs nothing");
    }

    proptest::proptest! {
        #[test]
        fn no_packet_panics(
            octets in proptest::collection::vec(proptest::num::u8::ANY, 0..100),
            v6: bool,
            class in 0_usize..3,
        ) {
            let mut octets = octets;
            if let Some(first) = octets.first_mut() {
                *first = if v6 { 0x60 } else { 0x45 };
            }
            let len = octets.len();
            if len > 6 {
                let (at, len) = if v6 { (4, len.saturating_sub(40)) } else { (2, len) };
                octets[at..at + 2].copy_from_slice(&(len as u16).to_be_bytes());
            }
            let classes = [PuntClass::Local, PuntClass::TtlExpired, PuntClass::TooLarge { mtu: 1400 }];
            answer(&punt(classes[class], octets), &our());
        }
    }

    fn our() -> [IpAddr; 2] {
        [ip(OUR_V4), ip(OUR_V6)]
    }

    fn punt(class: PuntClass, packet: Vec<u8>) -> Punted {
        Punted { attachment: AttachmentIndex(1), class, source: MacAddr([2; 6]), packet }
    }

    fn packet(source: &str, destination: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet;
        match (ip(source), ip(destination)) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header = ipv4::Repr {
                    source,
                    destination,
                    protocol,
                    ttl: 1,
                    dscp: 0,
                    identification: 7,
                    dont_fragment: true,
                    payload_len: payload.len(),
                };
                packet = vec![0; header.buffer_len()];
                header.emit(&mut packet);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let header = ipv6::Repr {
                    source,
                    destination,
                    next_header: protocol,
                    hop_limit: 1,
                    traffic_class: 0,
                    payload_len: payload.len(),
                };
                packet = vec![0; header.buffer_len()];
                header.emit(&mut packet);
            }
            _ => unreachable!("addresses of one family"),
        }
        packet.extend(payload);
        packet
    }

    fn message_v4(kind: u8) -> Vec<u8> {
        let mut message = vec![kind, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7];
        let sum = checksum::finish(checksum::sum(&message));
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        message
    }

    fn message_v6(kind: u8, source: &str, destination: &str) -> Vec<u8> {
        let mut message = vec![kind, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7];
        let pseudo =
            checksum::pseudo_header(ip(source), ip(destination), protocol::ICMPV6, message.len());
        let sum = checksum::finish(checksum::combine(&[pseudo, checksum::sum(&message)]));
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        message
    }

    fn kind_and_code(packet: &[u8]) -> (u8, u8) {
        let at = if packet[0] >> 4 == 4 { 20 } else { 40 };
        (packet[at], packet[at + 1])
    }

    /// Source and destination of a packet whose checksums are right.
    fn check(packet: &[u8]) -> (IpAddr, IpAddr) {
        if packet[0] >> 4 == 4 {
            let view = ipv4::View::new(packet).unwrap();
            assert!(view.verify_checksum());
            assert!(icmp::View::new(view.payload()).unwrap().verify_checksum());
            return (view.source().into(), view.destination().into());
        }
        let view = ipv6::View::new(packet).unwrap();
        let message = icmpv6::View::new(view.payload()).unwrap();
        assert!(message.verify_checksum(view.source(), view.destination()));
        (view.source().into(), view.destination().into())
    }

    fn ip(address: &str) -> IpAddr {
        address.parse().unwrap()
    }
}

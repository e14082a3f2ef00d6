//! What is in a probe, and how one is made from its flow's template.
//!
//! ```text
//!   0       4       8          12         20       28
//!   ┌───────┬───────┬──────────┬──────────┬────────┬──────────────┐
//!   │ magic │ flow  │ sequence │ sent, ns │ owner  │ pattern      │
//!   └───────┴───────┴──────────┴──────────┴────────┴──────────────┘
//! ```
//!
//! Big-endian. The owner is a hash of the sending host's full name; the pattern depends on the
//! flow, so that bytes of another flow in it are noticed.

use std::net::IpAddr;
use std::ops::Range;

use crate::io::{Frame, Frames};
use crate::model::{Instant, Random};
use crate::traffic::flow::{Flow, PROBES_MAX};
use crate::traffic::{packet, tcp};
use crate::wire;
use crate::wire::{MacAddr, checksum, ethernet, ethertype, ipv4, ipv6, protocol, udp, vlan};

mod field {
    use super::Range;

    pub(super) const MAGIC: Range<usize> = 0..4;
    pub(super) const FLOW: Range<usize> = 4..8;
    pub(super) const SEQUENCE: Range<usize> = 8..12;
    pub(super) const SENT: Range<usize> = 12..20;
    pub(super) const OWNER: Range<usize> = 20..28;
    pub(super) const PATTERN: usize = OWNER.end;
}

const MAGIC: [u8; 4] = *b"msee";
/// Of the UDP header.
const CHECKSUM: Range<usize> = 6..8;

/// A packet of a flow as somebody sees it who watches a wire: a probe, or a TCP segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sighting {
    pub flow: u32,
    /// It goes from the end of the flow to its beginning: an ACK of a TCP flow.
    pub is_reverse: bool,
    /// Outer tag of the frame.
    pub outer: Option<u16>,
}

/// The flow that a frame is of, read without checking content; `None` for any other frame. A
/// probe says it; of a TCP segment, also of a super-frame, the ports do.
pub fn sighting(frame: &[u8]) -> Option<Sighting> {
    let tags = vlan::Tags::parse(frame).ok()?;
    let packet = &frame[tags.payload_offset..];
    let (protocol, payload) = match tags.ethertype {
        ethertype::IPV4 => {
            let view = ipv4::View::new(packet).ok().filter(|view| !view.is_fragment())?;
            (view.protocol(), view.payload())
        }
        ethertype::IPV6 => {
            let view = ipv6::View::new(packet).ok()?;
            (view.next_header(), view.payload())
        }
        _ => return None,
    };
    let (flow, is_reverse) = match protocol {
        protocol::UDP => (Probe::new(payload.get(udp::HEADER_LEN..)?)?.flow(), false),
        protocol::TCP => {
            let view = wire::tcp::View::new(payload).ok()?;
            let (id, role) = tcp::conversation(view.source_port(), view.destination_port())?;
            (id, role == tcp::Role::Sender)
        }
        _ => return None,
    };
    Some(Sighting { flow, is_reverse, outer: tags.outer })
}

/// A received probe in place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe<'a>(&'a [u8]);

impl<'a> Probe<'a> {
    /// `None` when the payload is not a probe's.
    pub(super) fn new(payload: &'a [u8]) -> Option<Self> {
        let is_probe = payload.len() >= field::PATTERN && payload[field::MAGIC] == MAGIC;
        is_probe.then_some(Self(payload))
    }

    pub(super) fn flow(&self) -> u32 {
        self.u32(field::FLOW)
    }

    pub(super) fn sequence(&self) -> u32 {
        self.u32(field::SEQUENCE)
    }

    pub(super) fn sent_at(&self) -> Instant {
        Instant::from_nanos(self.u64(field::SENT))
    }

    pub(super) fn owner(&self) -> u64 {
        self.u64(field::OWNER)
    }

    pub(super) fn pattern(&self) -> &'a [u8] {
        &self.0[field::PATTERN..]
    }

    fn u32(&self, range: Range<usize>) -> u32 {
        u32::from_be_bytes(self.0[range].try_into().expect("the field has four bytes"))
    }

    fn u64(&self, range: Range<usize>) -> u64 {
        u64::from_be_bytes(self.0[range].try_into().expect("the field has eight bytes"))
    }
}

/// The hash of a host's full name (FNV-1a).
pub(super) fn owner(host: &str) -> u64 {
    host.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Bytes of the smallest IP packet that holds a probe.
pub(super) fn min_size(address: IpAddr) -> u16 {
    (ip_header_len(address) + udp::HEADER_LEN + field::PATTERN) as u16
}

/// What follows the fields in each probe of a flow.
pub(super) fn pattern(flow: &Flow) -> Vec<u8> {
    let len = flow.size.saturating_sub(min_size(flow.to.address)) as usize;
    let mut random = Random::new(flow.id.into(), "probe pattern");
    let words = std::iter::repeat_with(|| random.next_u64().to_be_bytes());
    words.take(len.div_ceil(8)).flatten().take(len).collect()
}

/// The sending side of a flow: a whole frame of which number, time and checksum change.
#[derive(Debug)]
pub(super) struct Template {
    frame: Vec<u8>,
    /// Where the UDP header begins.
    udp: usize,
    /// The sum that the checksum covers with number and time zero; both lie at even offsets, so
    /// that theirs is added.
    fixed_sum: u16,
}

impl Template {
    /// The flow has been checked: its size is enough and its addresses are of one family.
    pub(super) fn new(flow: &Flow, source: MacAddr) -> Self {
        let (from, to) = (flow.from.address, flow.to.address);
        let mut payload = vec![0; field::PATTERN];
        payload[field::MAGIC].copy_from_slice(&MAGIC);
        payload[field::FLOW].copy_from_slice(&flow.id.to_be_bytes());
        payload[field::OWNER].copy_from_slice(&owner(&flow.from.host).to_be_bytes());
        payload.extend(pattern(flow));
        let header = udp::Repr {
            source_port: flow.source_port,
            destination_port: flow.destination_port,
            payload_len: payload.len(),
        };
        let mut datagram = vec![0; header.buffer_len()];
        header.emit(from, to, &payload, &mut datagram);
        datagram[CHECKSUM].fill(0);
        let pseudo = checksum::pseudo_header(from, to, protocol::UDP, datagram.len());
        let fixed_sum = checksum::combine(&[pseudo, checksum::sum(&datagram)]);
        let packet = packet::ip(from, to, protocol::UDP, packet::TTL, &datagram);
        let ethertype = if to.is_ipv4() { ethertype::IPV4 } else { ethertype::IPV6 };
        Self {
            frame: packet::frame(MacAddr::default(), source, ethertype, &packet),
            udp: ethernet::HEADER_LEN + ip_header_len(to),
            fixed_sum,
        }
    }

    /// A probe, its destination MAC not yet filled in. `None` when no frame is free.
    pub(super) fn emit(&self, sequence: u32, now: Instant, frames: &mut Frames) -> Option<Frame> {
        let frame = frames.allocate_from(&self.frame)?;
        let (sequence, sent) = (sequence.to_be_bytes(), now.as_nanos().to_be_bytes());
        let sums = [self.fixed_sum, checksum::sum(&sequence), checksum::sum(&sent)];
        let computed = checksum::finish(checksum::combine(&sums));
        // Zero would say that there is no checksum (RFC 768).
        let computed = if computed == 0 { 0xffff } else { computed };
        let datagram = &mut frames.bytes_mut(&frame)[self.udp..];
        datagram[CHECKSUM].copy_from_slice(&computed.to_be_bytes());
        let payload = &mut datagram[udp::HEADER_LEN..];
        payload[field::SEQUENCE].copy_from_slice(&sequence);
        payload[field::SENT].copy_from_slice(&sent);
        Some(frame)
    }
}

/// Whether a probe of this number, said to be sent then, can have arrived by `now`. Bounds what a
/// forged number can make a sink store.
pub(super) fn is_plausible(flow: &Flow, probe: &Probe<'_>, now: Instant) -> bool {
    let sequence = probe.sequence();
    sequence < PROBES_MAX && flow.sent_at(sequence) <= probe.sent_at() && probe.sent_at() <= now
}

fn ip_header_len(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(_) => ipv4::MIN_HEADER_LEN,
        IpAddr::V6(_) => ipv6::HEADER_LEN,
    }
}

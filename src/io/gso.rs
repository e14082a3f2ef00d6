//! Super-frames: one frame that is many TCP segments or UDP datagrams on the wire (TSO, USO, GSO).
//!
//! Its IP packet is as long as all payload together; [`Meta::gso_size`] says how that is cut. What
//! decides per packet asks the [`Layout`], and takes the frame apart only where segments meet
//! different ends. The checksum of a super-frame is partial, when a host made it, or means nothing;
//! what is cut off a frame with a partial checksum has a partial one of its own length, and every
//! other ordinary frame made here has its own.

use std::net::IpAddr;
use std::ops::Range;

use crate::io::{Frame, Frames, Meta, PartialChecksum};
use crate::wire::tcp::{self, Flags};
use crate::wire::vlan::Tags;
use crate::wire::{checksum, ethertype, ipv4, ipv6, protocol, udp};

/// Where the parts of a super-frame lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Bytes in front of the IP packet.
    packet: usize,
    /// Bytes in front of the transport header.
    segment: usize,
    /// Bytes in front of the payload: what every segment repeats.
    payload: usize,
    payload_len: usize,
    /// Payload of every segment but the last.
    gso_size: usize,
    is_ipv4: bool,
    transport: Transport,
}

/// What a super-frame is cut into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    const fn of(protocol: u8) -> Option<Self> {
        match protocol {
            protocol::TCP => Some(Self::Tcp),
            protocol::UDP => Some(Self::Udp),
            _ => None,
        }
    }

    const fn protocol(self) -> u8 {
        match self {
            Self::Tcp => protocol::TCP,
            Self::Udp => protocol::UDP,
        }
    }

    const fn checksum_offset(self) -> usize {
        match self {
            Self::Tcp => tcp::CHECKSUM_OFFSET,
            Self::Udp => udp::CHECKSUM_OFFSET,
        }
    }
}

/// A super-frame taken apart.
#[derive(Debug)]
pub struct Segmented {
    /// In order, none missing before another.
    pub frames: Vec<Frame>,
    /// Segments that no frame was free for.
    pub missing: u64,
}

impl Layout {
    /// `None` when the frame is not what its meta says: a TCP or UDP packet (IPv4 without being a
    /// fragment, IPv6 without extension headers, behind up to two tags) with payload for exactly
    /// so many segments.
    pub fn of(bytes: &[u8], meta: Meta) -> Option<Self> {
        let layout = Self::measure(bytes, meta.gso_size)?;
        (layout.segments() == meta.wire_packets()).then_some(layout)
    }

    /// The same of a frame whose segments nobody has counted.
    pub fn measure(bytes: &[u8], gso_size: u16) -> Option<Self> {
        let tags = Tags::parse(bytes).ok()?;
        let packet = &bytes[tags.payload_offset..];
        let (is_ipv4, header_len, protocol, segment) = match tags.ethertype {
            ethertype::IPV4 => {
                let view = ipv4::View::new(packet).ok().filter(|view| !view.is_fragment())?;
                (true, view.header_len(), view.protocol(), view.payload())
            }
            ethertype::IPV6 => {
                let view = ipv6::View::new(packet).ok()?;
                (false, ipv6::HEADER_LEN, view.next_header(), view.payload())
            }
            _ => return None,
        };
        let transport = Transport::of(protocol)?;
        let (transport_len, payload_len) = match transport {
            Transport::Tcp => {
                let view = tcp::View::new(segment).ok()?;
                (view.data_offset(), view.payload().len())
            }
            Transport::Udp => {
                let view = udp::View::new(segment).ok()?;
                (udp::HEADER_LEN, view.payload().len())
            }
        };
        let segment = tags.payload_offset + header_len;
        (gso_size > 0).then_some(Self {
            packet: tags.payload_offset,
            segment,
            payload: segment + transport_len,
            payload_len,
            gso_size: gso_size as usize,
            is_ipv4,
            transport,
        })
    }

    pub const fn transport(&self) -> Transport {
        self.transport
    }

    pub const fn is_ipv4(&self) -> bool {
        self.is_ipv4
    }

    /// Bytes of headers, which every segment repeats.
    pub const fn headers_len(&self) -> usize {
        self.payload
    }

    /// Where the checksum of the transport is.
    pub const fn checksum(&self) -> PartialChecksum {
        PartialChecksum { start: self.segment, offset: self.transport.checksum_offset() }
    }

    pub const fn segments(&self) -> u64 {
        self.payload_len.div_ceil(self.gso_size) as u64
    }

    /// IP bytes of all segments, each with its headers.
    pub const fn wire_bytes(&self) -> u64 {
        (self.payload - self.packet) as u64 * self.segments() + self.payload_len as u64
    }

    /// Bytes of all segments as frames, without preamble, FCS and gap.
    pub const fn frame_bytes(&self) -> u64 {
        self.payload as u64 * self.segments() + self.payload_len as u64
    }

    /// Bytes of every segment but the last as a frame.
    pub const fn full_frame_bytes(&self) -> u64 {
        (self.payload + self.gso_size) as u64
    }

    /// IP bytes of every segment but the last.
    pub const fn full_bytes(&self) -> u32 {
        (self.payload - self.packet + self.gso_size) as u32
    }

    /// IP bytes of the last segment.
    pub const fn last_bytes(&self) -> u32 {
        let before = (self.segments() as usize - 1) * self.gso_size;
        (self.payload - self.packet + self.payload_len - before) as u32
    }

    /// Some segments of the frame that this is the layout of, as a frame of their own; `None` when
    /// no frame is free.
    pub fn part(&self, frame: &Frame, range: Range<u64>, frames: &mut Frames) -> Option<Frame> {
        let payload = self.payload_of(&range);
        let mut part = frames.allocate(self.payload + payload.len())?;
        part.meta = frame.meta;
        part.set_partial_checksum(frame.partial_checksum().map(|_| self.checksum()));
        frames.copy(frame, 0..self.payload, &part, 0);
        let from = self.payload + payload.start..self.payload + payload.end;
        frames.copy(frame, from, &part, self.payload);
        self.finish(&mut part, &range, frames);
        Some(part)
    }

    /// Cuts the frame that this is the layout of to some of its segments, at least one.
    pub fn keep(&self, frame: &mut Frame, range: Range<u64>, frames: &mut Frames) {
        let payload = self.payload_of(&range);
        let kept = payload.len();
        let from = self.payload + payload.start..self.payload + payload.end;
        frames.bytes_mut(frame).copy_within(from, self.payload);
        frame.truncate(self.payload + kept);
        self.finish(frame, &range, frames);
    }

    /// Makes the checksum of the super-frame that this is the layout of partial, whatever it was.
    pub fn make_partial(&self, frame: &mut Frame, frames: &mut Frames) {
        self.fill_partial(frames.bytes_mut(frame));
        frame.set_partial_checksum(Some(self.checksum()));
    }

    /// Takes apart the frame that this is the layout of. The segments of one without a partial
    /// checksum have complete ones.
    pub fn segment(&self, frame: Frame, frames: &mut Frames) -> Segmented {
        let all = self.segments();
        let parts = (0..all).map_while(|at| self.part(&frame, at..at + 1, frames));
        let parts: Vec<_> = parts.collect();
        frames.free(frame);
        Segmented { missing: all - parts.len() as u64, frames: parts }
    }

    /// Which bytes of the payload some segments have.
    fn payload_of(&self, segments: &Range<u64>) -> Range<usize> {
        let at = |segment: u64| (segment as usize * self.gso_size).min(self.payload_len);
        at(segments.start)..at(segments.end)
    }

    /// Makes the headers of the whole those of some of its segments, in a frame with only theirs.
    fn finish(&self, part: &mut Frame, segments: &Range<u64>, frames: &mut Frames) {
        let count = segments.end - segments.start;
        part.meta.segments = if count > 1 { count as u16 } else { 0 };
        part.meta.gso_size = if count > 1 { self.gso_size as u16 } else { 0 };

        let bytes = frames.bytes_mut(part);
        let packet = &mut bytes[self.packet..];
        let total_len = packet.len();
        if self.is_ipv4 {
            ipv4::resize(packet, total_len as u16, segments.start as u16);
        } else {
            ipv6::resize(packet, (total_len - ipv6::HEADER_LEN) as u16);
        }
        match self.transport {
            Transport::Tcp => self.advance(&mut bytes[self.segment..], segments),
            Transport::Udp => {
                let datagram = &mut bytes[self.segment..];
                udp::resize(datagram, datagram.len() as u16);
            }
        }
        if part.partial_checksum().is_some() {
            self.fill_partial(bytes);
        } else if count == 1 {
            self.fill_partial(bytes);
            checksum::complete(&mut bytes[self.segment..], self.transport.checksum_offset());
        }
    }

    fn advance(&self, segment: &mut [u8], segments: &Range<u64>) {
        // RFC 9293, 3.9.1.2: PSH and FIN belong to the end. RFC 3168, 6.1.2: CWR is said once.
        let mut cleared = Flags::default();
        if segments.start > 0 {
            cleared = cleared | Flags::CWR;
        }
        if segments.end < self.segments() {
            cleared = cleared | Flags::PSH | Flags::FIN;
        }
        let by = self.payload_of(segments).start as u32;
        tcp::advance(segment, by, cleared);
    }

    /// Puts the sum of the pseudo-header where the checksum is. Who completes it, the kernel's
    /// `tcp_gso_segment` too, takes the length that is in it for the frame's own.
    pub(super) fn fill_partial(&self, bytes: &mut [u8]) {
        let Some((source, destination)) = self.addresses(&bytes[self.packet..]) else { return };
        let segment = &mut bytes[self.segment..];
        let protocol = self.transport.protocol();
        let sum = checksum::pseudo_header(source, destination, protocol, segment.len());
        let offset = self.transport.checksum_offset();
        segment[offset..offset + 2].copy_from_slice(&sum.to_be_bytes());
    }

    fn addresses(&self, packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
        if self.is_ipv4 {
            let view = ipv4::View::new(packet).ok()?;
            Some((view.source().into(), view.destination().into()))
        } else {
            let view = ipv6::View::new(packet).ok()?;
            Some((view.source().into(), view.destination().into()))
        }
    }
}

/// Makes a frame what any device takes and what knows no super-frames understands: ordinary frames
/// with complete checksums, appended to `into`. Returns how many packets are missing: those that no
/// frame was free for, and all of a super-frame that is not what its meta says.
pub fn ordinary(mut frame: Frame, into: &mut Vec<Frame>, frames: &mut Frames) -> u64 {
    if !frame.meta.is_super_frame() {
        complete_checksum(&mut frame, frames);
        into.push(frame);
        return 0;
    }
    let Some(layout) = Layout::of(frames.bytes(&frame), frame.meta) else {
        let missing = frame.meta.wire_packets();
        frames.free(frame);
        return missing;
    };
    frame.set_partial_checksum(None);
    let segmented = layout.segment(frame, frames);
    into.extend(segmented.frames);
    segmented.missing
}

/// Completes the checksum of an ordinary frame, if it is partial.
pub fn complete_checksum(frame: &mut Frame, frames: &mut Frames) {
    let Some(PartialChecksum { start, offset }) = frame.partial_checksum() else { return };
    frame.set_partial_checksum(None);
    if let Some(region) = frames.bytes_mut(frame).get_mut(start..) {
        checksum::complete(region, offset);
    }
}

#[cfg(test)]
mod tests;

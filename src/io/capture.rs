//! What passed by, written as pcapng for Wireshark and tshark.
//!
//! Each frame is one packet with its tags, its direction and the time in nanoseconds; a lost one says
//! why in its comment. A super-frame is one packet too, with a comment about what it is on the wire:
//! dissectors follow a TCP connection through it, as in any capture on a host that segments late.
//! Checksums that were left to be completed are complete in the file.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::interface_statistics::{
    InterfaceStatisticsBlock, InterfaceStatisticsOption,
};
use pcap_file::{DataLink, Endianness, PcapResult};
use thiserror::Error;

use crate::io::frame::LARGE_SLOT;
use crate::io::gso::Layout;
use crate::io::{Frame, Frames};
use crate::model::Instant;
use crate::wire::checksum;

/// What is gathered in memory between two writes.
const BUFFER: usize = 256 << 10;
/// What waits for a client that does not take it: what comes above that is left out, and counted.
const BACKLOG_MAX: usize = 16 << 20;
/// What is gathered for a client between two attempts to send: some of what a socket takes at once.
const ATTEMPT: usize = 64 << 10;
/// Timestamps count nanoseconds (`if_tsresol`: a negative power of ten).
const NANOSECONDS: u8 = 9;
/// The direction in `epb_flags`: bits 0 and 1.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;

/// A capture that is being written.
pub struct Capture {
    target: Target,
    /// What is not there yet: whole blocks, and for a client the rest of one.
    blocks: PcapNgWriter<VecDeque<u8>>,
    /// Wall clock at [`Instant::ZERO`], since the epoch.
    zero: Duration,
    /// Of each interface, packets that were left out.
    left_out: Vec<u64>,
    /// Packets among the blocks for a file.
    packets: u64,
    written: Written,
    /// Why nothing is written any more.
    failure: Option<io::Error>,
}

/// Where a capture goes.
#[derive(Debug)]
enum Target {
    File(File),
    /// Somebody who reads it from a socket, and is not waited for.
    Client {
        socket: UnixStream,
        /// Blocks there may be before it is tried again to send some.
        attempt_at: usize,
        /// It has said that this is enough.
        ended: bool,
    },
}

/// What a file holds.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Written {
    pub packets: u64,
    pub bytes: u64,
}

/// Which of the capture's interfaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interface(u32);

/// Where and when a frame was seen.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub interface: Interface,
    pub at: Instant,
    pub outbound: bool,
    /// Why the frame was lost, if it was: the name of the reason.
    pub lost: Option<&'a str>,
}

/// A file could not be written on.
#[derive(Debug, Error)]
#[error("{source}; {} packets are in it ({} bytes), make room and run it again for the rest", kept.packets, kept.bytes)]
pub struct CaptureError {
    pub kept: Written,
    source: io::Error,
}

impl Capture {
    /// Writes to a new file. `zero` is the wall clock, since the epoch, at which the time of the
    /// frames began.
    pub fn new(file: File, zero: Duration) -> Self {
        Self::to(Target::File(file), zero)
    }

    /// Sends to a client, until it shuts its end of the socket for writing or closes it. The socket
    /// must not block. The owner calls [`Capture::tend`] now and then.
    pub fn to_client(socket: UnixStream, zero: Duration) -> Self {
        Self::to(Target::Client { socket, attempt_at: ATTEMPT, ended: false }, zero)
    }

    fn to(target: Target, zero: Duration) -> Self {
        let blocks = VecDeque::with_capacity(BUFFER);
        let blocks = PcapNgWriter::with_endianness(blocks, Endianness::Little).expect(IN_MEMORY);
        let (written, failure) = (Written::default(), None);
        Self { target, blocks, zero, left_out: Vec::new(), packets: 0, written, failure }
    }

    /// A further interface. Of what is seen there, `description` says which way is out.
    pub fn add_interface(&mut self, name: &str, description: &str) -> Interface {
        let options = vec![
            InterfaceDescriptionOption::IfName(name.into()),
            InterfaceDescriptionOption::IfDescription(description.into()),
            InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
        ];
        let snaplen = LARGE_SLOT as u32;
        let block = InterfaceDescriptionBlock { linktype: DataLink::ETHERNET, snaplen, options };
        self.blocks.write_pcapng_block(block).expect(IN_MEMORY);
        self.left_out.push(0);
        Interface(self.left_out.len() as u32 - 1)
    }

    /// Adds a frame. Once a write has failed this does nothing; [`Capture::finish`] says so.
    pub fn add(&mut self, seen: Seen<'_>, frame: &Frame, frames: &Frames) {
        if self.failure.is_some() {
            return;
        }
        match &mut self.target {
            Target::File(_) => {
                self.put(seen, frame, frames).expect(IN_MEMORY);
                self.packets += 1;
                if self.blocks.get_ref().len() >= BUFFER {
                    self.flush();
                }
            }
            Target::Client { ended: true, .. } => {}
            Target::Client { attempt_at, .. } => {
                let attempt_at = *attempt_at;
                if self.blocks.get_ref().len() >= BACKLOG_MAX {
                    self.left_out[seen.interface.0 as usize] += 1;
                    return;
                }
                self.put(seen, frame, frames).expect(IN_MEMORY);
                if self.blocks.get_ref().len() >= attempt_at {
                    self.send();
                }
            }
        }
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// The file took not everything; it ends with a whole block where it can be cut.
    pub fn finish(mut self) -> Result<Written, CaptureError> {
        self.flush();
        match self.failure {
            None => Ok(self.written),
            Some(source) => Err(CaptureError { kept: self.written, source }),
        }
    }

    /// Sends a client what it takes. False when it has everything it asked for, or is gone.
    pub fn tend(&mut self, now: Instant) -> bool {
        let Target::Client { socket, ended, .. } = &mut self.target else { return true };
        if !*ended {
            // Whatever it says, it is not listened to.
            *ended = match socket.read(&mut [0; 64]) {
                Ok(length) => length == 0,
                Err(error) if is_passing(&error) => false,
                Err(_) => return false,
            };
            if *ended {
                self.put_statistics(now);
            }
        }
        self.send();
        let Target::Client { ended, .. } = self.target else { return true };
        self.failure.is_none() && !(ended && self.blocks.get_ref().is_empty())
    }

    fn put(&mut self, seen: Seen<'_>, frame: &Frame, frames: &Frames) -> PcapResult<()> {
        let direction = if seen.outbound { OUTBOUND } else { INBOUND };
        let mut options = vec![EnhancedPacketOption::Flags(direction)];
        let lost = seen.lost.map(|reason| format!("dropped: {reason}"));
        let comments = lost.into_iter().chain(super_frame(frame));
        options.extend(comments.map(|text| EnhancedPacketOption::Comment(text.into())));
        let data = as_sent(frame, frames);
        self.blocks.write_pcapng_block(EnhancedPacketBlock {
            interface_id: seen.interface.0,
            timestamp: self.zero + seen.at.since(Instant::ZERO),
            original_len: data.len() as u32,
            data,
            options,
        })?;
        Ok(())
    }

    /// How many packets were left out of each interface, for the end.
    fn put_statistics(&mut self, now: Instant) {
        let at = (self.zero + now.since(Instant::ZERO)).as_nanos() as u64;
        for (interface_id, &left_out) in self.left_out.iter().enumerate() {
            let block = InterfaceStatisticsBlock {
                interface_id: interface_id as u32,
                // The upper half comes first, which the library does not know.
                timestamp: at.rotate_left(u32::BITS),
                options: vec![InterfaceStatisticsOption::IsbIfDrop(left_out)],
            };
            self.blocks.write_pcapng_block(block).expect(IN_MEMORY);
        }
    }

    /// Blocks go to the file whole: where a write fails, the file is cut behind the last good one.
    fn flush(&mut self) {
        let Target::File(file) = &mut self.target else { return self.send() };
        let packets = mem::take(&mut self.packets);
        let blocks = self.blocks.get_mut();
        match file.write_all(blocks.make_contiguous()) {
            Ok(()) => {
                self.written.packets += packets;
                self.written.bytes += blocks.len() as u64;
            }
            Err(error) => {
                // What is no regular file stays as it is.
                let _ = file.set_len(self.written.bytes);
                self.failure = Some(error);
            }
        }
        blocks.clear();
    }

    /// What the client takes without being waited for.
    fn send(&mut self) {
        let Target::Client { socket, attempt_at, .. } = &mut self.target else { return };
        let blocks = self.blocks.get_mut();
        while !blocks.is_empty() && self.failure.is_none() {
            match socket.write(blocks.as_slices().0) {
                Ok(length) => drop(blocks.drain(..length)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => self.failure = Some(error),
            }
        }
        *attempt_at = blocks.len() + ATTEMPT;
    }
}

/// There is nothing now, and may be later.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// What a client knows of a capture that it is sent, part by part.
#[derive(Debug, Default)]
pub struct Reader {
    /// Received, and not yet a whole block.
    rest: Vec<u8>,
    /// Packets so far.
    pub packets: u64,
    /// Packets that were left out since the client was too slow; known at the end.
    pub left_out: u64,
}

impl Reader {
    /// Takes a part and gives the whole blocks that are there with it, of which `packets_max` are
    /// packets at the most.
    ///
    /// # Errors
    /// It is no capture.
    pub fn take(&mut self, part: &[u8], packets_max: u64) -> io::Result<Vec<u8>> {
        self.rest.extend_from_slice(part);
        let mut blocks = Vec::with_capacity(self.rest.len());
        let mut at = 0;
        while let Some(block) = whole_block(&self.rest[at..])? {
            at += block.len();
            match u32_at(block, 0) {
                Some(PACKET) if self.packets == packets_max => continue,
                Some(PACKET) => self.packets += 1,
                Some(STATISTICS) => self.left_out += left_out(block),
                _ => {}
            }
            blocks.extend_from_slice(block);
        }
        self.rest.drain(..at);
        Ok(blocks)
    }
}

/// Types of blocks.
const PACKET: u32 = 6;
const STATISTICS: u32 = 5;
/// A type, and a length at either end.
const BLOCK_MIN: usize = 12;
/// The largest frame there is, with more room than its comments need.
const BLOCK_MAX: usize = LARGE_SLOT + 64 * 1024;

/// The block at the front, if all of it is there.
fn whole_block(bytes: &[u8]) -> io::Result<Option<&[u8]>> {
    let Some(length) = u32_at(bytes, 4) else { return Ok(None) };
    let length = length as usize;
    if !(BLOCK_MIN..=BLOCK_MAX).contains(&length) {
        return Err(io::Error::new(ErrorKind::InvalidData, "what the lab sends is no capture"));
    }
    Ok(bytes.get(..length))
}

/// What [`Capture::put_statistics`] says: behind the interface, the time and the option's header.
fn left_out(block: &[u8]) -> u64 {
    let low = u32_at(block, 24).unwrap_or(0);
    let high = u32_at(block, 28).unwrap_or(0);
    u64::from(high) << u32::BITS | u64::from(low)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().expect("four bytes")))
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture").field("written", &self.written).finish_non_exhaustive()
    }
}

const IN_MEMORY: &str = "memory takes every block";

/// What a super-frame is on the wire.
fn super_frame(frame: &Frame) -> Option<String> {
    let meta = frame.meta;
    let about = || format!("super-frame: {} segments of {} bytes", meta.segments, meta.gso_size);
    meta.is_super_frame().then(about)
}

/// The bytes with the checksum that a receiver finds. That of a super-frame, which nobody sees on a
/// wire, is made to fit the whole.
fn as_sent<'a>(frame: &Frame, frames: &'a Frames) -> Cow<'a, [u8]> {
    let bytes = frames.bytes(frame);
    let layout = frame.meta.is_super_frame().then(|| Layout::of(bytes, frame.meta)).flatten();
    let partial = layout.map(|layout| layout.checksum()).or(frame.partial_checksum());
    let Some(partial) = partial.filter(|partial| partial.start < bytes.len()) else {
        return Cow::Borrowed(bytes);
    };
    let mut sent = bytes.to_vec();
    if let Some(layout) = layout {
        layout.fill_partial(&mut sent);
    }
    checksum::complete(&mut sent[partial.start..], partial.offset);
    Cow::Owned(sent)
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice, VlanId};
    use pcap_file::pcapng::{Block, PcapNgReader};

    use super::*;
    use crate::io::PartialChecksum;

    const SEGMENT: u16 = 1348;
    const SEGMENTS: u16 = 3;
    /// More than may wait for a client.
    const SEEN: u64 = 10_000;

    /// A super-frame behind two tags, with a checksum that nothing fits.
    fn super_frame_in(frames: &mut Frames) -> Frame {
        let vlan = |id: u16| VlanId::try_new(id).unwrap();
        let packet = PacketBuilder::ethernet2([2; 6], [4; 6])
            .double_vlan(vlan(101), vlan(100))
            .ipv4([10, 1, 0, 10], [10, 2, 0, 4], 63)
            .tcp(40_000, 5001, 1, 4096);
        let mut bytes = Vec::new();
        packet.write(&mut bytes, &vec![7; (SEGMENT * SEGMENTS - 100) as usize]).unwrap();
        let mut frame = frames.allocate_from(&bytes).unwrap();
        (frame.meta.gso_size, frame.meta.segments) = (SEGMENT, SEGMENTS);
        let PartialChecksum { start, offset } = Layout::of(&bytes, frame.meta).unwrap().checksum();
        frames.bytes_mut(&frame)[start + offset..][..2].copy_from_slice(&[0xde, 0xad]);
        frame
    }

    fn capture(act: impl FnOnce(&mut Capture, Interface, &mut Frames)) -> Vec<Block<'static>> {
        let path =
            std::env::temp_dir().join(format!("msee-capture-{:?}", std::thread::current().id()));
        let mut capture = Capture::new(File::create(&path).unwrap(), Duration::from_secs(5));
        let interface = capture.add_interface("ams/primary:nni", "outbound is to the right");
        act(&mut capture, interface, &mut Frames::new());
        capture.finish().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let mut reader = PcapNgReader::new(&bytes[..]).unwrap();
        let mut blocks = Vec::new();
        while let Some(block) = reader.next_block() {
            blocks.push(block.unwrap().into_owned());
        }
        blocks
    }

    #[test]
    fn a_super_frame_is_whole_with_a_right_checksum_and_says_what_it_is() {
        let at = Instant::from_nanos(1_000_000_007);
        let blocks = capture(|capture, interface, frames| {
            let frame = super_frame_in(frames);
            let seen = Seen { interface, at, outbound: true, lost: Some("link-full") };
            capture.add(seen, &frame, frames);
        });
        let [Block::InterfaceDescription(interface), Block::EnhancedPacket(packet)] = &blocks[..]
        else {
            panic!("{blocks:?}")
        };
        assert!(interface.snaplen as usize > packet.data.len());
        assert_eq!(packet.timestamp, Duration::from_nanos(6_000_000_007));
        assert_eq!(packet.original_len as usize, packet.data.len());
        assert_eq!(
            packet.options,
            [
                EnhancedPacketOption::Flags(OUTBOUND),
                EnhancedPacketOption::Comment("dropped: link-full".into()),
                EnhancedPacketOption::Comment("super-frame: 3 segments of 1348 bytes".into()),
            ]
        );
        assert_right_checksum(&packet.data);
    }

    fn assert_right_checksum(frame: &[u8]) {
        let parsed = SlicedPacket::from_ethernet(frame).unwrap();
        let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Tcp(tcp))) =
            (parsed.net, parsed.transport)
        else {
            panic!("not TCP over IPv4")
        };
        let right = tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination());
        assert_eq!(tcp.checksum(), right.unwrap());
    }

    /// The copy is completed, not the frame, which goes on as it is.
    #[test]
    fn a_partial_checksum_is_complete_in_the_file_only() {
        let blocks = capture(|capture, interface, frames| {
            let whole = super_frame_in(frames);
            let layout = Layout::of(frames.bytes(&whole), whole.meta).unwrap();
            let mut frame = layout.part(&whole, 0..1, frames).unwrap();
            layout.make_partial(&mut frame, frames);
            let before = frames.bytes(&frame).to_vec();
            let seen = Seen { interface, at: Instant::ZERO, outbound: false, lost: None };
            capture.add(seen, &frame, frames);
            assert_eq!(frames.bytes(&frame), before);
        });
        let Some(Block::EnhancedPacket(packet)) = blocks.last() else { panic!("{blocks:?}") };
        assert_eq!(packet.options, [EnhancedPacketOption::Flags(INBOUND)]);
        assert_right_checksum(&packet.data);
    }

    /// A client that reads nothing costs so much memory and no more, and what it misses is counted.
    #[test]
    fn a_client_that_is_too_slow_is_told_how_much_it_missed() {
        let (near, mut far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let mut capture = Capture::to_client(near, Duration::from_secs(5));
        let interface = capture.add_interface("any", "");
        let mut frames = Frames::new();
        let frame = super_frame_in(&mut frames);
        let at = Instant::from_nanos(7);
        for _ in 0..SEEN {
            capture.add(Seen { interface, at, outbound: true, lost: None }, &frame, &frames);
            assert!(capture.blocks.get_ref().len() <= BACKLOG_MAX + BLOCK_MAX);
        }
        assert!(capture.tend(at), "it has not ended");
        far.shutdown(std::net::Shutdown::Write).unwrap();
        let received = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            far.read_to_end(&mut bytes).unwrap();
            bytes
        });
        while capture.tend(at) {
            std::thread::sleep(Duration::from_millis(1));
            capture.add(Seen { interface, at, outbound: true, lost: None }, &frame, &frames);
        }
        drop(capture);
        let bytes = received.join().unwrap();

        let (mut reader, mut blocks) = (Reader::default(), Vec::new());
        for part in bytes.chunks(1000) {
            blocks.extend(reader.take(part, u64::MAX).unwrap());
        }
        assert_eq!(blocks, bytes, "whole blocks");
        assert!(reader.left_out > 0);
        assert_eq!(reader.packets + reader.left_out, SEEN);
        let mut parsed = PcapNgReader::new(&blocks[..]).unwrap();
        let mut last = None;
        while let Some(block) = parsed.next_block() {
            last = Some(block.unwrap().into_owned());
        }
        let Some(Block::InterfaceStatistics(statistics)) = last else { panic!("{last:?}") };
        assert_eq!(statistics.options, [InterfaceStatisticsOption::IsbIfDrop(reader.left_out)]);
    }

    #[test]
    fn a_reader_takes_so_many_packets_and_refuses_what_is_no_capture() {
        let blocks = |type_: u32, length: u32| {
            let mut block = vec![0; length as usize];
            block[..4].copy_from_slice(&type_.to_le_bytes());
            block[4..8].copy_from_slice(&length.to_le_bytes());
            block
        };
        let bytes = [blocks(PACKET, 40), blocks(1, 20), blocks(PACKET, 60)].concat();
        let mut reader = Reader::default();
        assert_eq!(reader.take(&bytes, 1).unwrap(), bytes[..60]);
        assert_eq!(reader.packets, 1);
        assert!(Reader::default().take(&blocks(PACKET, 40)[..3], 1).unwrap().is_empty());
        for length in [0, BLOCK_MIN as u32 - 1, BLOCK_MAX as u32 + 1, u32::MAX] {
            let bytes = [PACKET.to_le_bytes(), length.to_le_bytes()].concat();
            assert!(Reader::default().take(&bytes, 1).is_err());
        }
    }

    #[test]
    fn a_full_disk_ends_the_capture_and_nothing_else() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut capture = Capture::new(full, Duration::ZERO);
        let interface = capture.add_interface("any", "");
        let mut frames = Frames::new();
        let frame = super_frame_in(&mut frames);
        for nanos in 0..1000 {
            let at = Instant::from_nanos(nanos);
            capture.add(Seen { interface, at, outbound: true, lost: None }, &frame, &frames);
            assert!(capture.blocks.get_ref().len() <= BUFFER);
        }
        let error = capture.finish().unwrap_err();
        assert_eq!(error.kept, Written::default());
        assert!(error.to_string().starts_with("No space left on device"), "{error}");
    }
}

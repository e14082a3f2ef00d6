//! What was captured, read back frame by frame: pcapng, and classic pcap of either byte order in
//! microseconds or nanoseconds.
//!
//! The reader holds one block at a time, whatever the file's size. It takes frames of Ethernet and no
//! others, and says of a file that is none of these, is cut short or contradicts itself where and what
//! was expected there.

use std::io::{self, ErrorKind, Read};
use std::time::Duration;

use pcap_file::pcap::PcapParser;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::{Block, PcapNgParser};
use pcap_file::{DataLink, PcapError, TsResolution};
use thiserror::Error;

/// Read from the file at once.
const PART: usize = 256 << 10;
/// Longest block of pcapng: names and keys may be long, packets are not.
const BLOCK_MAX: usize = 16 << 20;
/// Longest packet of classic pcap: what libpcap takes from a file (`MAXIMUM_SNAPLEN`).
const PACKET_MAX: u32 = 256 << 10;
/// How a file of pcapng begins, in either byte order.
const SECTION: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
/// Ticks of a second where an interface does not say (`if_tsresol`).
const MICROSECONDS: u64 = 1_000_000;

/// A capture that is read.
#[derive(Debug)]
pub struct Recording<R> {
    source: R,
    format: Format,
    buffer: Vec<u8>,
    /// What of the buffer was taken.
    taken: usize,
    /// Of the buffer, in the file.
    offset: u64,
}

/// A frame of a capture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recorded {
    /// Since the epoch; none where the file does not say (Simple Packet Block).
    pub at: Option<Duration>,
    pub bytes: Vec<u8>,
    /// The capture kept the beginning of the frame only.
    pub is_cut: bool,
}

/// A file cannot be replayed.
#[derive(Debug, Error)]
pub enum RecordingError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("offset {offset}: {found}; expected {expected}")]
    Format { offset: u64, found: String, expected: String },
}

enum Format {
    Pcap(PcapParser),
    PcapNg(PcapNgParser),
}

/// Why there is no block at the front of the buffer.
enum Trouble {
    /// More of the file is needed.
    Incomplete,
    Wrong {
        found: String,
        expected: String,
    },
}

impl<R: Read> Recording<R> {
    /// Reads the beginning, which says what format it is.
    pub fn open(mut source: R) -> Result<Self, RecordingError> {
        let mut buffer = Vec::new();
        loop {
            let (rest, format) = match Format::begin(&buffer) {
                Ok((rest, format)) => (rest.len(), format),
                Err(Trouble::Incomplete) if buffer.len() < BLOCK_MAX => {
                    if !fill(&mut source, &mut buffer)? {
                        return Err(cut_short(0, buffer.len()));
                    }
                    continue;
                }
                Err(trouble) => return Err(trouble.at(0)),
            };
            let taken = buffer.len() - rest;
            return Ok(Self { source, format, buffer, taken, offset: 0 });
        }
    }

    /// The next frame; none at the end of the file.
    pub fn next_frame(&mut self) -> Result<Option<Recorded>, RecordingError> {
        loop {
            let rest = &self.buffer[self.taken..];
            let at = self.offset + self.taken as u64;
            match self.format.take(rest) {
                Ok((length, frame)) => {
                    self.taken += length;
                    if frame.is_some() {
                        return Ok(frame);
                    }
                }
                Err(Trouble::Incomplete) if rest.len() < BLOCK_MAX => {
                    let left = rest.len();
                    self.buffer.drain(..self.taken);
                    self.offset = at;
                    self.taken = 0;
                    if !fill(&mut self.source, &mut self.buffer)? {
                        return if left == 0 { Ok(None) } else { Err(cut_short(at, left)) };
                    }
                }
                Err(trouble) => return Err(trouble.at(at)),
            }
        }
    }
}

/// Reads on; false at the end of the file.
fn fill(source: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let before = buffer.len();
    buffer.resize(before + PART, 0);
    let length = loop {
        match source.read(&mut buffer[before..]) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            length => break length,
        }
    };
    buffer.truncate(before + *length.as_ref().unwrap_or(&0));
    length.map(|length| length > 0)
}

fn cut_short(offset: u64, left: usize) -> RecordingError {
    RecordingError::Format {
        offset,
        found: format!("the file ends after {left} bytes of what begins here"),
        expected: "the whole of it: it was cut short, as by a capture that was killed".to_owned(),
    }
}

impl Format {
    fn begin(bytes: &[u8]) -> Result<(&[u8], Self), Trouble> {
        match bytes.first_chunk::<4>() {
            None => Err(Trouble::Incomplete),
            Some(&SECTION) => {
                let (rest, parser) = PcapNgParser::new(bytes)?;
                Ok((rest, Self::PcapNg(parser)))
            }
            Some(
                [0xa1, 0xb2, 0xc3, 0xd4]
                | [0xa1, 0xb2, 0x3c, 0x4d]
                | [0xd4, 0xc3, 0xb2, 0xa1]
                | [0x4d, 0x3c, 0xb2, 0xa1],
            ) => {
                let (rest, parser) = PcapParser::new(bytes)?;
                only_ethernet(parser.header().datalink)?;
                Ok((rest, Self::Pcap(parser)))
            }
            Some([a, b, c, d]) => Err(wrong(
                format!("the file begins with {a:02x} {b:02x} {c:02x} {d:02x}"),
                "pcapng (0a 0d 0d 0a) or pcap (a1 b2 c3 d4, in either order), not compressed",
            )),
        }
    }

    /// The length of what stands at the front, and the frame if it is one.
    fn take(&mut self, bytes: &[u8]) -> Result<(usize, Option<Recorded>), Trouble> {
        match self {
            Self::Pcap(parser) => take_packet(parser, bytes),
            Self::PcapNg(parser) => take_block(parser, bytes),
        }
    }
}

fn take_packet(parser: &PcapParser, bytes: &[u8]) -> Result<(usize, Option<Recorded>), Trouble> {
    let header = parser.header();
    if let Some(length) = bytes.get(8..12) {
        let length = length.try_into().expect("four bytes");
        let length = match header.endianness {
            pcap_file::Endianness::Big => u32::from_be_bytes(length),
            pcap_file::Endianness::Little => u32::from_le_bytes(length),
        };
        if length > PACKET_MAX {
            let expected = format!("at most {PACKET_MAX}; the file is damaged here or before");
            return Err(wrong(format!("a packet of {length} bytes"), &expected));
        }
    }
    let (rest, packet) = parser.next_raw_packet(bytes)?;
    let (unit, nanos_each) = match header.ts_resolution {
        TsResolution::MicroSecond => ("microseconds", 1_000),
        TsResolution::NanoSecond => ("nanoseconds", 1),
    };
    let nanos = packet.ts_frac.checked_mul(nanos_each).filter(|&nanos| nanos < 1_000_000_000);
    let Some(nanos) = nanos else {
        let found = format!("a time with {} {unit}", packet.ts_frac);
        return Err(wrong(found, "less than a second of them; the file is damaged here or before"));
    };
    let frame = Recorded {
        at: Some(Duration::new(packet.ts_sec.into(), nanos)),
        is_cut: packet.incl_len < packet.orig_len,
        bytes: packet.data.into_owned(),
    };
    Ok((bytes.len() - rest.len(), Some(frame)))
}

fn take_block(
    parser: &mut PcapNgParser,
    bytes: &[u8],
) -> Result<(usize, Option<Recorded>), Trouble> {
    let (rest, block) = parser.next_block(bytes)?;
    let frame = match block {
        Block::EnhancedPacket(packet) => {
            let interface = interface(parser, packet.interface_id)?;
            // The library takes ticks of whatever length for nanoseconds.
            let ticks = packet.timestamp.as_nanos() as u64;
            Some(Recorded {
                at: Some(time(interface, ticks)?),
                is_cut: (packet.data.len() as u32) < packet.original_len,
                bytes: packet.data.into_owned(),
            })
        }
        Block::SimplePacket(packet) => {
            interface(parser, 0)?;
            let original = packet.original_len as usize;
            // With what fills the block up to four bytes.
            let bytes = packet.data[..packet.data.len().min(original)].to_vec();
            Some(Recorded { at: None, is_cut: bytes.len() < original, bytes })
        }
        Block::Packet(_) => {
            let expected = "Enhanced Packet Blocks: `editcap -F pcapng OLD NEW` writes them";
            return Err(wrong("an obsolete Packet Block".to_owned(), expected));
        }
        _ => None,
    };
    Ok((bytes.len() - rest.len(), frame))
}

/// The interface of a packet, if its frames are Ethernet.
fn interface(
    parser: &PcapNgParser,
    number: u32,
) -> Result<&InterfaceDescriptionBlock<'static>, Trouble> {
    let interfaces = parser.interfaces();
    let found = interfaces.get(number as usize).ok_or_else(|| {
        let found = format!("a packet of interface {number}");
        wrong(found, &format!("one of the {} described before it", interfaces.len()))
    })?;
    only_ethernet(found.linktype)?;
    Ok(found)
}

fn only_ethernet(link: DataLink) -> Result<(), Trouble> {
    if link == DataLink::ETHERNET {
        return Ok(());
    }
    let expected = "Ethernet: capture on one interface with Ethernet frames, not on `any`";
    Err(wrong(format!("frames of type {link:?}"), expected))
}

/// Since the epoch, from an interface's ticks (`if_tsresol`, `if_tsoffset`).
fn time(interface: &InterfaceDescriptionBlock<'_>, ticks: u64) -> Result<Duration, Trouble> {
    let mut per_second = Some(MICROSECONDS);
    let mut offset = 0;
    for option in &interface.options {
        match *option {
            InterfaceDescriptionOption::IfTsResol(power) if power & 0x80 == 0 => {
                per_second = 10u64.checked_pow(power.into());
            }
            InterfaceDescriptionOption::IfTsResol(power) => {
                per_second = 1u64.checked_shl((power & 0x7f).into());
            }
            InterfaceDescriptionOption::IfTsOffset(seconds) => offset = seconds.cast_signed(),
            _ => {}
        }
    }
    let expected = "if_tsresol of up to 10^-19 or 2^-63, and a time after 1970";
    let per_second = per_second.ok_or_else(|| wrong("ticks too short".to_owned(), expected))?;
    let seconds = (ticks / per_second).checked_add_signed(offset);
    let seconds = seconds.ok_or_else(|| wrong(format!("{ticks} ticks"), expected))?;
    let nanos = u128::from(ticks % per_second) * 1_000_000_000 / u128::from(per_second);
    Ok(Duration::new(seconds, nanos as u32))
}

fn wrong(found: String, expected: &str) -> Trouble {
    Trouble::Wrong { found, expected: expected.to_owned() }
}

impl Trouble {
    fn at(self, offset: u64) -> RecordingError {
        let (found, expected) = match self {
            Self::Wrong { found, expected } => (found, expected),
            Self::Incomplete => (
                format!("a block of more than {BLOCK_MAX} bytes"),
                "shorter ones; the file is damaged here or before".to_owned(),
            ),
        };
        RecordingError::Format { offset, found, expected }
    }
}

impl From<PcapError> for Trouble {
    fn from(error: PcapError) -> Self {
        match error {
            PcapError::IncompleteBuffer => Self::Incomplete,
            error => wrong(error.to_string(), "a whole block; the file is damaged here or before"),
        }
    }
}

impl std::fmt::Debug for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pcap(_) => "Pcap",
            Self::PcapNg(_) => "PcapNg",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use pcap_file::Endianness;
    use pcap_file::pcap::{PcapHeader, PcapWriter, RawPcapPacket};
    use pcap_file::pcapng::PcapNgWriter;
    use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
    use pcap_file::pcapng::blocks::simple_packet::SimplePacketBlock;
    use proptest::prelude::*;

    use super::*;

    const TIMES_NS: [u64; 3] = [1_700_000_000_000_000_000, 1_700_000_000_000_001_000, 1 << 62];

    /// Frames of 60, 61 and 62 bytes, the last of which was longer.
    fn frames() -> Vec<Recorded> {
        let frame = |(at, number): (u64, usize)| Recorded {
            at: Some(Duration::from_nanos(at)),
            bytes: vec![number as u8; 60 + number],
            is_cut: number == 2,
        };
        TIMES_NS.into_iter().zip(0..).map(frame).collect()
    }

    fn read(bytes: &[u8]) -> Result<Vec<Recorded>, RecordingError> {
        let mut recording = Recording::open(bytes)?;
        let mut frames = Vec::new();
        while let Some(frame) = recording.next_frame()? {
            frames.push(frame);
        }
        Ok(frames)
    }

    fn refused(bytes: &[u8]) -> String {
        read(bytes).unwrap_err().to_string()
    }

    fn pcap(endianness: Endianness, ts_resolution: TsResolution) -> Vec<u8> {
        let header = PcapHeader { endianness, ts_resolution, ..PcapHeader::default() };
        let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
        for frame in frames() {
            let at = frame.at.unwrap();
            let divisor = if ts_resolution == TsResolution::MicroSecond { 1000 } else { 1 };
            let packet = RawPcapPacket {
                ts_sec: at.as_secs() as u32,
                ts_frac: at.subsec_nanos() / divisor,
                incl_len: frame.bytes.len() as u32,
                orig_len: frame.bytes.len() as u32 + u32::from(frame.is_cut),
                data: Cow::Owned(frame.bytes),
            };
            writer.write_raw_packet(&packet).unwrap();
        }
        writer.into_writer()
    }

    fn interface_with(
        linktype: DataLink,
        options: Vec<InterfaceDescriptionOption<'static>>,
    ) -> InterfaceDescriptionBlock<'static> {
        InterfaceDescriptionBlock { linktype, snaplen: 0, options }
    }

    /// A section with one interface.
    fn pcapng(endianness: Endianness, interface: InterfaceDescriptionBlock<'static>) -> Vec<u8> {
        let mut writer = PcapNgWriter::with_endianness(Vec::new(), endianness).unwrap();
        writer.write_pcapng_block(interface).unwrap();
        for frame in frames() {
            let block = EnhancedPacketBlock {
                interface_id: 0,
                timestamp: frame.at.unwrap(),
                original_len: frame.bytes.len() as u32 + u32::from(frame.is_cut),
                data: frame.bytes.into(),
                options: vec![EnhancedPacketOption::Comment("a comment".into())],
            };
            writer.write_pcapng_block(block).unwrap();
        }
        writer.into_inner()
    }

    fn nanoseconds() -> InterfaceDescriptionBlock<'static> {
        interface_with(DataLink::ETHERNET, vec![InterfaceDescriptionOption::IfTsResol(9)])
    }

    #[test]
    fn classic_pcap_is_read_in_either_order_and_resolution() {
        for endianness in [Endianness::Big, Endianness::Little] {
            // Seconds of classic pcap are 32 bits.
            let read = |resolution| {
                let mut read = read(&pcap(endianness, resolution)).unwrap();
                read.iter_mut().zip(frames()).for_each(|(frame, wanted)| {
                    assert_eq!(
                        frame.at.unwrap().as_secs() as u32,
                        wanted.at.unwrap().as_secs() as u32
                    );
                    frame.at = wanted.at;
                });
                read
            };
            assert_eq!(read(TsResolution::NanoSecond), frames());
            assert_eq!(read(TsResolution::MicroSecond), frames());
        }
        let micros = read(&pcap(Endianness::Little, TsResolution::MicroSecond)).unwrap();
        assert_eq!(micros[1].at, Some(Duration::from_nanos(TIMES_NS[1])));
    }

    #[test]
    fn pcapng_is_read_in_either_order_and_several_sections() {
        let sections =
            [Endianness::Big, Endianness::Little].map(|order| pcapng(order, nanoseconds()));
        let both = read(&sections.concat()).unwrap();
        assert_eq!(both, [frames(), frames()].concat());
    }

    #[test]
    fn ticks_are_as_long_as_the_interface_says() {
        use InterfaceDescriptionOption::{IfTsOffset, IfTsResol};
        let at = |options| {
            let file = pcapng(Endianness::Little, interface_with(DataLink::ETHERNET, options));
            read(&file).map(|frames| frames[2].at.unwrap())
        };
        let ticks = TIMES_NS[2];
        assert_eq!(at(Vec::new()).unwrap(), Duration::from_micros(ticks));
        assert_eq!(at(vec![IfTsResol(0)]).unwrap(), Duration::from_secs(ticks));
        assert_eq!(at(vec![IfTsResol(0x80 | 0x3e)]).unwrap(), Duration::from_secs(1));
        let offset = vec![IfTsResol(9), IfTsOffset((-5_i64).cast_unsigned())];
        let later = Duration::from_secs(5);
        assert_eq!(at(offset).unwrap() + later, Duration::from_nanos(ticks));
        for resolution in [20, 0x80 | 64, 0xff] {
            let error = at(vec![IfTsResol(resolution)]).unwrap_err().to_string();
            assert!(error.contains("expected if_tsresol"), "{error}");
        }
    }

    #[test]
    fn a_packet_without_a_time_is_read_without_what_fills_its_block() {
        let mut writer = PcapNgWriter::with_endianness(Vec::new(), Endianness::Little).unwrap();
        writer.write_pcapng_block(nanoseconds()).unwrap();
        let (original_len, data) = (61, Cow::Owned(vec![7; 61]));
        writer.write_pcapng_block(SimplePacketBlock { original_len, data }).unwrap();
        let read = read(&writer.into_inner()).unwrap();
        assert_eq!(read, [Recorded { at: None, bytes: vec![7; 61], is_cut: false }]);
    }

    /// Whole frames come out of the beginning, and where it is cut is where the next one began.
    #[test]
    fn a_file_that_was_cut_says_where() {
        let files = [
            pcap(Endianness::Big, TsResolution::NanoSecond),
            pcapng(Endianness::Big, nanoseconds()),
        ];
        for file in files {
            let mut ends = Vec::new();
            for length in 0..file.len() {
                match read(&file[..length]) {
                    Ok(frames) => ends.push((length, frames.len())),
                    Err(error) => {
                        let (end, _) = ends.last().copied().unwrap_or_default();
                        let said =
                            format!("offset {end}: the file ends after {} bytes", length - end);
                        let error = error.to_string();
                        // Of a packet's block nothing is told from an interface's.
                        assert!(error.starts_with(&said), "{error}, not {said}");
                    }
                }
            }
            let frames: Vec<_> = ends.iter().map(|(_, frames)| *frames).collect();
            assert_eq!(frames[frames.len() - 3..], [0, 1, 2]);
        }
    }

    #[test]
    fn what_is_no_capture_of_ethernet_says_what_was_expected() {
        assert!(refused(b"").starts_with("offset 0: the file ends after 0 bytes"));
        let compressed = refused(&[0x1f, 0x8b, 8, 0, 0]);
        assert!(
            compressed.starts_with("offset 0: the file begins with 1f 8b 08 00; expected pcapng")
        );
        let header = PcapHeader { datalink: DataLink::LINUX_SLL, ..PcapHeader::default() };
        let cooked = PcapWriter::with_header(Vec::new(), header).unwrap().into_writer();
        assert!(refused(&cooked).contains("frames of type LINUX_SLL; expected Ethernet"));
        let cooked = pcapng(Endianness::Big, interface_with(DataLink::LINUX_SLL, Vec::new()));
        assert!(
            refused(&cooked).starts_with("offset 48: frames of type LINUX_SLL"),
            "{}",
            refused(&cooked)
        );
    }

    #[test]
    fn a_damaged_file_says_where_and_takes_no_memory() {
        let mut file = pcap(Endianness::Little, TsResolution::MicroSecond);
        file[24 + 8..24 + 12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(
            refused(&file).starts_with("offset 24: a packet of 4294967295 bytes; expected at most")
        );
        let mut file = pcap(Endianness::Little, TsResolution::MicroSecond);
        file[24 + 4..24 + 8].copy_from_slice(&2_000_000u32.to_le_bytes());
        assert!(refused(&file).starts_with("offset 24: a time with 2000000 microseconds"));
        let mut file = pcapng(Endianness::Little, nanoseconds());
        // The first packet's block, behind the section's and the interface's.
        let at = 28 + 32;
        assert_eq!(file[at], 6);
        file[at + 8] = 9;
        let error = refused(&file);
        assert!(
            error.starts_with("offset 60: a packet of interface 9; expected one of the 1"),
            "{error}"
        );
        file[at + 8] = 0;
        file[at + 20..at + 24].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(refused(&file).starts_with("offset 60: "));
    }

    /// More than is read at once, of which nothing is kept.
    #[test]
    fn a_long_file_is_read_in_parts() {
        let section = pcapng(Endianness::Little, nanoseconds());
        let times = 4 * PART / section.len();
        let file = section.repeat(times);
        let mut recording = Recording::open(&file[..]).unwrap();
        let mut count = 0;
        while recording.next_frame().unwrap().is_some() {
            count += 1;
            assert!(recording.buffer.len() < 2 * PART);
        }
        assert_eq!(count, 3 * times);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            begin in prop::sample::select(vec![
                SECTION.to_vec(),
                vec![0xd4, 0xc3, 0xb2, 0xa1],
                vec![0xa1, 0xb2, 0x3c, 0x4d],
            ]),
            rest in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            let _ = read(&[begin, rest].concat());
        }

        #[test]
        fn any_damage_is_read_or_refused(at in 0usize..400, to in any::<u8>(), big in any::<bool>()) {
            let order = if big { Endianness::Big } else { Endianness::Little };
            for mut file in [pcapng(order, nanoseconds()), pcap(order, TsResolution::NanoSecond)] {
                let at = at % file.len();
                file[at] = to;
                let _ = read(&file);
            }
        }
    }
}

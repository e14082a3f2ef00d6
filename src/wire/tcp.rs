//! The TCP header (RFC 9293): what the MD5 signature (RFC 2385) and the traffic generator need.
//! The protocol itself is not here.

use core::mem::offset_of;
use core::ops::BitOr;
use std::net::IpAddr;

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::wire::{Error, checksum, front_mut, protocol, put, split};

/// Bytes of a header without options.
pub const MIN_HEADER_LEN: usize = size_of::<Header>();
/// Most bytes of options: the header is at most 15 words long.
pub const MAX_OPTIONS_LEN: usize = 40;
/// Bytes of the header in front of the checksum.
pub const CHECKSUM_OFFSET: usize = offset_of!(Header, checksum);

/// Option kinds (IANA, TCP parameters).
pub mod option {
    pub const END: u8 = 0;
    pub const NOP: u8 = 1;
    pub const MSS: u8 = 2;
    /// RFC 7323 section 2.
    pub const WINDOW_SCALE: u8 = 3;
    /// RFC 2018 section 2.
    pub const SACK_PERMITTED: u8 = 4;
    /// RFC 2018 section 3.
    pub const SACK: u8 = 5;
    /// RFC 7323 section 3.
    pub const TIMESTAMPS: u8 = 8;
    /// The MD5 signature (RFC 2385).
    pub const MD5: u8 = 19;
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    source_port: U16,
    destination_port: U16,
    sequence: U32,
    acknowledgement: U32,
    /// Header length in words in the upper four bits.
    offset: u8,
    flags: Flags,
    window: U16,
    checksum: U16,
    urgent: U16,
}

/// The control bits.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Debug,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(transparent)]
pub struct Flags(pub u8);

impl Flags {
    pub const FIN: Self = Self(0x01);
    pub const SYN: Self = Self(0x02);
    pub const RST: Self = Self(0x04);
    pub const PSH: Self = Self(0x08);
    pub const ACK: Self = Self(0x10);
    pub const URG: Self = Self(0x20);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: Self = Self(0x80);

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A segment in place. Construction checks the data offset; the checksum needs the addresses and
/// is a check of its own, [`View::verify_checksum`].
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    header: &'a Header,
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> View<'a> {
    /// `segment` is the whole payload of the IP packet: TCP has no length field.
    pub fn new(segment: &'a [u8]) -> Result<Self, Error> {
        let (header, rest) = split::<Header>(segment)?;
        let options_len = (header.offset as usize >> 4) * 4;
        let options_len = options_len.checked_sub(MIN_HEADER_LEN).ok_or(Error::Malformed)?;
        let (options, payload) = rest.split_at_checked(options_len).ok_or(Error::Truncated)?;
        Ok(Self { header, options, payload })
    }

    pub const fn source_port(&self) -> u16 {
        self.header.source_port.get()
    }

    pub const fn destination_port(&self) -> u16 {
        self.header.destination_port.get()
    }

    pub const fn sequence(&self) -> u32 {
        self.header.sequence.get()
    }

    pub const fn acknowledgement(&self) -> u32 {
        self.header.acknowledgement.get()
    }

    /// Bytes of the header with its options: where the payload begins.
    pub const fn data_offset(&self) -> usize {
        MIN_HEADER_LEN + self.options.len()
    }

    pub const fn flags(&self) -> Flags {
        self.header.flags
    }

    pub const fn window(&self) -> u16 {
        self.header.window.get()
    }

    /// The options one by one.
    pub const fn options(&self) -> Options<'a> {
        Options(self.options)
    }

    /// The options as they lie in the header, padding included.
    pub const fn option_bytes(&self) -> &'a [u8] {
        self.options
    }

    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The header without its options and with a checksum of zero, as the MD5 signature covers it
    /// (RFC 2385 section 2.0).
    pub fn signed_header(&self) -> [u8; MIN_HEADER_LEN] {
        zerocopy::transmute!(Header { checksum: U16::ZERO, ..*self.header })
    }

    /// Whether the checksum is right for a packet between these addresses.
    pub fn verify_checksum(&self, source: IpAddr, destination: IpAddr) -> bool {
        let sums = [checksum::sum(self.header.as_bytes()), checksum::sum(self.options)];
        sum(source, destination, sums, self.data_offset(), self.payload) == checksum::VALID
    }
}

/// One option other than the paddings END and NOP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpOption<'a> {
    pub kind: u8,
    /// What follows kind and length.
    pub data: &'a [u8],
}

/// Walks options. The walk ends at END, at the end, or at an option whose length is wrong.
#[derive(Clone, Debug)]
pub struct Options<'a>(&'a [u8]);

impl<'a> Options<'a> {
    /// Over the option bytes of a header.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = TcpOption<'a>;

    fn next(&mut self) -> Option<TcpOption<'a>> {
        while let [option::NOP, rest @ ..] = self.0 {
            self.0 = rest;
        }
        let bytes = core::mem::take(&mut self.0);
        let [kind, len, ..] = *bytes else { return None };
        if kind == option::END {
            return None;
        }
        let (this, rest) = bytes.split_at_checked(len as usize)?;
        let data = this.get(2..)?;
        self.0 = rest;
        Some(TcpOption { kind, data })
    }
}

/// A segment's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Repr<'a> {
    pub source_port: u16,
    pub destination_port: u16,
    pub sequence: u32,
    pub acknowledgement: u32,
    pub flags: Flags,
    pub window: u16,
    /// The urgent pointer.
    pub urgent: u16,
    /// As they lie in the header, at most [`MAX_OPTIONS_LEN`] bytes; `emit` pads them with END to
    /// whole words.
    pub options: &'a [u8],
    pub payload_len: usize,
}

impl<'a> Repr<'a> {
    /// The caller has asked [`View::verify_checksum`].
    pub fn parse(view: &View<'a>) -> Result<Self, Error> {
        Ok(Self {
            source_port: view.source_port(),
            destination_port: view.destination_port(),
            sequence: view.sequence(),
            acknowledgement: view.acknowledgement(),
            flags: view.flags(),
            window: view.window(),
            urgent: view.header.urgent.get(),
            options: view.options,
            payload_len: view.payload.len(),
        })
    }

    /// Bytes of the header with its options.
    pub const fn header_len(&self) -> usize {
        MIN_HEADER_LEN + self.options.len().next_multiple_of(4)
    }

    /// Bytes of header and payload.
    pub const fn buffer_len(&self) -> usize {
        self.header_len() + self.payload_len
    }

    /// Writes the segment as a packet between these addresses carries it. `payload` has
    /// `payload_len` bytes.
    pub fn emit(&self, source: IpAddr, destination: IpAddr, payload: &[u8], buffer: &mut [u8]) {
        assert!(self.options.len() <= MAX_OPTIONS_LEN, "options fit a header of 15 words");
        let header_len = self.header_len();
        let mut header = Header {
            source_port: self.source_port.into(),
            destination_port: self.destination_port.into(),
            sequence: self.sequence.into(),
            acknowledgement: self.acknowledgement.into(),
            offset: (header_len as u8 / 4) << 4,
            flags: self.flags,
            window: self.window.into(),
            checksum: U16::ZERO,
            urgent: self.urgent.into(),
        };
        let sums = [checksum::sum(header.as_bytes()), checksum::sum(self.options)];
        let sum = sum(source, destination, sums, header_len, payload);
        header.checksum = checksum::finish(sum).into();

        let rest = put(&header, buffer);
        let (options, rest) = rest.split_at_mut(header_len - MIN_HEADER_LEN);
        let (options, padding) = options.split_at_mut(self.options.len());
        options.copy_from_slice(self.options);
        padding.fill(option::END);
        rest[..self.payload_len].copy_from_slice(payload);
    }
}

/// Makes the header that of a part of the segment that begins `by` bytes into its payload, without
/// the flags `cleared`. The checksum is the caller's; bytes too short for a
/// header are left as they are.
pub fn advance(segment: &mut [u8], by: u32, cleared: Flags) {
    if let Some(header) = front_mut::<Header>(segment) {
        header.sequence = header.sequence.get().wrapping_add(by).into();
        header.flags = Flags(header.flags.0 & !cleared.0);
    }
}

/// The sum of a segment with its pseudo-header; `header` are those of the header and its options.
fn sum(
    source: IpAddr,
    destination: IpAddr,
    header: [u16; 2],
    header_len: usize,
    payload: &[u8],
) -> u16 {
    let len = header_len + payload.len();
    let pseudo = checksum::pseudo_header(source, destination, protocol::TCP, len);
    checksum::combine(&[pseudo, header[0], header[1], checksum::sum(payload)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::tests::{addresses, hostile};

    proptest! {
        #[test]
        fn what_is_emitted_is_parsed(
            numbers: (u32, u32), words: [u16; 4], flags: u8, payload: Vec<u8>,
            options in prop::collection::vec(any::<u8>(), 0..=40), (from, to) in addresses(),
        ) {
            let mut repr = Repr {
                source_port: words[0],
                destination_port: words[1],
                sequence: numbers.0,
                acknowledgement: numbers.1,
                flags: Flags(flags),
                window: words[2],
                urgent: words[3],
                options: &options,
                payload_len: payload.len(),
            };
            let mut segment = vec![0xee; repr.buffer_len()];
            repr.emit(from, to, &payload, &mut segment);
            let view = View::new(&segment).unwrap();
            let mut padded = options.clone();
            padded.resize(options.len().next_multiple_of(4), option::END);
            repr.options = &padded;
            prop_assert_eq!(Repr::parse(&view), Ok(repr));
            prop_assert_eq!(view.payload(), payload);
            prop_assert_eq!(view.data_offset(), 20 + padded.len());
            prop_assert!(view.verify_checksum(from, to));
        }

        #[test]
        fn a_filled_in_checksum_is_the_emitted_one(
            payload: Vec<u8>, flags: u8, sequence: u32, by: u32, (from, to) in addresses(),
        ) {
            let repr = |sequence, flags| Repr {
                source_port: 1,
                destination_port: 2,
                sequence,
                acknowledgement: 3,
                flags: Flags(flags),
                window: 4,
                urgent: 5,
                options: &[6; 8],
                payload_len: payload.len(),
            };
            let emitted = |repr: Repr<'_>| {
                let mut segment = vec![0xee; repr.buffer_len()];
                repr.emit(from, to, &payload, &mut segment);
                segment
            };
            let mut segment = emitted(repr(sequence, flags));
            advance(&mut segment, by, Flags::PSH | Flags::CWR);
            let pseudo = checksum::pseudo_header(from, to, protocol::TCP, segment.len());
            segment[CHECKSUM_OFFSET..][..2].copy_from_slice(&pseudo.to_be_bytes());
            checksum::complete(&mut segment, CHECKSUM_OFFSET);
            prop_assert_eq!(segment, emitted(repr(sequence.wrapping_add(by), flags & 0x77)));
        }

        #[test]
        fn any_bytes_are_taken(segment in hostile(signed()), (from, to) in addresses()) {
            if let Ok(view) = View::new(&segment) {
                prop_assert_eq!(view.data_offset() + view.payload().len(), segment.len());
                let _ = (view.verify_checksum(from, to), Repr::parse(&view));
                for _ in view.options() {}
            }
        }

        #[test]
        fn a_walk_over_any_options_ends_and_stays_in_them(bytes: Vec<u8>) {
            let walked: usize = Options::new(&bytes).map(|option| 2 + option.data.len()).sum();
            prop_assert!(walked <= bytes.len());
        }
    }

    #[test]
    fn options_are_walked_over_paddings_up_to_the_end() {
        let bytes = [
            option::NOP,
            option::MSS,
            4,
            5,
            0xb4,
            1,
            1,
            option::MD5,
            3,
            9,
            option::END,
            2,
            4,
            0,
            0,
        ];
        let walked: Vec<_> =
            Options::new(&bytes).map(|option| (option.kind, option.data)).collect();
        assert_eq!(walked, [(option::MSS, &[5, 0xb4][..]), (option::MD5, &[9])]);
    }

    #[test]
    fn an_option_of_a_wrong_length_ends_the_walk_for_good() {
        for bytes in [&[8, 0, 8, 2, 8, 2][..], &[8, 1, 8, 2, 8, 2], &[8, 7, 8, 2, 8, 2], &[8]] {
            let mut options = Options::new(bytes);
            assert_eq!(options.next(), None);
            assert_eq!(options.next(), None);
        }
    }

    /// RFC 2385 section 2.0.
    #[test]
    fn the_signed_header_has_no_options_and_no_checksum() {
        let segment = signed();
        let view = View::new(&segment).unwrap();
        let mut expected = segment[..20].to_vec();
        assert_ne!(expected[16..18], [0, 0]);
        expected[16..18].fill(0);
        assert_eq!(view.signed_header(), *expected);
    }

    #[test]
    fn data_offsets_that_cannot_be_are_refused() {
        let mut segment = signed();
        for words in 0..5 {
            segment[12] = words << 4;
            assert_eq!(View::new(&segment).err(), Some(Error::Malformed), "{words}");
        }
        segment[12] = 0xf0;
        assert_eq!(View::new(&segment).err(), Some(Error::Truncated));
    }

    #[test]
    fn flags_contain_all_of_what_is_asked() {
        let flags = Flags::SYN | Flags::ACK;
        assert!(flags.contains(Flags::SYN) && flags.contains(Flags::ACK | Flags::SYN));
        assert!(!flags.contains(Flags::SYN | Flags::RST));
    }

    fn signed() -> Vec<u8> {
        let mut options = [7; 18];
        options[..2].copy_from_slice(&[option::MD5, 18]);
        let repr = Repr {
            source_port: 179,
            destination_port: 50_000,
            sequence: 1,
            acknowledgement: 2,
            flags: Flags::ACK,
            window: 4096,
            urgent: 0,
            options: &options,
            payload_len: 0,
        };
        let mut segment = vec![0; repr.buffer_len()];
        repr.emit([192, 0, 2, 1].into(), [192, 0, 2, 2].into(), &[], &mut segment);
        segment
    }
}

//! The IPv4 header (RFC 791). Options are skipped over and never sent.

use std::net::Ipv4Addr;

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::wire::{Error, checksum, front_mut, put, split};

/// Bytes of a header without options.
pub const MIN_HEADER_LEN: usize = size_of::<Header>();

/// Version 4 and a header of five words.
const VERSION_AND_LEN: u8 = 0x45;
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    version_and_len: u8,
    /// DSCP in the upper six bits, ECN in the lower two (RFC 2474, RFC 3168).
    service: u8,
    total_len: U16,
    identification: U16,
    flags_and_offset: U16,
    ttl: u8,
    protocol: u8,
    checksum: U16,
    source: [u8; 4],
    destination: [u8; 4],
}

/// A packet in place. Construction checks version, header length and total length; what lies
/// behind the total length (Ethernet padding) is not part of the view. The header checksum is a
/// check of its own, [`View::verify_checksum`].
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    header: &'a Header,
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> View<'a> {
    #[inline]
    pub fn new(packet: &'a [u8]) -> Result<Self, Error> {
        let (header, rest) = split::<Header>(packet)?;
        // Any other version wraps to more than a header has.
        let options_len = header.version_and_len.wrapping_sub(VERSION_AND_LEN) as usize * 4;
        let rest_len = (header.total_len.get() as usize).checked_sub(MIN_HEADER_LEN);
        let (Some(rest_len), 0..=40) = (rest_len, options_len) else {
            return Err(Error::Malformed);
        };
        let rest = rest.get(..rest_len).ok_or(Error::Truncated)?;
        let (options, payload) = rest.split_at_checked(options_len).ok_or(Error::Malformed)?;
        Ok(Self { header, options, payload })
    }

    /// Bytes of the header with its options.
    #[inline]
    pub const fn header_len(&self) -> usize {
        MIN_HEADER_LEN + self.options.len()
    }

    /// Bytes of header and payload.
    #[inline]
    pub const fn total_len(&self) -> usize {
        self.header.total_len.get() as usize
    }

    /// Differentiated services code point, 6 bits.
    #[inline]
    pub const fn dscp(&self) -> u8 {
        self.header.service >> 2
    }

    #[inline]
    pub const fn identification(&self) -> u16 {
        self.header.identification.get()
    }

    #[inline]
    pub const fn dont_fragment(&self) -> bool {
        self.header.flags_and_offset.get() & DONT_FRAGMENT != 0
    }

    /// Whether this is a part of a packet: the first, a middle or the last.
    #[inline]
    pub const fn is_fragment(&self) -> bool {
        self.header.flags_and_offset.get() & (MORE_FRAGMENTS | OFFSET_MASK) != 0
    }

    /// Where this fragment's payload belongs, in bytes.
    #[inline]
    pub const fn fragment_offset(&self) -> usize {
        (self.header.flags_and_offset.get() & OFFSET_MASK) as usize * 8
    }

    #[inline]
    pub const fn ttl(&self) -> u8 {
        self.header.ttl
    }

    #[inline]
    pub const fn protocol(&self) -> u8 {
        self.header.protocol
    }

    #[inline]
    pub const fn source(&self) -> Ipv4Addr {
        Ipv4Addr::from_octets(self.header.source)
    }

    #[inline]
    pub const fn destination(&self) -> Ipv4Addr {
        Ipv4Addr::from_octets(self.header.destination)
    }

    #[inline]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Whether the header checksum is right.
    #[inline]
    pub fn verify_checksum(&self) -> bool {
        let header = checksum::sum(self.header.as_bytes());
        checksum::combine(&[header, checksum::sum(self.options)]) == checksum::VALID
    }
}

/// A header of a whole packet without options.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Repr {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub protocol: u8,
    pub ttl: u8,
    /// 6 bits.
    pub dscp: u8,
    pub identification: u16,
    pub dont_fragment: bool,
    /// Bytes behind the header, at most 65,515.
    pub payload_len: usize,
}

impl Repr {
    /// `Malformed` for a fragment, which this value cannot say; `Checksum` when it is wrong.
    /// Options and ECN are dropped.
    pub fn parse(view: &View<'_>) -> Result<Self, Error> {
        if view.is_fragment() {
            return Err(Error::Malformed);
        }
        if !view.verify_checksum() {
            return Err(Error::Checksum);
        }
        Ok(Self {
            source: view.source(),
            destination: view.destination(),
            protocol: view.protocol(),
            ttl: view.ttl(),
            dscp: view.dscp(),
            identification: view.identification(),
            dont_fragment: view.dont_fragment(),
            payload_len: view.payload.len(),
        })
    }

    /// Bytes of the header; the payload is the caller's.
    pub const fn buffer_len(&self) -> usize {
        MIN_HEADER_LEN
    }

    pub fn emit(&self, buffer: &mut [u8]) {
        let mut header = Header {
            version_and_len: VERSION_AND_LEN,
            service: self.dscp << 2,
            total_len: ((MIN_HEADER_LEN + self.payload_len) as u16).into(),
            identification: self.identification.into(),
            flags_and_offset: if self.dont_fragment { DONT_FRAGMENT } else { 0 }.into(),
            ttl: self.ttl,
            protocol: self.protocol,
            checksum: U16::ZERO,
            source: self.source.octets(),
            destination: self.destination.octets(),
        };
        header.checksum = checksum::finish(checksum::sum(header.as_bytes())).into();
        put(&header, buffer);
    }
}

/// Takes one off the TTL, with the incremental checksum (RFC 1624). A TTL of zero, and bytes too
/// short for a header, are left as they are: a [`View`] has shown the caller what it has.
#[inline]
pub fn decrement_ttl(packet: &mut [u8]) {
    let Some(header) = front_mut::<Header>(packet) else { return };
    let before = u16::from_be_bytes([header.ttl, header.protocol]);
    let Some(ttl) = header.ttl.checked_sub(1) else { return };
    header.ttl = ttl;
    let after = u16::from_be_bytes([header.ttl, header.protocol]);
    header.checksum = checksum::update(header.checksum.get(), before, after).into();
}

/// Makes the header that of a packet of `total_len` bytes, its identification `advance` further,
/// with the incremental checksum (RFC 1624). Bytes too short for a header are left as they are.
#[inline]
pub fn resize(packet: &mut [u8], total_len: u16, advance: u16) {
    let Some(header) = front_mut::<Header>(packet) else { return };
    let identification = header.identification.get().wrapping_add(advance);
    let checksum = header.checksum.get();
    let checksum = checksum::update(checksum, header.total_len.get(), total_len);
    let checksum = checksum::update(checksum, header.identification.get(), identification);
    header.total_len = total_len.into();
    header.identification = identification.into();
    header.checksum = checksum.into();
}

#[cfg(test)]
mod tests {
    use etherparse::Ipv4Header;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::tests::hostile;

    proptest! {
        #[test]
        fn what_is_emitted_is_parsed(repr in repr(), padding in 0..30_usize) {
            let mut packet = emitted(&repr);
            packet.resize(packet.len() + padding, 0);
            let view = View::new(&packet).unwrap();
            prop_assert_eq!(Repr::parse(&view), Ok(repr));
            prop_assert_eq!(view.payload(), vec![0xee; repr.payload_len]);
            prop_assert_eq!((view.header_len(), view.total_len()), (20, 20 + repr.payload_len));
        }

        #[test]
        fn a_decrement_is_a_recomputation(mut repr in repr()) {
            let mut packet = emitted(&repr);
            decrement_ttl(&mut packet);
            repr.ttl = repr.ttl.saturating_sub(1);
            prop_assert_eq!(packet, emitted(&repr));
        }

        #[test]
        fn a_resize_is_a_recomputation(mut repr in repr(), len in 0..60_usize, advance: u16) {
            let mut packet = emitted(&repr);
            resize(&mut packet, (MIN_HEADER_LEN + len) as u16, advance);
            repr.payload_len = len;
            repr.identification = repr.identification.wrapping_add(advance);
            prop_assert_eq!(&packet[..MIN_HEADER_LEN], &emitted(&repr)[..MIN_HEADER_LEN]);
        }

        #[test]
        fn any_bytes_are_taken(mut packet in repr().prop_flat_map(|repr| hostile(emitted(&repr)))) {
            if let Ok(view) = View::new(&packet) {
                prop_assert_eq!(view.header_len() + view.payload().len(), view.total_len());
                prop_assert!(view.total_len() <= packet.len());
                let (other, _) = Ipv4Header::from_slice(&packet).unwrap();
                let valid = other.calc_header_checksum() == other.header_checksum;
                // The other one loses the reserved flag (RFC 791: must be zero) and sums without it.
                if packet[6] & 0x80 == 0 {
                    prop_assert_eq!(view.verify_checksum(), valid || is_negative_zero(&other));
                }
                let offset = other.fragment_offset.byte_offset() as usize;
                prop_assert_eq!(view.fragment_offset(), offset);
                prop_assert_eq!(view.is_fragment(), other.is_fragmenting_payload());
                prop_assert_eq!(view.dont_fragment(), other.dont_fragment);
                prop_assert_eq!(view.header_len(), other.header_len());
                let payload = &packet[other.header_len()..other.total_len as usize];
                prop_assert_eq!(view.payload(), payload);
                let _ = Repr::parse(&view);
            }
            decrement_ttl(&mut packet);
        }
    }

    #[test]
    fn options_are_skipped_and_covered_by_the_checksum() {
        let mut other =
            Ipv4Header::new(4, 64, etherparse::IpNumber::UDP, [192, 0, 2, 1], [192, 0, 2, 2])
                .unwrap();
        other.options = [7, 7, 4, 0, 0, 0, 0, 0].into();
        other.set_payload_len(4).unwrap();
        other.header_checksum = other.calc_header_checksum();
        let mut packet = [other.to_bytes().as_slice(), b"data"].concat();
        let view = View::new(&packet).unwrap();
        assert_eq!((view.header_len(), view.total_len()), (28, 32));
        assert_eq!(view.payload(), b"data");
        assert!(view.verify_checksum());
        packet[21] ^= 1;
        let view = View::new(&packet).unwrap();
        assert_eq!(Repr::parse(&view), Err(Error::Checksum));
    }

    #[test]
    fn versions_and_lengths_that_cannot_be_are_refused() {
        let good = emitted(&Repr { payload_len: 60, ..sample() });
        for first in (0..=255_u8).filter(|first| !(0x45..=0x4f).contains(first)) {
            let mut packet = good.clone();
            packet[0] = first;
            assert_eq!(View::new(&packet).err(), Some(Error::Malformed), "{first:#x}");
        }
        for total_len in 0..20 {
            let mut packet = good.clone();
            packet[3] = total_len;
            assert_eq!(View::new(&packet).err(), Some(Error::Malformed), "{total_len}");
        }
        for len in 0..good.len() {
            assert_eq!(View::new(&good[..len]).err(), Some(Error::Truncated), "{len}");
        }
        // Options that reach behind the total length, though not behind the bytes.
        let mut packet = good;
        packet[..4].copy_from_slice(&[0x4a, 0, 0, 39]);
        assert_eq!(View::new(&packet).err(), Some(Error::Malformed));
    }

    #[test]
    fn a_fragment_is_no_packet() {
        for (high, low, offset) in [(0x20, 0, 0), (0, 1, 8), (0x3f, 0xff, 65_528)] {
            let mut packet = emitted(&sample());
            (packet[6], packet[7]) = (high, low);
            let view = View::new(&packet).unwrap();
            assert!(view.is_fragment());
            assert_eq!(view.fragment_offset(), offset);
            assert_eq!(Repr::parse(&view), Err(Error::Malformed));
        }
    }

    /// The largest packet fills the length field.
    #[test]
    fn the_largest_packet_has_all_bits_of_its_length() {
        let packet = emitted(&Repr { payload_len: 65_515, ..sample() });
        assert_eq!(View::new(&packet).unwrap().total_len(), 65_535);
    }

    fn sample() -> Repr {
        Repr {
            source: Ipv4Addr::new(192, 0, 2, 1),
            destination: Ipv4Addr::new(192, 0, 2, 2),
            protocol: 17,
            ttl: 64,
            dscp: 46,
            identification: 7,
            dont_fragment: true,
            payload_len: 12,
        }
    }

    fn repr() -> impl Strategy<Value = Repr> {
        let addresses = any::<(Ipv4Addr, Ipv4Addr)>();
        let rest = (any::<(u8, u8)>(), 0..64_u8, any::<(u16, bool)>(), 0..60_usize);
        (addresses, rest).prop_map(|((source, destination), (bytes, dscp, words, payload_len))| {
            Repr {
                source,
                destination,
                protocol: bytes.0,
                ttl: bytes.1,
                dscp,
                identification: words.0,
                dont_fragment: words.1,
                payload_len,
            }
        })
    }

    fn emitted(repr: &Repr) -> Vec<u8> {
        let mut packet = vec![0xee; repr.buffer_len() + repr.payload_len];
        repr.emit(&mut packet);
        packet
    }

    /// 0xffff for a computed 0: the other zero of ones' complement, which sums to a valid header.
    fn is_negative_zero(header: &Ipv4Header) -> bool {
        (header.calc_header_checksum(), header.header_checksum) == (0, 0xffff)
    }
}

//! The IPv6 header (RFC 8200). Extension headers are payload here.

use std::net::Ipv6Addr;

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::wire::{Error, front_mut, put, split};

/// Bytes of the header.
pub const HEADER_LEN: usize = size_of::<Header>();

const FLOW_LABEL_MASK: u32 = 0x000f_ffff;

#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    version_class_flow: U32,
    payload_len: U16,
    /// The next header.
    next: u8,
    hop_limit: u8,
    source: [u8; 16],
    destination: [u8; 16],
}

/// A packet in place. Construction checks version and payload length; what lies behind the payload
/// (Ethernet padding) is not part of the view.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    header: &'a Header,
    payload: &'a [u8],
}

impl<'a> View<'a> {
    #[inline]
    pub fn new(packet: &'a [u8]) -> Result<Self, Error> {
        let (header, rest) = split::<Header>(packet)?;
        if header.version_class_flow.get() >> 28 != 6 {
            return Err(Error::Malformed);
        }
        let payload = rest.get(..header.payload_len.get() as usize).ok_or(Error::Truncated)?;
        Ok(Self { header, payload })
    }

    /// Bytes behind the header.
    #[inline]
    pub const fn payload_len(&self) -> usize {
        self.payload.len()
    }

    #[inline]
    pub const fn next_header(&self) -> u8 {
        self.header.next
    }

    #[inline]
    pub const fn hop_limit(&self) -> u8 {
        self.header.hop_limit
    }

    /// DSCP in the upper six bits, ECN in the lower two.
    #[inline]
    pub const fn traffic_class(&self) -> u8 {
        (self.header.version_class_flow.get() >> 20) as u8
    }

    /// 20 bits.
    #[inline]
    pub const fn flow_label(&self) -> u32 {
        self.header.version_class_flow.get() & FLOW_LABEL_MASK
    }

    #[inline]
    pub const fn source(&self) -> Ipv6Addr {
        Ipv6Addr::from_octets(self.header.source)
    }

    #[inline]
    pub const fn destination(&self) -> Ipv6Addr {
        Ipv6Addr::from_octets(self.header.destination)
    }

    #[inline]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// A header with flow label zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Repr {
    pub source: Ipv6Addr,
    pub destination: Ipv6Addr,
    pub next_header: u8,
    pub hop_limit: u8,
    /// DSCP in the upper six bits, ECN in the lower two.
    pub traffic_class: u8,
    /// Bytes behind the header, at most 65,535.
    pub payload_len: usize,
}

impl Repr {
    /// The flow label is dropped.
    pub fn parse(view: &View<'_>) -> Result<Self, Error> {
        Ok(Self {
            source: view.source(),
            destination: view.destination(),
            next_header: view.next_header(),
            hop_limit: view.hop_limit(),
            traffic_class: view.traffic_class(),
            payload_len: view.payload_len(),
        })
    }

    /// Bytes of the header; the payload is the caller's.
    pub const fn buffer_len(&self) -> usize {
        HEADER_LEN
    }

    pub fn emit(&self, buffer: &mut [u8]) {
        let header = Header {
            version_class_flow: (6 << 28 | (self.traffic_class as u32) << 20).into(),
            payload_len: (self.payload_len as u16).into(),
            next: self.next_header,
            hop_limit: self.hop_limit,
            source: self.source.octets(),
            destination: self.destination.octets(),
        };
        put(&header, buffer);
    }
}

/// Takes one off the hop limit. Zero, and bytes too short for a header, are left as they are: a
/// [`View`] has shown the caller what it has.
#[inline]
pub fn decrement_hop_limit(packet: &mut [u8]) {
    if let Some(header) = front_mut::<Header>(packet) {
        header.hop_limit = header.hop_limit.saturating_sub(1);
    }
}

/// Makes the header that of a packet with `payload_len` bytes behind it. Bytes too short for a
/// header are left as they are.
#[inline]
pub fn resize(packet: &mut [u8], payload_len: u16) {
    if let Some(header) = front_mut::<Header>(packet) {
        header.payload_len = payload_len.into();
    }
}

#[cfg(test)]
mod tests {
    use etherparse::Ipv6Header;
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
            prop_assert_eq!(view.flow_label(), 0);
        }

        #[test]
        fn a_decrement_changes_the_hop_limit_alone(mut repr in repr()) {
            let mut packet = emitted(&repr);
            decrement_hop_limit(&mut packet);
            repr.hop_limit = repr.hop_limit.saturating_sub(1);
            prop_assert_eq!(packet, emitted(&repr));
        }

        #[test]
        fn any_bytes_are_taken(mut packet in repr().prop_flat_map(|repr| hostile(emitted(&repr)))) {
            if let Ok(view) = View::new(&packet) {
                let (other, rest) = Ipv6Header::from_slice(&packet).unwrap();
                prop_assert_eq!(view.flow_label(), other.flow_label.value());
                prop_assert_eq!(view.traffic_class(), other.traffic_class);
                prop_assert_eq!(view.next_header(), other.next_header.0);
                prop_assert_eq!(view.payload(), &rest[..other.payload_length as usize]);
                let _ = Repr::parse(&view);
            }
            decrement_hop_limit(&mut packet);
        }
    }

    #[test]
    fn versions_and_lengths_that_cannot_be_are_refused() {
        let addresses = (Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED);
        let good = emitted(&Repr {
            source: addresses.0,
            destination: addresses.1,
            next_header: 17,
            hop_limit: 64,
            traffic_class: 0xb8,
            payload_len: 12,
        });
        for version in (0..16).filter(|version| *version != 6) {
            let mut packet = good.clone();
            packet[0] = version << 4 | 0xb;
            assert_eq!(View::new(&packet).err(), Some(Error::Malformed), "{version}");
        }
        for len in 0..good.len() {
            assert_eq!(View::new(&good[..len]).err(), Some(Error::Truncated), "{len}");
        }
    }

    fn repr() -> impl Strategy<Value = Repr> {
        let parts = (any::<(Ipv6Addr, Ipv6Addr)>(), any::<(u8, u8, u8)>(), 0..60_usize);
        parts.prop_map(|((source, destination), bytes, payload_len)| Repr {
            source,
            destination,
            next_header: bytes.0,
            hop_limit: bytes.1,
            traffic_class: bytes.2,
            payload_len,
        })
    }

    fn emitted(repr: &Repr) -> Vec<u8> {
        let mut packet = vec![0xee; repr.buffer_len() + repr.payload_len];
        repr.emit(&mut packet);
        packet
    }
}

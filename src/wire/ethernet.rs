//! The Ethernet II header. [`crate::wire::vlan`] reads the tags behind it.

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::wire::{Error, MacAddr, put, split};

/// Bytes of the header without tags.
pub const HEADER_LEN: usize = size_of::<Header>();

#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct Header {
    pub(super) destination: MacAddr,
    pub(super) source: MacAddr,
    pub(super) ethertype: U16,
}

/// A frame in place.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    header: &'a Header,
    payload: &'a [u8],
}

impl<'a> View<'a> {
    #[inline]
    pub fn new(frame: &'a [u8]) -> Result<Self, Error> {
        let (header, payload) = split(frame)?;
        Ok(Self { header, payload })
    }

    #[inline]
    pub const fn destination(&self) -> MacAddr {
        self.header.destination
    }

    #[inline]
    pub const fn source(&self) -> MacAddr {
        self.header.source
    }

    /// The EtherType, which is the outer tag's TPID in a tagged frame.
    #[inline]
    pub const fn ethertype(&self) -> u16 {
        self.header.ethertype.get()
    }

    /// What follows the EtherType, tags and padding included.
    #[inline]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// An Ethernet header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Repr {
    pub destination: MacAddr,
    pub source: MacAddr,
    pub ethertype: u16,
}

impl Repr {
    pub fn parse(view: &View<'_>) -> Result<Self, Error> {
        Ok(Self {
            destination: view.destination(),
            source: view.source(),
            ethertype: view.ethertype(),
        })
    }

    pub const fn buffer_len(&self) -> usize {
        HEADER_LEN
    }

    pub fn emit(&self, buffer: &mut [u8]) {
        let ethertype = self.ethertype.into();
        put(&Header { destination: self.destination, source: self.source, ethertype }, buffer);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::tests::{hostile, mac};

    proptest! {
        #[test]
        fn what_is_emitted_is_parsed(destination in mac(), source in mac(), ethertype: u16) {
            let repr = Repr { destination, source, ethertype };
            let mut frame = vec![0xee; repr.buffer_len() + 3];
            repr.emit(&mut frame);
            let view = View::new(&frame).unwrap();
            prop_assert_eq!(Repr::parse(&view), Ok(repr));
            prop_assert_eq!(view.payload(), [0xee; 3]);
        }

        #[test]
        fn any_bytes_are_taken(frame in hostile(vec![0x81; 16])) {
            prop_assert_eq!(View::new(&frame).is_ok(), frame.len() >= HEADER_LEN);
        }
    }
}

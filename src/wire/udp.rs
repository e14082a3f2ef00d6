//! The UDP header (RFC 768), and its checksum over IPv4 and IPv6.

use std::mem::offset_of;
use std::net::IpAddr;

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::wire::{Error, checksum, front_mut, protocol, put, split};

/// Bytes of the header.
pub const HEADER_LEN: usize = size_of::<Header>();
/// Bytes of the header in front of the checksum.
pub const CHECKSUM_OFFSET: usize = offset_of!(Header, checksum);

#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    source_port: U16,
    destination_port: U16,
    length: U16,
    checksum: U16,
}

/// A datagram in place. Construction checks the length field; what lies behind it is not part of
/// the view.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    header: &'a Header,
    payload: &'a [u8],
}

impl<'a> View<'a> {
    #[inline]
    pub fn new(datagram: &'a [u8]) -> Result<Self, Error> {
        let (header, rest) = split::<Header>(datagram)?;
        let payload_len = (header.length.get() as usize).checked_sub(HEADER_LEN);
        let payload_len = payload_len.ok_or(Error::Malformed)?;
        let payload = rest.get(..payload_len).ok_or(Error::Truncated)?;
        Ok(Self { header, payload })
    }

    #[inline]
    pub const fn source_port(&self) -> u16 {
        self.header.source_port.get()
    }

    #[inline]
    pub const fn destination_port(&self) -> u16 {
        self.header.destination_port.get()
    }

    /// Bytes of header and payload.
    #[inline]
    pub const fn length(&self) -> usize {
        self.header.length.get() as usize
    }

    #[inline]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Whether the checksum is right for a packet between these addresses. None (zero) is right
    /// over IPv4 and wrong over IPv6 (RFC 8200 section 8.1).
    pub fn verify_checksum(&self, source: IpAddr, destination: IpAddr) -> bool {
        if self.header.checksum == U16::ZERO {
            return destination.is_ipv4();
        }
        sum(source, destination, self.header, self.payload) == checksum::VALID
    }
}

/// A datagram's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Repr {
    pub source_port: u16,
    pub destination_port: u16,
    /// Bytes behind the header, at most 65,527.
    pub payload_len: usize,
}

impl Repr {
    /// The caller has asked [`View::verify_checksum`].
    pub fn parse(view: &View<'_>) -> Result<Self, Error> {
        Ok(Self {
            source_port: view.source_port(),
            destination_port: view.destination_port(),
            payload_len: view.payload.len(),
        })
    }

    /// Bytes of header and payload.
    pub const fn buffer_len(&self) -> usize {
        HEADER_LEN + self.payload_len
    }

    /// Writes the datagram as a packet between these addresses carries it. `payload` has
    /// `payload_len` bytes.
    pub fn emit(&self, source: IpAddr, destination: IpAddr, payload: &[u8], buffer: &mut [u8]) {
        let mut header = Header {
            source_port: self.source_port.into(),
            destination_port: self.destination_port.into(),
            length: (self.buffer_len() as u16).into(),
            checksum: U16::ZERO,
        };
        let computed = checksum::finish(sum(source, destination, &header, payload));
        // Zero would say that there is no checksum (RFC 768).
        header.checksum = if computed == 0 { 0xffff } else { computed }.into();
        put(&header, buffer)[..self.payload_len].copy_from_slice(payload);
    }
}

/// Makes the header that of a datagram of `length` bytes. The checksum is the caller's; bytes too
/// short for a header are left as they are.
pub fn resize(datagram: &mut [u8], length: u16) {
    if let Some(header) = front_mut::<Header>(datagram) {
        header.length = length.into();
    }
}

/// The sum of a datagram with its pseudo-header.
fn sum(source: IpAddr, destination: IpAddr, header: &Header, payload: &[u8]) -> u16 {
    let len = HEADER_LEN + payload.len();
    let pseudo = checksum::pseudo_header(source, destination, protocol::UDP, len);
    checksum::combine(&[pseudo, checksum::sum(header.as_bytes()), checksum::sum(payload)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::tests::{addresses, hostile};

    proptest! {
        #[test]
        fn what_is_emitted_is_parsed(
            ports: (u16, u16), payload: Vec<u8>, (from, to) in addresses(), padding in 0..9_usize,
        ) {
            let (source_port, destination_port) = ports;
            let repr = Repr { source_port, destination_port, payload_len: payload.len() };
            let mut datagram = vec![0; repr.buffer_len() + padding];
            repr.emit(from, to, &payload, &mut datagram);
            let view = View::new(&datagram).unwrap();
            prop_assert_eq!(Repr::parse(&view), Ok(repr));
            prop_assert_eq!(view.payload(), payload);
            prop_assert!(view.verify_checksum(from, to));
        }

        #[test]
        fn any_bytes_are_taken(datagram in hostile(sample(&[1, 2, 3])), (from, to) in addresses()) {
            if let Ok(view) = View::new(&datagram) {
                prop_assert_eq!(view.length(), HEADER_LEN + view.payload().len());
                let _ = (view.verify_checksum(from, to), Repr::parse(&view));
            }
        }
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        let mut datagram = sample(&[1, 2, 3]);
        for len in 0..datagram.len() {
            assert_eq!(View::new(&datagram[..len]).err(), Some(Error::Truncated), "{len}");
        }
        for length in 0..8 {
            datagram[5] = length;
            assert_eq!(View::new(&datagram).err(), Some(Error::Malformed), "{length}");
        }
    }

    /// RFC 768: a computed zero is sent as all ones.
    #[test]
    fn a_checksum_of_zero_is_never_sent() {
        let first = sample(&[0, 0]);
        let datagram = sample(&first[6..8]);
        assert_eq!(datagram[6..8], [0xff, 0xff]);
        assert!(
            View::new(&datagram)
                .unwrap()
                .verify_checksum([192, 0, 2, 1].into(), [192, 0, 2, 2].into())
        );
    }

    /// RFC 768, RFC 8200 section 8.1.
    #[test]
    fn no_checksum_is_right_over_ipv4_only() {
        let mut datagram = sample(&[1, 2, 3]);
        datagram[6..8].fill(0);
        let view = View::new(&datagram).unwrap();
        assert!(view.verify_checksum([192, 0, 2, 1].into(), [192, 0, 2, 2].into()));
        assert!(!view.verify_checksum([1; 16].into(), [2; 16].into()));
        datagram[7] = 1;
        let view = View::new(&datagram).unwrap();
        assert!(!view.verify_checksum([192, 0, 2, 1].into(), [192, 0, 2, 2].into()));
    }

    fn sample(payload: &[u8]) -> Vec<u8> {
        let repr = Repr { source_port: 49152, destination_port: 3784, payload_len: payload.len() };
        let mut datagram = vec![0; repr.buffer_len()];
        repr.emit([192, 0, 2, 1].into(), [192, 0, 2, 2].into(), payload, &mut datagram);
        datagram
    }
}

//! ICMPv6 (RFC 4443): echo, and the errors a router sends. Neighbor discovery has
//! [a module of its own](crate::wire::ndp).

use std::net::Ipv6Addr;

use zerocopy::IntoBytes;
use zerocopy::network_endian::U16;

use crate::wire::icmp::{Header, echo};
use crate::wire::{Error, checksum, ipv6, protocol, put, split};

/// Bytes in front of the data or the quoted packet.
pub const HEADER_LEN: usize = size_of::<Header>();
/// Most bytes of the offending packet that an error quotes: the whole error fits the minimum MTU
/// of 1280 bytes (RFC 4443 section 2.4 c).
pub const ORIGINAL_MAX: usize = 1280 - ipv6::HEADER_LEN - HEADER_LEN;

/// Message types (IANA, ICMPv6 parameters).
pub mod kind {
    pub(super) const DESTINATION_UNREACHABLE: u8 = 1;
    pub(super) const PACKET_TOO_BIG: u8 = 2;
    pub(super) const TIME_EXCEEDED: u8 = 3;
    pub const ECHO_REQUEST: u8 = 128;
    pub const ECHO_REPLY: u8 = 129;
    pub const NEIGHBOR_SOLICIT: u8 = 135;
    pub const NEIGHBOR_ADVERT: u8 = 136;
}

/// Destination unreachable codes (RFC 4443 section 3.1).
pub mod unreachable {
    pub const NO_ROUTE: u8 = 0;
    pub const ADMINISTRATIVELY_PROHIBITED: u8 = 1;
    pub const ADDRESS: u8 = 3;
    pub const PORT: u8 = 4;
}

/// As much of an offending `packet` as an error may quote.
pub fn original(packet: &[u8]) -> &[u8] {
    &packet[..packet.len().min(ORIGINAL_MAX)]
}

/// A message in place. Construction checks the length; the checksum needs the addresses and is a
/// check of its own, [`View::verify_checksum`].
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    header: &'a Header,
    body: &'a [u8],
}

impl<'a> View<'a> {
    /// `message` is the whole payload of the IP packet, which the checksum covers.
    pub fn new(message: &'a [u8]) -> Result<Self, Error> {
        let (header, body) = split(message)?;
        Ok(Self { header, body })
    }

    /// The message's type.
    pub const fn kind(&self) -> u8 {
        self.header.kind
    }

    pub const fn code(&self) -> u8 {
        self.header.code
    }

    /// Whether the checksum is right for a packet between these addresses.
    pub fn verify_checksum(&self, source: Ipv6Addr, destination: Ipv6Addr) -> bool {
        sum(source, destination, self.header.as_bytes(), self.body) == checksum::VALID
    }
}

/// A message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Repr<'a> {
    EchoRequest {
        ident: u16,
        sequence: u16,
        data: &'a [u8],
    },
    EchoReply {
        ident: u16,
        sequence: u16,
        data: &'a [u8],
    },
    /// Hop limit exceeded in transit (code 0).
    TimeExceeded {
        original: &'a [u8],
    },
    DestinationUnreachable {
        code: u8,
        original: &'a [u8],
    },
    /// `mtu` is that of the next hop in bytes.
    PacketTooBig {
        mtu: u32,
        original: &'a [u8],
    },
}

impl<'a> Repr<'a> {
    /// `Malformed` for a type or code that is none of these. The caller has asked
    /// [`View::verify_checksum`].
    pub fn parse(view: &View<'a>) -> Result<Self, Error> {
        let rest = view.header.rest.get();
        let (ident, sequence) = ((rest >> 16) as u16, rest as u16);
        let body = view.body;
        Ok(match (view.kind(), view.code()) {
            (kind::ECHO_REQUEST, 0) => Self::EchoRequest { ident, sequence, data: body },
            (kind::ECHO_REPLY, 0) => Self::EchoReply { ident, sequence, data: body },
            (kind::TIME_EXCEEDED, 0) => Self::TimeExceeded { original: body },
            (kind::DESTINATION_UNREACHABLE, code) => {
                Self::DestinationUnreachable { code, original: body }
            }
            // The code is to be ignored (RFC 4443 section 3.2).
            (kind::PACKET_TOO_BIG, _) => Self::PacketTooBig { mtu: rest, original: body },
            _ => return Err(Error::Malformed),
        })
    }

    pub const fn buffer_len(&self) -> usize {
        HEADER_LEN + self.parts().3.len()
    }

    /// Writes the message as a packet between these addresses carries it.
    pub fn emit(&self, source: Ipv6Addr, destination: Ipv6Addr, buffer: &mut [u8]) {
        let (kind, code, rest, body) = self.parts();
        let mut header = Header { kind, code, checksum: U16::ZERO, rest: rest.into() };
        let sum = sum(source, destination, header.as_bytes(), body);
        header.checksum = checksum::finish(sum).into();
        put(&header, buffer)[..body.len()].copy_from_slice(body);
    }

    /// Type, code, the rest of the header, and what follows it.
    const fn parts(&self) -> (u8, u8, u32, &'a [u8]) {
        match *self {
            Self::EchoRequest { ident, sequence, data } => {
                (kind::ECHO_REQUEST, 0, echo(ident, sequence), data)
            }
            Self::EchoReply { ident, sequence, data } => {
                (kind::ECHO_REPLY, 0, echo(ident, sequence), data)
            }
            Self::TimeExceeded { original } => (kind::TIME_EXCEEDED, 0, 0, original),
            Self::DestinationUnreachable { code, original } => {
                (kind::DESTINATION_UNREACHABLE, code, 0, original)
            }
            Self::PacketTooBig { mtu, original } => (kind::PACKET_TOO_BIG, 0, mtu, original),
        }
    }
}

/// The sum of a message in two parts, the first of even length, with its pseudo-header.
pub(super) fn sum(source: Ipv6Addr, destination: Ipv6Addr, front: &[u8], back: &[u8]) -> u16 {
    let len = front.len() + back.len();
    let pseudo = checksum::pseudo_header(source.into(), destination.into(), protocol::ICMPV6, len);
    checksum::combine(&[pseudo, checksum::sum(front), checksum::sum(back)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::tests::hostile;

    proptest! {
        #[test]
        fn what_is_emitted_is_parsed(
            data: Vec<u8>, choice in 0..5_u8, words: (u16, u16),
            source: Ipv6Addr, destination: Ipv6Addr,
        ) {
            let repr = repr(&data, choice, words.0, words.1);
            let mut message = vec![0xee; repr.buffer_len()];
            repr.emit(source, destination, &mut message);
            let view = View::new(&message).unwrap();
            prop_assert!(view.verify_checksum(source, destination));
            prop_assert_eq!(Repr::parse(&view), Ok(repr));
        }

        #[test]
        fn a_changed_bit_is_noticed(
            data: Vec<u8>, at: prop::sample::Index, bit in 0..8_u8, to: Ipv6Addr,
        ) {
            let repr = repr(&data, 0, 1, 2);
            let mut message = vec![0; repr.buffer_len()];
            repr.emit(Ipv6Addr::LOCALHOST, to, &mut message);
            let at = at.index(message.len());
            message[at] ^= 1_u8 << bit;
            prop_assert!(!View::new(&message).unwrap().verify_checksum(Ipv6Addr::LOCALHOST, to));
        }

        #[test]
        fn any_bytes_are_taken(message in hostile(vec![1; 20]), to: Ipv6Addr) {
            if let Ok(view) = View::new(&message) {
                let _ = (view.verify_checksum(to, to), Repr::parse(&view));
            }
        }
    }

    #[test]
    fn types_and_codes_that_are_not_understood_are_refused() {
        for (kind, code) in [(128, 1), (kind::TIME_EXCEEDED, 1), (135, 0), (200, 0)] {
            let message = [kind, code, 0, 0, 0, 0, 0, 0];
            let view = View::new(&message).unwrap();
            assert_eq!(Repr::parse(&view), Err(Error::Malformed), "{kind} {code}");
        }
    }

    /// RFC 4443 section 2.4 c.
    #[test]
    fn an_error_fits_the_minimum_mtu() {
        let original = original(&[0; 1500]);
        assert_eq!(40 + Repr::PacketTooBig { mtu: 1400, original }.buffer_len(), 1280);
        assert_eq!(super::original(&[1, 2]), [1, 2]);
    }

    fn repr(data: &[u8], choice: u8, ident: u16, sequence: u16) -> Repr<'_> {
        match choice {
            0 => Repr::EchoRequest { ident, sequence, data },
            1 => Repr::EchoReply { ident, sequence, data },
            2 => Repr::TimeExceeded { original: data },
            3 => Repr::PacketTooBig { mtu: echo(ident, sequence), original: data },
            _ => Repr::DestinationUnreachable { code: ident as u8, original: data },
        }
    }
}

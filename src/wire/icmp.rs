//! ICMP for IPv4 (RFC 792): echo, and the errors a router sends.

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::wire::{Error, checksum, put, split};

/// Bytes in front of the data or the quoted packet.
pub const HEADER_LEN: usize = size_of::<Header>();
/// Most bytes of the offending packet that an error quotes: the whole error is at most 576 bytes
/// long (RFC 1812 section 4.3.2.3).
pub const ORIGINAL_MAX: usize = 576 - crate::wire::ipv4::MIN_HEADER_LEN - HEADER_LEN;

/// Message types (IANA, ICMP parameters).
mod kind {
    pub(super) const ECHO_REPLY: u8 = 0;
    pub(super) const DESTINATION_UNREACHABLE: u8 = 3;
    pub(super) const ECHO_REQUEST: u8 = 8;
    pub(super) const TIME_EXCEEDED: u8 = 11;
}

/// Destination unreachable codes (RFC 792, RFC 1812 section 5.2.7.1).
pub mod unreachable {
    pub const NETWORK: u8 = 0;
    pub const HOST: u8 = 1;
    pub const PORT: u8 = 3;
    pub(super) const FRAGMENTATION_NEEDED: u8 = 4;
    pub const ADMINISTRATIVELY_PROHIBITED: u8 = 13;
}

/// The part that every message of ICMP and of ICMPv6 has.
#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) code: u8,
    pub(super) checksum: U16,
    /// What the message makes of it: identifier and sequence, MTU, flags or nothing.
    pub(super) rest: U32,
}

/// As much of an offending `packet` as an error may quote.
pub fn original(packet: &[u8]) -> &[u8] {
    &packet[..packet.len().min(ORIGINAL_MAX)]
}

/// A message in place. Construction checks the length.
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

    /// Whether the checksum is right.
    pub fn verify_checksum(&self) -> bool {
        let header = checksum::sum(self.header.as_bytes());
        checksum::combine(&[header, checksum::sum(self.body)]) == checksum::VALID
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
    /// TTL exceeded in transit (code 0).
    TimeExceeded {
        original: &'a [u8],
    },
    /// `code` is any but 4, which is [`Repr::FragmentationNeeded`].
    DestinationUnreachable {
        code: u8,
        original: &'a [u8],
    },
    /// `mtu` is that of the next hop in bytes (RFC 1191 section 4).
    FragmentationNeeded {
        mtu: u16,
        original: &'a [u8],
    },
}

impl<'a> Repr<'a> {
    /// `Checksum` when it is wrong; `Malformed` for a type or code that is none of these.
    pub fn parse(view: &View<'a>) -> Result<Self, Error> {
        if !view.verify_checksum() {
            return Err(Error::Checksum);
        }
        let rest = view.header.rest.get();
        let (ident, sequence) = ((rest >> 16) as u16, rest as u16);
        let body = view.body;
        Ok(match (view.kind(), view.code()) {
            (kind::ECHO_REQUEST, 0) => Self::EchoRequest { ident, sequence, data: body },
            (kind::ECHO_REPLY, 0) => Self::EchoReply { ident, sequence, data: body },
            (kind::TIME_EXCEEDED, 0) => Self::TimeExceeded { original: body },
            (kind::DESTINATION_UNREACHABLE, unreachable::FRAGMENTATION_NEEDED) => {
                Self::FragmentationNeeded { mtu: sequence, original: body }
            }
            (kind::DESTINATION_UNREACHABLE, code) => {
                Self::DestinationUnreachable { code, original: body }
            }
            _ => return Err(Error::Malformed),
        })
    }

    pub const fn buffer_len(&self) -> usize {
        HEADER_LEN + self.parts().3.len()
    }

    pub fn emit(&self, buffer: &mut [u8]) {
        let (kind, code, rest, body) = self.parts();
        let mut header = Header { kind, code, checksum: U16::ZERO, rest: rest.into() };
        let sums = [checksum::sum(header.as_bytes()), checksum::sum(body)];
        header.checksum = checksum::finish(checksum::combine(&sums)).into();
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
            Self::FragmentationNeeded { mtu, original } => {
                let code = unreachable::FRAGMENTATION_NEEDED;
                (kind::DESTINATION_UNREACHABLE, code, mtu as u32, original)
            }
        }
    }
}

/// The rest of the header of an echo message.
pub(super) const fn echo(ident: u16, sequence: u16) -> u32 {
    (ident as u32) << 16 | sequence as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::tests::hostile;

    proptest! {
        #[test]
        fn what_is_emitted_is_parsed(data: Vec<u8>, choice in 0..5_u8, ident: u16, sequence: u16) {
            let repr = repr(&data, choice, ident, sequence);
            let message = emitted(&repr);
            prop_assert_eq!(Repr::parse(&View::new(&message).unwrap()), Ok(repr));
        }

        #[test]
        fn a_changed_bit_is_noticed(
            data: Vec<u8>, choice in 0..5_u8, at: prop::sample::Index, bit in 0..8_u8,
        ) {
            let mut message = emitted(&repr(&data, choice, 1, 2));
            let at = at.index(message.len());
            message[at] ^= 1_u8 << bit;
            prop_assert_eq!(Repr::parse(&View::new(&message).unwrap()), Err(Error::Checksum));
        }

        #[test]
        fn any_bytes_are_taken(mut message in hostile(emitted(&repr(&[7; 9], 3, 1, 2)))) {
            if message.len() >= HEADER_LEN {
                // With a right checksum, so that the rest of the parser is reached.
                message[2..4].fill(0);
                let checksum = checksum::finish(checksum::sum(&message));
                message[2..4].copy_from_slice(&checksum.to_be_bytes());
            }
            if let Ok(view) = View::new(&message) {
                prop_assert_ne!(Repr::parse(&view), Err(Error::Checksum));
            }
        }
    }

    #[test]
    fn types_and_codes_that_are_not_understood_are_refused() {
        for (kind, code) in [(kind::ECHO_REQUEST, 1), (kind::TIME_EXCEEDED, 1), (5, 0), (13, 0)] {
            let mut header = Header { kind, code, checksum: U16::ZERO, rest: U32::ZERO };
            header.checksum = checksum::finish(checksum::sum(header.as_bytes())).into();
            let view = View::new(header.as_bytes()).unwrap();
            assert_eq!(Repr::parse(&view), Err(Error::Malformed), "{kind} {code}");
        }
    }

    /// RFC 1812 section 4.3.2.3.
    #[test]
    fn an_error_is_at_most_576_bytes_long() {
        let original = original(&[0; 1500]);
        let repr = Repr::TimeExceeded { original };
        assert_eq!(20 + repr.buffer_len(), 576);
        assert_eq!(super::original(&[1, 2]), [1, 2]);
    }

    fn repr(data: &[u8], choice: u8, ident: u16, sequence: u16) -> Repr<'_> {
        match choice {
            0 => Repr::EchoRequest { ident, sequence, data },
            1 => Repr::EchoReply { ident, sequence, data },
            2 => Repr::TimeExceeded { original: data },
            3 => Repr::FragmentationNeeded { mtu: ident, original: data },
            _ => {
                let code = if ident as u8 == 4 { 13 } else { ident as u8 };
                Repr::DestinationUnreachable { code, original: data }
            }
        }
    }

    fn emitted(repr: &Repr) -> Vec<u8> {
        let mut message = vec![0xee; repr.buffer_len()];
        repr.emit(&mut message);
        message
    }
}

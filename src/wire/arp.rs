//! ARP for IPv4 on Ethernet (RFC 826).

use std::net::Ipv4Addr;

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::wire::{Error, MacAddr, ethertype, put, split};

/// Bytes of an ARP packet.
pub const LEN: usize = size_of::<Packet>();

/// Hardware type of Ethernet (IANA, ARP parameters).
const ETHERNET: u16 = 1;

#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Packet {
    hardware_type: U16,
    protocol_type: U16,
    hardware_len: u8,
    protocol_len: u8,
    operation: U16,
    sender_mac: MacAddr,
    sender: [u8; 4],
    target_mac: MacAddr,
    target: [u8; 4],
}

/// What an ARP packet asks or says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    Request = 1,
    Reply = 2,
}

/// An ARP packet in place. Construction checks that it is about IPv4 on Ethernet.
#[derive(Clone, Copy, Debug)]
pub struct View<'a>(&'a Packet);

impl<'a> View<'a> {
    pub fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        let (packet, _) = split::<Packet>(bytes)?;
        let kinds = (packet.hardware_type.get(), packet.protocol_type.get());
        let lengths = (packet.hardware_len, packet.protocol_len);
        if kinds != (ETHERNET, ethertype::IPV4) || lengths != (6, 4) {
            return Err(Error::Malformed);
        }
        Ok(Self(packet))
    }
}

/// An ARP packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Repr {
    pub operation: Operation,
    pub sender_mac: MacAddr,
    pub sender: Ipv4Addr,
    /// All zeros in a request.
    pub target_mac: MacAddr,
    pub target: Ipv4Addr,
}

impl Repr {
    /// `Malformed` when the operation is neither request nor reply.
    pub fn parse(view: &View<'_>) -> Result<Self, Error> {
        let packet = view.0;
        let operation = match packet.operation.get() {
            1 => Operation::Request,
            2 => Operation::Reply,
            _ => return Err(Error::Malformed),
        };
        Ok(Self {
            operation,
            sender_mac: packet.sender_mac,
            sender: packet.sender.into(),
            target_mac: packet.target_mac,
            target: packet.target.into(),
        })
    }

    pub const fn buffer_len(&self) -> usize {
        LEN
    }

    pub fn emit(&self, buffer: &mut [u8]) {
        let packet = Packet {
            hardware_type: ETHERNET.into(),
            protocol_type: ethertype::IPV4.into(),
            hardware_len: 6,
            protocol_len: 4,
            operation: (self.operation as u16).into(),
            sender_mac: self.sender_mac,
            sender: self.sender.octets(),
            target_mac: self.target_mac,
            target: self.target.octets(),
        };
        put(&packet, buffer);
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{ArpEthIpv4Packet, ArpOperation};
    use proptest::prelude::*;

    use super::*;
    use crate::wire::tests::{hostile, mac};

    proptest! {
        #[test]
        fn what_is_emitted_is_parsed_here_and_elsewhere(repr in repr()) {
            let bytes = emitted(&repr);
            prop_assert_eq!(Repr::parse(&View::new(&bytes).unwrap()), Ok(repr));
            let other = ArpEthIpv4Packet {
                operation: ArpOperation(repr.operation as u16),
                sender_mac: repr.sender_mac.0,
                sender_ipv4: repr.sender.octets(),
                target_mac: repr.target_mac.0,
                target_ipv4: repr.target.octets(),
            };
            prop_assert_eq!(bytes, other.to_bytes());
        }

        #[test]
        fn any_bytes_are_taken(bytes in repr().prop_flat_map(|repr| hostile(emitted(&repr)))) {
            if let Ok(repr) = View::new(&bytes).and_then(|view| Repr::parse(&view)) {
                prop_assert_eq!(emitted(&repr), &bytes[..LEN]);
            }
        }
    }

    #[test]
    fn what_is_not_ipv4_on_ethernet_is_refused() {
        let repr = Repr {
            operation: Operation::Request,
            sender_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            sender: Ipv4Addr::new(192, 0, 2, 1),
            target_mac: MacAddr::default(),
            target: Ipv4Addr::new(192, 0, 2, 2),
        };
        let good = emitted(&repr);
        for (at, value) in [(1, 6), (2, 0x86), (4, 8), (5, 16), (7, 3), (7, 0)] {
            let mut bytes = good.clone();
            bytes[at] = value;
            let parsed = View::new(&bytes).and_then(|view| Repr::parse(&view));
            assert_eq!(parsed, Err(Error::Malformed), "byte {at}");
        }
    }

    fn repr() -> impl Strategy<Value = Repr> {
        let operation = prop_oneof![Just(Operation::Request), Just(Operation::Reply)];
        let parts = (operation, mac(), any::<Ipv4Addr>(), mac(), any::<Ipv4Addr>());
        parts.prop_map(|(operation, sender_mac, sender, target_mac, target)| Repr {
            operation,
            sender_mac,
            sender,
            target_mac,
            target,
        })
    }

    fn emitted(repr: &Repr) -> Vec<u8> {
        let mut bytes = vec![0xee; repr.buffer_len()];
        repr.emit(&mut bytes);
        bytes
    }
}

//! Neighbor solicitations and advertisements (RFC 4861), and the addresses they are sent to.

use std::net::Ipv6Addr;

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::wire::icmp::Header;
use crate::wire::{Error, MacAddr, checksum, icmpv6, put, split};

/// Bytes of a message without options.
const MESSAGE_LEN: usize = size_of::<Message>();
/// Bytes of a link-layer address option, which is one unit of eight bytes.
const LINK_OPTION_LEN: usize = size_of::<LinkOption>();

/// Flags of an advertisement (RFC 4861 section 4.4).
const ROUTER: u32 = 0x8000_0000;
const SOLICITED: u32 = 0x4000_0000;
const OVERRIDE: u32 = 0x2000_0000;

/// Option types (RFC 4861 section 4.6).
const SOURCE_LINK: u8 = 1;
const TARGET_LINK: u8 = 2;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Message {
    /// The flags are in the rest of the header.
    icmp: Header,
    target: [u8; 16],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct LinkOption {
    kind: u8,
    units: u8,
    address: MacAddr,
}

/// A neighbor discovery message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Repr {
    NeighborSolicit {
        target: Ipv6Addr,
        source_link: Option<MacAddr>,
    },
    NeighborAdvert {
        target: Ipv6Addr,
        target_link: Option<MacAddr>,
        router: bool,
        solicited: bool,
        overriding: bool,
    },
}

impl Repr {
    /// Reads the whole payload of the IP packet, with the checks of RFC 4861 sections 7.1.1 and
    /// 7.1.2 that the message alone allows. The caller has checked the hop limit (255) and the
    /// checksum ([`icmpv6::View::verify_checksum`]).
    ///
    /// `Malformed` for another type, a code other than 0, a multicast target or a bad option.
    pub fn parse(message: &[u8]) -> Result<Self, Error> {
        let (Message { icmp, target }, options) = split::<Message>(message)?;
        let target = Ipv6Addr::from_octets(*target);
        if icmp.code != 0 || target.is_multicast() {
            return Err(Error::Malformed);
        }
        let flags = icmp.rest.get();
        match icmp.kind {
            icmpv6::kind::NEIGHBOR_SOLICIT => {
                let source_link = link_option(options, SOURCE_LINK)?;
                Ok(Self::NeighborSolicit { target, source_link })
            }
            icmpv6::kind::NEIGHBOR_ADVERT => Ok(Self::NeighborAdvert {
                target,
                target_link: link_option(options, TARGET_LINK)?,
                router: flags & ROUTER != 0,
                solicited: flags & SOLICITED != 0,
                overriding: flags & OVERRIDE != 0,
            }),
            _ => Err(Error::Malformed),
        }
    }

    pub const fn buffer_len(&self) -> usize {
        let (Self::NeighborSolicit { source_link: link, .. }
        | Self::NeighborAdvert { target_link: link, .. }) = self;
        MESSAGE_LEN + if link.is_some() { LINK_OPTION_LEN } else { 0 }
    }

    /// Writes the message as a packet between these addresses carries it.
    pub fn emit(&self, source: Ipv6Addr, destination: Ipv6Addr, buffer: &mut [u8]) {
        let (kind, flags, target, option) = self.parts();
        let icmp = Header { kind, code: 0, checksum: U16::ZERO, rest: flags.into() };
        let mut message = Message { icmp, target: target.octets() };
        let option = option.as_ref().map_or(&[][..], LinkOption::as_bytes);
        let sum = icmpv6::sum(source, destination, message.as_bytes(), option);
        message.icmp.checksum = checksum::finish(sum).into();
        put(&message, buffer)[..option.len()].copy_from_slice(option);
    }

    /// Type, flags, target and option.
    fn parts(&self) -> (u8, u32, Ipv6Addr, Option<LinkOption>) {
        let option =
            |kind, link: Option<_>| link.map(|address| LinkOption { kind, units: 1, address });
        match *self {
            Self::NeighborSolicit { target, source_link } => {
                (icmpv6::kind::NEIGHBOR_SOLICIT, 0, target, option(SOURCE_LINK, source_link))
            }
            Self::NeighborAdvert { target, target_link, router, solicited, overriding } => {
                let flags = if router { ROUTER } else { 0 }
                    | if solicited { SOLICITED } else { 0 }
                    | if overriding { OVERRIDE } else { 0 };
                let option = option(TARGET_LINK, target_link);
                (icmpv6::kind::NEIGHBOR_ADVERT, flags, target, option)
            }
        }
    }
}

/// The multicast group a solicitation for `address` is sent to (RFC 4291 section 2.7.1).
pub const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from_octets([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// The link-local address an interface makes of its MAC (RFC 4291 appendix A: EUI-64 with the
/// universal bit inverted).
pub fn link_local(mac: MacAddr) -> Ipv6Addr {
    let (vendor, device) = mac.0.split_at(3);
    let mut octets = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 0];
    octets[8..11].copy_from_slice(vendor);
    octets[13..].copy_from_slice(device);
    octets[8] ^= 2;
    Ipv6Addr::from_octets(octets)
}

/// The MAC address of a multicast group (RFC 2464 section 7).
pub const fn multicast_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

/// The address in the first option of `kind`; others are skipped. `Malformed` when an option has
/// length zero, runs over the end, or is of the kind and not as long as an Ethernet address needs.
fn link_option(mut options: &[u8], kind: u8) -> Result<Option<MacAddr>, Error> {
    let mut found = None;
    while let [this_kind, units, ..] = *options {
        let len = units as usize * 8;
        let (option, rest) = options.split_at_checked(len).ok_or(Error::Malformed)?;
        if len == 0 || (this_kind == kind && len != LINK_OPTION_LEN) {
            return Err(Error::Malformed);
        }
        if this_kind == kind && found.is_none() {
            found = Some(split::<LinkOption>(option)?.0.address);
        }
        options = rest;
    }
    if options.is_empty() { Ok(found) } else { Err(Error::Malformed) }
}

#[cfg(test)]
mod tests {
    use etherparse::icmpv6::NeighborAdvertisementHeader;
    use etherparse::{Icmpv6Slice, Icmpv6Type};
    use proptest::prelude::*;

    use super::*;
    use crate::wire::tests::{hostile, mac};

    const TARGET: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    const MAC: MacAddr = MacAddr([2, 0, 0, 0xaa, 0xbb, 0xcc]);

    proptest! {
        #[test]
        fn what_is_emitted_is_parsed_here_and_elsewhere(
            repr in repr(), from: Ipv6Addr, to: Ipv6Addr,
        ) {
            let message = emitted(&repr, from, to);
            prop_assert_eq!(Repr::parse(&message), Ok(repr));
            prop_assert!(icmpv6::View::new(&message).unwrap().verify_checksum(from, to));
            let other = Icmpv6Slice::from_slice(&message).unwrap();
            prop_assert!(other.is_checksum_valid(from.octets(), to.octets()));
            let (kind, target, option, link) = match repr {
                Repr::NeighborSolicit { target, source_link } => {
                    (Icmpv6Type::NeighborSolicitation, target, 1, source_link)
                }
                Repr::NeighborAdvert { target, target_link, router, solicited, overriding } => {
                    let flags = (router, solicited, overriding);
                    (advertisement(flags), target, 2, target_link)
                }
            };
            prop_assert_eq!(other.icmp_type(), kind);
            prop_assert_eq!(&message[8..24], target.octets());
            let option = link.map(|mac| [&[option, 1], &mac.0[..]].concat());
            prop_assert_eq!(&message[24..], option.unwrap_or_default());
        }

        #[test]
        fn any_bytes_are_taken(message in hostile(solicit())) {
            let _ = Repr::parse(&message);
        }

        #[test]
        fn any_options_are_taken(options: Vec<u8>) {
            let message = [&solicit()[..24], &options].concat();
            let _ = Repr::parse(&message);
        }
    }

    #[test]
    fn unknown_options_are_skipped() {
        let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
        let message = [&solicit()[..24], &nonce, &solicit()[24..], &nonce].concat();
        let expected = Repr::NeighborSolicit { target: TARGET, source_link: Some(MAC) };
        assert_eq!(Repr::parse(&message), Ok(expected));
    }

    #[test]
    fn the_first_of_two_link_options_counts() {
        let message = [solicit(), vec![1, 1, 0xe, 0xe, 0xe, 0xe, 0xe, 0xe]].concat();
        let expected = Repr::NeighborSolicit { target: TARGET, source_link: Some(MAC) };
        assert_eq!(Repr::parse(&message), Ok(expected));
    }

    /// RFC 4861 section 7.1.1.
    #[test]
    fn messages_that_must_be_discarded_are_refused() {
        // Code, multicast target, option of length zero, option over the end, option of two units.
        for (at, value) in [(1, 1), (8, 0xff), (25, 0), (25, 3), (25, 2)] {
            let mut message = [solicit(), vec![9, 1, 0, 0, 0, 0, 0, 0]].concat();
            assert!(Repr::parse(&message).is_ok());
            message[at] = value;
            assert_eq!(Repr::parse(&message), Err(Error::Malformed), "byte {at} is {value}");
        }
        assert_eq!(Repr::parse(&solicit()[..23]), Err(Error::Truncated));
        assert_eq!(Repr::parse(&solicit()[..25]), Err(Error::Malformed));
    }

    /// RFC 4291 section 2.7.1 and appendix A, RFC 2464 section 7.
    #[test]
    fn addresses_are_made_as_the_rfcs_have_it() {
        let node: Ipv6Addr = "4037::01:800:200e:8c6c".parse().unwrap();
        let group: Ipv6Addr = "ff02::1:ff0e:8c6c".parse().unwrap();
        assert_eq!(solicited_node(node), group);
        assert_eq!(multicast_mac(group), MacAddr([0x33, 0x33, 0xff, 0x0e, 0x8c, 0x6c]));
        let mac = MacAddr([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
        assert_eq!(link_local(mac), "fe80::3656:78ff:fe9a:bcde".parse::<Ipv6Addr>().unwrap());
    }

    fn repr() -> impl Strategy<Value = Repr> {
        let target = any::<Ipv6Addr>().prop_filter("unicast", |target| !target.is_multicast());
        let parts = (target, prop::option::of(mac()), any::<(bool, bool, bool, bool)>());
        parts.prop_map(|(target, link, (advert, router, solicited, overriding))| {
            if advert {
                Repr::NeighborAdvert { target, target_link: link, router, solicited, overriding }
            } else {
                Repr::NeighborSolicit { target, source_link: link }
            }
        })
    }

    fn advertisement((router, solicited, overriding): (bool, bool, bool)) -> Icmpv6Type {
        let header = NeighborAdvertisementHeader { router, solicited, r#override: overriding };
        Icmpv6Type::NeighborAdvertisement(header)
    }

    fn solicit() -> Vec<u8> {
        let repr = Repr::NeighborSolicit { target: TARGET, source_link: Some(MAC) };
        emitted(&repr, link_local(MAC), solicited_node(TARGET))
    }

    fn emitted(repr: &Repr, from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
        let mut message = vec![0xee; repr.buffer_len()];
        repr.emit(from, to, &mut message);
        message
    }
}

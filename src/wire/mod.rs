//! Bytes ⇄ headers. Each protocol module offers a *view* (`View`: borrows the bytes, its length is
//! checked once by `View::new`, no accessor fails after that) and a *value* (`Repr`: only what the
//! router understands; parsing what was emitted gives it back). Nothing here allocates, nothing
//! panics on any received bytes, and the module uses no other module of the crate.
//!
//! `emit` writes at the front of a buffer that the caller made at least `buffer_len()` bytes long;
//! a shorter one is a bug of the caller and panics.

pub mod arp;
pub mod bfd;
pub mod checksum;
pub mod ethernet;
pub mod icmp;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
mod mac;
pub mod ndp;
pub mod tcp;
#[cfg(test)]
mod tests;
pub mod udp;
pub mod vlan;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub use mac::MacAddr;

/// Why bytes are not the header they should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// The bytes end before the header, or before what the header announces.
    #[error("truncated: the bytes end before the header or what it announces")]
    Truncated,
    /// A field has a value the protocol forbids or the router does not understand.
    #[error("malformed: a field has a value that is forbidden or not understood")]
    Malformed,
    /// The checksum does not match.
    #[error("checksum does not match")]
    Checksum,
}

/// EtherType values (IANA, IEEE 802 numbers).
pub mod ethertype {
    pub const IPV4: u16 = 0x0800;
    pub const ARP: u16 = 0x0806;
    /// An 802.1Q tag: what ExpressRoute uses on both tags.
    pub const VLAN: u16 = 0x8100;
    pub const IPV6: u16 = 0x86dd;
    /// An 802.1ad service tag.
    pub const QINQ: u16 = 0x88a8;
}

/// IP protocol numbers (IANA).
pub mod protocol {
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ICMPV6: u8 = 58;
}

/// A fixed header as it lies in memory.
trait Layout: FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned {}

impl<T: FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned> Layout for T {}

/// The header at the front of `bytes` and what follows it.
#[inline]
fn split<H: Layout>(bytes: &[u8]) -> Result<(&H, &[u8]), Error> {
    H::ref_from_prefix(bytes).map_err(|_| Error::Truncated)
}

/// The header at the front of `bytes`, to change in place.
#[inline]
fn front_mut<H: Layout>(bytes: &mut [u8]) -> Option<&mut H> {
    H::mut_from_prefix(bytes).ok().map(|(header, _)| header)
}

/// Writes `header` at the front of `buffer` and returns what follows it.
#[inline]
fn put<'a, H: Layout>(header: &H, buffer: &'a mut [u8]) -> &'a mut [u8] {
    let (front, rest) = buffer.split_at_mut(size_of::<H>());
    front.copy_from_slice(header.as_bytes());
    rest
}

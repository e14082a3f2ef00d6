//! What the stages read: ports, attachments, VRFs, next hops. Written between batches by
//! [`edit`](crate::dataplane::edit); the routes themselves are in [`fib`](crate::fib).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::dataplane::adjacency::Adjacencies;
use crate::dataplane::attachment::Attachment;
use crate::dataplane::edit::Staged;
use crate::dataplane::port::Port;
use crate::fib::{Fib, IntervalTree4, IntervalTree6};
use crate::model::{AttachmentIndex, GroupIndex, Member, PortIndex, VrfIndex};
use crate::wire::MacAddr;

#[derive(Debug)]
pub struct Tables {
    pub(super) ports: Vec<Option<Port>>,
    pub(super) attachments: Vec<Option<Attachment>>,
    pub(super) vrfs: Vec<Vrf>,
    pub(super) neighbors: BTreeMap<(AttachmentIndex, IpAddr), MacAddr>,
    pub(super) staged: Staged,
    pub adjacencies: Adjacencies,
    /// Tables without a route, to fill arrays with.
    pub nowhere: (IntervalTree4, IntervalTree6),
}

/// A routing domain.
#[derive(Debug, Default)]
pub struct Vrf {
    pub fib: Fib,
    pub locals: Locals,
    pub(super) groups: BTreeMap<GroupIndex, Vec<Member>>,
}

/// The router's own addresses in a VRF, sorted; without IPv6 link-locals.
#[derive(Debug, Default)]
pub struct Locals {
    ipv4: Vec<Ipv4Addr>,
    /// A bit for each value of the last six bits of an address that is in `ipv4`: it answers for
    /// nearly every packet that is not for the router, without reading the addresses.
    ipv4_bits: u64,
    ipv6: Vec<Ipv6Addr>,
}

impl Default for Tables {
    fn default() -> Self {
        Self {
            ports: Vec::new(),
            attachments: Vec::new(),
            vrfs: Vec::new(),
            neighbors: BTreeMap::new(),
            staged: Staged::default(),
            adjacencies: Adjacencies::default(),
            nowhere: (IntervalTree4::empty(), IntervalTree6::empty()),
        }
    }
}

impl Tables {
    pub fn port(&self, index: PortIndex) -> Option<&Port> {
        self.ports.get(index.index())?.as_ref()
    }

    /// An attachment that demux or a group names; both are emptied before an attachment goes.
    #[inline]
    pub fn attachment(&self, index: AttachmentIndex) -> &Attachment {
        self.find_attachment(index).expect("demux and groups name attachments that exist")
    }

    #[inline]
    pub fn find_attachment(&self, index: AttachmentIndex) -> Option<&Attachment> {
        self.attachments.get(index.index())?.as_ref()
    }

    /// The VRF of an attachment that exists.
    #[inline]
    pub fn vrf(&self, index: VrfIndex) -> &Vrf {
        &self.vrfs[index.index()]
    }

    pub fn find_vrf(&self, index: VrfIndex) -> Option<&Vrf> {
        self.vrfs.get(index.index())
    }

    pub fn neighbor(&self, attachment: AttachmentIndex, address: IpAddr) -> Option<MacAddr> {
        self.neighbors.get(&(attachment, address)).copied()
    }
}

impl Locals {
    #[inline]
    pub fn has_ipv4(&self, address: Ipv4Addr) -> bool {
        self.ipv4_bits & ipv4_bit(address) != 0 && self.ipv4.binary_search(&address).is_ok()
    }

    pub fn has_ipv6(&self, address: Ipv6Addr) -> bool {
        self.ipv6.binary_search(&address).is_ok()
    }

    pub(super) fn add(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                self.ipv4_bits |= ipv4_bit(address);
                add_sorted(&mut self.ipv4, address);
            }
            IpAddr::V6(address) if address.is_unicast_link_local() => {}
            IpAddr::V6(address) => add_sorted(&mut self.ipv6, address),
        }
    }
}

const fn ipv4_bit(address: Ipv4Addr) -> u64 {
    1 << (address.to_bits() & 63)
}

fn add_sorted<T: Ord>(sorted: &mut Vec<T>, item: T) {
    if let Err(at) = sorted.binary_search(&item) {
        sorted.insert(at, item);
    }
}

//! An attachment as the data path sees it: what a packet that enters or leaves there needs, worked
//! out when the attachment is applied.

use std::net::{IpAddr, Ipv6Addr};

use crate::model::{
    AttachmentEntry, AttachmentIndex, Encapsulation, InnerService, LimiterIndex, PortIndex,
    VrfIndex,
};
use crate::wire::{MacAddr, ethertype, vlan};

/// Two MACs, two tags and the EtherType.
const HEADER_MAX: usize = 22;
const MACS: usize = 12;

#[derive(Debug)]
pub struct Attachment {
    /// Boxed: what packets need then lies in two cache lines.
    pub entry: Box<AttachmentEntry>,
    pub service: Path,
    pub port: PortIndex,
    /// What every frame that leaves here starts with; destination and EtherType are filled in.
    header: [u8; HEADER_MAX],
    header_len: u8,
    pub vni: Option<u32>,
    pub mtu: u32,
    /// MAC of the port.
    pub mac: MacAddr,
    pub polices_control: bool,
    pub answers_icmp: bool,
    pub ingress_limiters: Box<[LimiterIndex]>,
    pub egress_limiters: Box<[LimiterIndex]>,
    /// The router's IPv6 addresses here.
    ipv6: Box<[Ipv6Addr]>,
}

/// Where a packet that enters here goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Path {
    Vrf(VrfIndex),
    /// `None` while the other end does not exist or is no cross-connect.
    CrossConnect(Option<AttachmentIndex>),
}

impl Attachment {
    /// `mac` is the port's.
    pub fn new(entry: AttachmentEntry, mac: MacAddr) -> Self {
        let (header, header_len) = header(entry.encapsulation, mac);
        Self {
            service: match entry.service {
                InnerService::Vrf(vrf) => Path::Vrf(vrf),
                InnerService::CrossConnect(_) => Path::CrossConnect(None),
            },
            port: entry.port,
            header,
            header_len,
            vni: match entry.encapsulation {
                Encapsulation::Vni(vni) => Some(vni),
                _ => None,
            },
            mtu: u32::from(entry.mtu),
            mac,
            polices_control: entry.polices_control,
            answers_icmp: entry.answers_icmp,
            ingress_limiters: entry.ingress_limiters.clone().into_boxed_slice(),
            egress_limiters: entry.egress_limiters.clone().into_boxed_slice(),
            ipv6: ipv6_only(&entry.addresses),
            entry: Box::new(entry),
        }
    }

    /// The VRF of a routed attachment.
    #[inline]
    pub fn vrf(&self) -> Option<VrfIndex> {
        match self.service {
            Path::Vrf(vrf) => Some(vrf),
            Path::CrossConnect(_) => None,
        }
    }

    /// Bytes in front of the packet in a frame that leaves here.
    #[inline]
    pub fn header_len(&self) -> usize {
        self.header_len as usize
    }

    /// Writes what is in front of the packet. `front` is [`Attachment::header_len`] bytes.
    #[inline]
    pub fn write_header(&self, destination: MacAddr, ethertype: u16, front: &mut [u8]) {
        match self.header_len() {
            14 => write::<14>(front, &self.header),
            18 => write::<18>(front, &self.header),
            _ => write::<HEADER_MAX>(front, &self.header),
        }
        front[..6].copy_from_slice(&destination.0);
        front[self.header_len() - 2..][..2].copy_from_slice(&ethertype.to_be_bytes());
    }

    /// The tags of a frame that leaves here.
    #[inline]
    pub fn tags(&self) -> &[u8] {
        &self.header[MACS..self.header_len() - 2]
    }

    /// Whether an IPv6 link-local address is ours on this attachment.
    pub fn has_ipv6(&self, address: Ipv6Addr) -> bool {
        self.ipv6.contains(&address)
    }

    /// Whether this is the solicited-node address of one of our addresses here (RFC 4291, 2.7.1).
    pub fn listens_to(&self, group: Ipv6Addr) -> bool {
        self.ipv6.iter().any(|address| crate::wire::ndp::solicited_node(*address) == group)
    }
}

/// A copy whose length the compiler knows is a move or two, not a call.
#[inline]
fn write<const LEN: usize>(front: &mut [u8], header: &[u8; HEADER_MAX]) {
    front[..LEN].copy_from_slice(&header[..LEN]);
}

fn header(encapsulation: Encapsulation, source: MacAddr) -> ([u8; HEADER_MAX], u8) {
    let mut header = [0; HEADER_MAX];
    header[6..MACS].copy_from_slice(&source.0);
    let tags = match encapsulation {
        Encapsulation::Untagged | Encapsulation::Vni(_) => [None, None],
        Encapsulation::Dot1q(id) => [Some(id), None],
        Encapsulation::QinQ { outer, inner } => [Some(outer), Some(inner)],
    };
    let mut length = MACS;
    // TPID 0x8100 on both tags (section 5).
    for id in tags.into_iter().flatten() {
        header[length..length + 2].copy_from_slice(&ethertype::VLAN.to_be_bytes());
        header[length + 2..length + 4].copy_from_slice(&id.get().to_be_bytes());
        length += vlan::TAG_LEN;
    }
    (header, length as u8 + 2)
}

fn ipv6_only(addresses: &[IpAddr]) -> Box<[Ipv6Addr]> {
    let ipv6 = addresses.iter().filter_map(|address| match address {
        IpAddr::V6(address) => Some(*address),
        IpAddr::V4(_) => None,
    });
    ipv6.collect()
}

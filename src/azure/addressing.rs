//! Addresses nobody writes in a lab file: of the backbone, of ports, of routers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::lab::{VirtualNetwork, gateway_subnet};
use crate::model::{AddressOnLink, LinkRole, MacAddr};

/// Addresses of a VNet's GatewaySubnet, one block a family that the VNet has.
///
/// The block is the last /26 of the VNet's first IPv4 block (L-32 asks /26 for 16 circuits), and
/// the last 64 addresses of its first IPv6 block. In it the VNet's own router is at 1, the MSEE
/// side of the n-th connection at 4 + 2n and 5 + 2n (9.6 saw them inside the GatewaySubnet), and
/// the gateway instances from 36 on.
#[derive(Debug)]
pub struct GatewaySubnet {
    bases: Vec<IpAddr>,
}

const VNET: u128 = 1;
const MSEE: u128 = 4;
const INSTANCE: u128 = 36;

impl GatewaySubnet {
    pub fn of(vnet: &VirtualNetwork) -> Self {
        let first = |ipv4: bool| {
            vnet.address_prefixes.iter().find(move |prefix| prefix.addr().is_ipv4() == ipv4)
        };
        Self { bases: [true, false].into_iter().filter_map(first).map(gateway_subnet).collect() }
    }

    pub fn vnet(&self) -> Vec<IpAddr> {
        self.at(VNET)
    }

    /// The MSEE's side of the VNet's connection number `connection` (from 0).
    pub fn msee(&self, connection: usize, link: LinkRole) -> Vec<IpAddr> {
        self.at(MSEE + 2 * connection as u128 + link as u128)
    }

    pub fn instance(&self, instance: u8) -> Vec<IpAddr> {
        self.at(INSTANCE + u128::from(instance))
    }

    fn at(&self, offset: u128) -> Vec<IpAddr> {
        let add = |base: &IpAddr| match *base {
            IpAddr::V4(base) => IpAddr::V4(Ipv4Addr::from(u32::from(base) + offset as u32)),
            IpAddr::V6(base) => IpAddr::V6(Ipv6Addr::from(u128::from(base) + offset)),
        };
        self.bases.iter().map(add).collect()
    }
}

/// Our addresses on a point-to-point attachment, each with its peer as the only one on the link.
pub fn point_to_point(ours: &[IpAddr], peers: &[IpAddr]) -> Vec<AddressOnLink> {
    let pair =
        |(&address, &peer): (&IpAddr, &IpAddr)| AddressOnLink { address, on_link: peer.into() };
    ours.iter().zip(peers).map(pair).collect()
}

/// The MAC of a port: locally administered, from the router's and the port's number.
pub const fn mac(router: u16, port: u16) -> MacAddr {
    let [a, b] = router.to_be_bytes();
    let [c, d] = port.to_be_bytes();
    MacAddr([0x02, 0x4d, a, b, c, d])
}

/// The BGP identifier of a router, from its number.
pub const fn router_id(router: u16) -> Ipv4Addr {
    let [a, b] = router.wrapping_add(1).to_be_bytes();
    Ipv4Addr::new(100, 127, a, b)
}

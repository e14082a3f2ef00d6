//! Which of a lab's nodes are outside the program, in network namespaces of their own, and the
//! links that lead to them: a plan ([`Wiring`], data alone) and its building ([`build`]).
//!
//! ```text
//!  sandbox's own namespace            namespace dc1.erp
//!  built-in routers ── dc1.erp ═══════ eth0  192.168.0.10
//!                       no address,    the host's MAC,
//!                       no ARP         addresses, default route
//! ```
//!
//! Built-in routers have no namespace: they read and write the router-side ends with packet
//! sockets. Such an end has a MAC of the kernel's choice, never its port's, so that the kernel of
//! the sandbox takes every frame for somebody else's and leaves it alone.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;

use thiserror::Error;

use crate::azure;
use crate::config::lab::{Host, Lab, address_at};
use crate::io::Port;
use crate::io::packet::{Mode, PacketPort};
use crate::lab::{LAST_HOST_NUMBER, Ports};
use crate::model::{MacAddr, Prefix};
use crate::sys::namespace::{NetworkNamespace, interface_setting};
use crate::sys::netlink::{INTERFACE_NAME_MAX, Netlink, NetlinkError, VethEnd};
use crate::sys::packet::{self, Interface};

/// Largest IP packet of a router-side end, and of a link that carries tags: a full packet and two
/// tags, 1,522 bytes of frame, pass.
const LINK_MTU: u16 = 1508;
/// Of a host of a site (F-77).
const SITE_MTU: u16 = 1500;
/// Of a host of a VNet (L-26, D-04).
const VNET_MTU: u16 = 1400;
/// Router-side ends are numbered from here, which no interface of a node reaches.
const FIRST_INDEX: u32 = 1001;
/// The one interface of a host.
const HOST_INTERFACE: &str = "eth0";

/// What of a lab is in namespaces.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wiring {
    pub nodes: Vec<Node>,
    pub links: Vec<Link>,
}

/// A namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// As in reports: `dc1.erp`, `ce1`.
    pub name: String,
    pub kind: NodeKind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeKind {
    Host,
}

/// A pair of interfaces.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// The link's name in the lab; a host's is the host's.
    pub name: String,
    pub router: RouterEnd,
    pub node: NodeEnd,
}

/// The end at a port of a built-in router.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouterEnd {
    pub router: String,
    pub port: String,
    /// In the sandbox's own namespace, unique there.
    pub interface: String,
    pub mtu: u16,
}

/// The end in a node's namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeEnd {
    pub node: String,
    pub interface: String,
    pub mac: MacAddr,
    pub mtu: u16,
    /// With the length of the block it is from.
    pub addresses: Vec<Prefix>,
    /// Whether the rest of that block is on the link; else everything goes to the gateways.
    pub connected: bool,
    /// At most one of each family.
    pub gateways: Vec<IpAddr>,
}

/// Why a wiring could not be built.
#[derive(Debug, Error)]
pub enum BuildError {
    #[error("namespace {name}: {source}")]
    Namespace { name: String, source: io::Error },
    #[error("netlink: {0}")]
    Socket(#[from] io::Error),
    #[error("namespace {namespace}: {source}")]
    Netlink { namespace: String, source: NetlinkError },
    #[error("link {link}: {source}")]
    Link { link: String, source: NetlinkError },
}

/// The namespaces of a wiring by the names of their nodes. They live in any case as long as the
/// sandbox.
pub type Namespaces = BTreeMap<String, NetworkNamespace>;

impl Wiring {
    /// What `lab` needs beside its built-in routers.
    pub fn of(lab: &Lab) -> Self {
        let mut wiring = Self::default();
        let mut names = InterfaceNames::default();
        for site in &lab.sites {
            for network in &site.networks {
                let Some(router) = site.gateway_of(&network.name) else { continue };
                for host in &network.hosts {
                    let node = format!("{}.{}", site.name, host.name);
                    let block = |_: &IpAddr| Some((network.prefix, network.gateway_address()));
                    let end = wiring.host_end(node, host, SITE_MTU, block);
                    let port = format!("lan:{}", host.name);
                    wiring.add_host(end, &router.name, port, &mut names);
                }
            }
        }
        for vnet in &lab.virtual_networks {
            for host in &vnet.hosts {
                let node = format!("{}.{}", vnet.name, host.name);
                let block = |address: &IpAddr| {
                    let block = vnet.address_prefixes.iter().find(|block| block.contains(address));
                    block.and_then(|&block| Some((block, address_at(block, 1)?)))
                };
                let end = wiring.host_end(node, host, VNET_MTU, block);
                let port = format!("host:{}", host.name);
                wiring.add_host(end, &vnet.name, port, &mut names);
            }
        }
        wiring
    }

    /// The same with nodes whose kernels take no part: who reads their ends has the addresses.
    #[must_use]
    pub fn without_addresses(mut self) -> Self {
        for link in &mut self.links {
            link.node.addresses.clear();
            link.node.gateways.clear();
        }
        self
    }

    /// Opens the router-side ends of the links, in the namespace of the calling thread.
    pub fn ports(&self) -> Result<Ports, packet::Error> {
        let open = |link: &Link| {
            let interface = Interface::by_name(&link.router.interface)?;
            let port: Box<dyn Port> = Box::new(PacketPort::open(interface, Mode::VnetHdr)?);
            Ok((link.name.clone(), port))
        };
        self.links.iter().map(open).collect()
    }

    /// The end of a link at a host whose addresses are in a block with a gateway each.
    fn host_end(
        &self,
        node: String,
        host: &Host,
        mtu: u16,
        block: impl Fn(&IpAddr) -> Option<(Prefix, IpAddr)>,
    ) -> NodeEnd {
        let placed = host.addresses.iter().filter_map(|address| Some((*address, block(address)?)));
        let (mut addresses, mut gateways) = (Vec::new(), Vec::new());
        for (address, (block, gateway)) in placed {
            let address = Prefix::new(address, block.prefix_len());
            addresses.push(address.expect("the block is of the address's family"));
            gateways.push(gateway);
        }
        NodeEnd {
            node,
            interface: HOST_INTERFACE.to_owned(),
            mac: azure::mac(LAST_HOST_NUMBER - self.nodes.len() as u16, 0),
            mtu,
            addresses,
            connected: false,
            gateways,
        }
    }

    fn add_host(&mut self, end: NodeEnd, router: &str, port: String, names: &mut InterfaceNames) {
        let name = end.node.clone();
        let router = RouterEnd {
            router: router.to_owned(),
            port,
            interface: names.make(&name),
            mtu: LINK_MTU,
        };
        self.nodes.push(Node { name: name.clone(), kind: NodeKind::Host });
        self.links.push(Link { name, router, node: end });
    }
}

/// Interface names of the sandbox's own namespace.
#[derive(Debug, Default)]
struct InterfaceNames {
    taken: BTreeSet<String>,
}

impl InterfaceNames {
    /// `wanted`, or where that is too long or taken, its beginning and a number.
    fn make(&mut self, wanted: &str) -> String {
        let numbered = (1..).map(|number| {
            let end = format!("~{number}");
            let beginning = INTERFACE_NAME_MAX.min(wanted.len() + end.len()) - end.len();
            format!("{}{end}", &wanted[..beginning])
        });
        let mut candidates = std::iter::once(wanted.to_owned()).chain(numbered);
        let free = |name: &String| {
            name.len() <= INTERFACE_NAME_MAX && name != "lo" && !self.taken.contains(name)
        };
        let name = candidates.find(free).expect("there is always another number");
        self.taken.insert(name.clone());
        name
    }
}

/// Makes the namespaces and links of a wiring. To be called inside a sandbox, once.
pub fn build(wiring: &Wiring) -> Result<Namespaces, BuildError> {
    let named = |name: &str| {
        let name = name.to_owned();
        move |source| BuildError::Namespace { name, source }
    };
    quieten_router_side().map_err(named("of the routers"))?;
    let own = NetworkNamespace::current()?;
    let mut netlink = Netlink::open()?;
    take_loopback_up(&mut netlink, "of the routers")?;
    let mut namespaces = Namespaces::new();
    let mut sockets = BTreeMap::new();
    for node in &wiring.nodes {
        let namespace = NetworkNamespace::create(&node.name).map_err(named(&node.name))?;
        let socket = namespace.run(|| prepare(node.kind)).and_then(|outcome| outcome);
        let mut socket = socket.map_err(named(&node.name))?;
        take_loopback_up(&mut socket, &node.name)?;
        sockets.insert(&node.name, socket);
        namespaces.insert(node.name.clone(), namespace);
    }
    for (link, index) in wiring.links.iter().zip(FIRST_INDEX..) {
        let namespace = &namespaces[&link.node.node];
        let socket = sockets.get_mut(&link.node.node).expect("a link leads to a node");
        make_link(link, index, &mut netlink, &own, namespace)
            .and_then(|()| configure(&link.node, socket))
            .map_err(|source| BuildError::Link { link: link.name.clone(), source })?;
    }
    Ok(namespaces)
}

/// The kernel says nothing of its own on the router-side ends, and forwards nothing between them.
fn quieten_router_side() -> io::Result<()> {
    for interface in ["all", "default"] {
        interface_setting("ipv6", interface, "disable_ipv6", "1")?;
        interface_setting("ipv4", interface, "forwarding", "0")?;
    }
    Ok(())
}

/// Sets a node's kernel up before it has interfaces, and opens a socket in its namespace.
fn prepare(kind: NodeKind) -> io::Result<Netlink> {
    match kind {
        NodeKind::Host => {
            // A new namespace takes these over from the host's own.
            for family in ["ipv4", "ipv6"] {
                interface_setting(family, "all", "forwarding", "0")?;
                interface_setting(family, "default", "forwarding", "0")?;
            }
            // Addresses are given, and nobody else has them.
            for key in ["accept_ra", "accept_dad", "router_solicitations"] {
                interface_setting("ipv6", "default", key, "0")?;
            }
        }
    }
    Netlink::open()
}

fn take_loopback_up(netlink: &mut Netlink, namespace: &str) -> Result<(), BuildError> {
    let outcome = netlink.interface("lo").and_then(|lo| netlink.set_up(&lo, true));
    outcome.map_err(|source| BuildError::Netlink { namespace: namespace.to_owned(), source })
}

fn make_link(
    link: &Link,
    index: u32,
    netlink: &mut Netlink,
    own: &NetworkNamespace,
    far: &NetworkNamespace,
) -> Result<(), NetlinkError> {
    let (router, node) = (&link.router, &link.node);
    netlink.make_veth([
        VethEnd {
            name: &router.interface,
            namespace: own.as_fd(),
            index: Some(index),
            mac: None,
            mtu: router.mtu,
            arp: false,
        },
        VethEnd {
            name: &node.interface,
            namespace: far.as_fd(),
            index: None,
            mac: Some(node.mac.0),
            mtu: node.mtu,
            arp: true,
        },
    ])?;
    let interface = netlink.interface(&router.interface)?;
    netlink.set_up(&interface, true)
}

fn configure(end: &NodeEnd, netlink: &mut Netlink) -> Result<(), NetlinkError> {
    let interface = netlink.interface(&end.interface)?;
    netlink.set_up(&interface, true)?;
    for address in &end.addresses {
        netlink.add_address(&interface, address.addr(), address.prefix_len(), end.connected)?;
    }
    for &gateway in &end.gateways {
        netlink.add_default_route(&interface, gateway)?;
    }
    Ok(())
}

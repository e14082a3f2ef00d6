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
//!
//! A router that is a program of somebody else's ([`edge::run`](crate::lab::edge::run)) is a node
//! as well. Its links to built-in routers are pairs like a host's; what it shares with a host or
//! another such router is a pair between the two namespaces.

mod build;
mod outlet;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::azure::{self, CompiledLink};
use crate::config::lab::{Host, Lab, address_at};
use crate::io::Port;
use crate::io::packet::{Mode, PacketPort};
use crate::lab::edge::run::{self, Interface, LaunchError};
use crate::lab::wiring::outlet::Outlet;
use crate::lab::{HOST_MTU, LAST_HOST_NUMBER, Ports, sites};
use crate::model::{AddressOnLink, Encapsulation, MacAddr, Prefix, RouterConfig, VlanId};
use crate::sys::netlink::INTERFACE_NAME_MAX;
use crate::sys::packet;

pub use build::{BuildError, Namespaces, build};

/// Largest IP packet of a router-side end: a full packet and two tags, 1,522 bytes of frame, pass.
const LINK_MTU: u16 = 1508;
/// Of what a customer has on its links and in its sites (F-77).
const SITE_MTU: u16 = 1500;
/// Of a host of a VNet (L-26, D-04).
const VNET_MTU: u16 = 1400;
/// The one interface of a host.
const HOST_INTERFACE: &str = "eth0";

/// What of a lab is in namespaces.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wiring {
    pub nodes: Vec<Node>,
    /// Between a port of a built-in router and a node.
    pub links: Vec<Link>,
    /// Between two nodes, past every built-in router.
    pub bypasses: Vec<Bypass>,
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
    /// A router that is a program of somebody else's; its kernel forwards.
    Edge,
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
    /// A port with several tags has a pair for each.
    pub port: String,
    /// Frames of the pair carry no tag, the port's carry this one: the pair is a sub-interface of
    /// the node, which needs no VLAN support of the kernel's that way.
    pub tag: Option<VlanId>,
    /// In the sandbox's own namespace, unique there.
    pub interface: String,
    pub mtu: u16,
}

/// A pair of interfaces between nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bypass {
    pub name: String,
    pub ends: [NodeEnd; 2],
}

/// The end in a node's namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeEnd {
    pub node: String,
    pub interface: String,
    pub mac: MacAddr,
    pub mtu: u16,
    pub addresses: Vec<AddressOnLink>,
    /// Whether the kernel sends to what is on the link straight, or everything to the gateways.
    pub connected: bool,
    /// At most one of each family.
    pub gateways: Vec<IpAddr>,
}

impl Wiring {
    /// What `lab` needs beside its built-in routers. Routers of kind `attach` are on links that
    /// exist already.
    ///
    /// # Errors
    /// A given configuration cannot be read, or an interface has no possible name.
    pub fn of(lab: &Lab) -> Result<Self, LaunchError> {
        let mut plan = Plan::of(lab)?;
        for site in &lab.sites {
            for network in &site.networks {
                let Some(router) = site.gateway_of(&network.name) else { continue };
                // Past the ports of a router of the user's own, what is behind it is there already.
                if !router.has_hosts_of(&network.name) {
                    continue;
                }
                for host in &network.hosts {
                    let name = format!("{}.{}", site.name, host.name);
                    let block = |_: &IpAddr| Some((network.prefix, network.gateway));
                    let end = plan.host_end(name, host, SITE_MTU, block);
                    plan.add_host(end, &router.name, format!("lan:{}", host.name));
                }
            }
        }
        for vnet in &lab.virtual_networks {
            for host in &vnet.hosts {
                let name = format!("{}.{}", vnet.name, host.name);
                let block = |address: &IpAddr| {
                    let block = vnet.address_prefixes.iter().find(|block| block.contains(address));
                    block.and_then(|&block| Some((block, address_at(block, 1)?)))
                };
                let end = plan.host_end(name, host, VNET_MTU, block);
                plan.add_host(end, &vnet.name, format!("host:{}", host.name));
            }
        }
        plan.add_edges();
        Ok(plan.wiring)
    }

    /// Names of the routers that are programs of somebody else's.
    pub fn edges(&self) -> impl Iterator<Item = &str> {
        let edges = self.nodes.iter().filter(|node| node.kind == NodeKind::Edge);
        edges.map(|node| node.name.as_str())
    }

    /// The same for models of hosts that have the addresses: kernels take no part but those of hosts
    /// with `tcp` flows, whose TCP is theirs.
    #[must_use]
    pub fn for_models(mut self, tcp: &BTreeSet<String>) -> Self {
        let hosts: Vec<_> = self.nodes.iter().filter(|node| node.kind == NodeKind::Host).collect();
        let hosts: Vec<_> = hosts.into_iter().map(|host| host.name.clone()).collect();
        let is_host = |end: &NodeEnd| hosts.contains(&end.node);
        let links = self.links.iter_mut().map(|link| &mut link.node);
        let bypasses = self.bypasses.iter_mut().flat_map(|bypass| &mut bypass.ends);
        for end in links.chain(bypasses).filter(|end| is_host(end)) {
            if tcp.contains(&end.node) {
                end.mtu = HOST_MTU;
            } else {
                end.addresses.clear();
                end.gateways.clear();
            }
        }
        self
    }

    /// Whether a node is a host.
    pub fn is_host(&self, name: &str) -> bool {
        self.nodes.iter().any(|node| node.kind == NodeKind::Host && node.name == name)
    }

    /// Opens the router-side ends of the links, in the namespace of the calling thread.
    pub fn ports(&self) -> Result<Ports, packet::Error> {
        let mut hosts = Ports::new();
        let mut outlets: BTreeMap<String, Outlet> = BTreeMap::new();
        for link in &self.links {
            let interface = packet::Interface::by_name(&link.router.interface)?;
            let port = PacketPort::open(interface, Mode::VnetHdr)?;
            if self.edges().any(|edge| edge == link.node.node) {
                outlets.entry(link.name.clone()).or_default().add(link.router.tag, port);
            } else {
                hosts.insert(link.name.clone(), Box::new(port));
            }
        }
        let outlets = outlets.into_iter();
        hosts.extend(outlets.map(|(name, port)| (name, Box::new(port) as Box<dyn Port>)));
        Ok(hosts)
    }
}

/// A wiring while it is made.
struct Plan {
    edges: BTreeMap<String, Edge>,
    /// Links of routers, all of them.
    links: Vec<CompiledLink>,
    /// Interfaces of the sandbox's own namespace.
    names: InterfaceNames,
    wiring: Wiring,
}

/// A router that is a node.
struct Edge {
    /// As it would be if it were built in.
    config: RouterConfig,
    /// As its configuration calls them.
    interfaces: Vec<Interface>,
}

impl Plan {
    fn of(lab: &Lab) -> Result<Self, LaunchError> {
        let (azure, sites) = (azure::compile(lab), sites::compile(lab));
        let mut edges = BTreeMap::new();
        for config in sites.routers {
            if run::is_run(lab, &config.name) {
                let interfaces = run::interfaces_of(lab, &config.name)?;
                edges.insert(config.name.clone(), Edge { config, interfaces });
            }
        }
        Ok(Self {
            edges,
            links: azure.links.into_iter().chain(sites.links).collect(),
            names: InterfaceNames::default(),
            wiring: Wiring::default(),
        })
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
        let (addresses, gateways) = placed
            .map(|(address, (on_link, gateway))| (AddressOnLink { address, on_link }, gateway))
            .unzip();
        NodeEnd {
            node,
            interface: HOST_INTERFACE.to_owned(),
            mac: azure::mac(LAST_HOST_NUMBER - self.wiring.nodes.len() as u16, 0),
            mtu,
            addresses,
            connected: false,
            gateways,
        }
    }

    fn add_host(&mut self, end: NodeEnd, router: &str, port: String) {
        let name = end.node.clone();
        self.wiring.nodes.push(Node { name: name.clone(), kind: NodeKind::Host });
        match self.edges.get(router) {
            Some(edge) => {
                let edge = edge_ends(edge, &port).pop().expect("every host has a port there");
                self.wiring.bypasses.push(Bypass { name, ends: [end, edge.1] });
            }
            None => self.add_link(name.clone(), (router, &port), None, end, &name),
        }
    }

    fn add_edges(&mut self) {
        for name in self.edges.keys() {
            self.wiring.nodes.push(Node { name: name.clone(), kind: NodeKind::Edge });
        }
        for link in std::mem::take(&mut self.links) {
            let [a, b] = link.ends.each_ref().map(|(router, port)| {
                self.edges.get(router).map(|edge| edge_ends(edge, port)).unwrap_or_default()
            });
            let (ends, far) = match (a.is_empty(), b.is_empty()) {
                (true, true) => continue,
                (false, true) => (a, &link.ends[1]),
                (true, false) => (b, &link.ends[0]),
                (false, false) => {
                    // Routers of a site have no tags between them.
                    let pairs = a.into_iter().zip(b).map(|((_, a), (_, b))| [a, b]);
                    let bypass = |ends| Bypass { name: link.name.clone(), ends };
                    self.wiring.bypasses.extend(pairs.map(bypass));
                    continue;
                }
            };
            for (tag, end) in ends {
                let wanted = format!("{}.{}", end.node, end.interface);
                self.add_link(link.name.clone(), (&far.0, &far.1), tag, end, &wanted);
            }
        }
    }

    fn add_link(
        &mut self,
        name: String,
        (router, port): (&str, &str),
        tag: Option<VlanId>,
        node: NodeEnd,
        wanted: &str,
    ) {
        let router = RouterEnd {
            router: router.to_owned(),
            port: port.to_owned(),
            tag,
            interface: self.names.make(wanted),
            mtu: LINK_MTU,
        };
        self.wiring.links.push(Link { name, router, node });
    }
}

/// What an edge has at one of its ports, by tag.
fn edge_ends(edge: &Edge, port: &str) -> Vec<(Option<VlanId>, NodeEnd)> {
    let mac = edge.config.ports.iter().find(|known| known.name == port).map(|known| known.mac);
    let there = edge.interfaces.iter().filter(|interface| interface.port == port);
    there
        .map(|interface| {
            let tag = match interface.tag {
                Encapsulation::Dot1q(tag) => Some(tag),
                _ => None,
            };
            let end = NodeEnd {
                node: edge.config.name.clone(),
                interface: interface.name.clone(),
                mac: mac.expect("an interface is of a port of its router"),
                mtu: SITE_MTU,
                addresses: addresses_of(interface),
                connected: true,
                gateways: Vec::new(),
            };
            (tag, end)
        })
        .collect()
}

/// An address of an interface reaches its subnet, or the host that goes with it.
fn addresses_of(interface: &Interface) -> Vec<AddressOnLink> {
    let hosts = interface.on_link.iter().copied().map(Some).chain(std::iter::repeat(None));
    let placed = interface.addresses.iter().zip(hosts);
    placed
        .map(|(&own, host)| AddressOnLink { address: own.addr(), on_link: host.unwrap_or(own) })
        .collect()
}

/// Interface names of one namespace.
#[derive(Debug, Default)]
struct InterfaceNames {
    taken: BTreeSet<String>,
}

impl InterfaceNames {
    /// `wanted`, or where that is too long or taken, its beginning and a number.
    fn make(&mut self, wanted: &str) -> String {
        let numbered = (1..).map(|number| {
            let end = format!("~{number}");
            let beginning = wanted.len().min(INTERFACE_NAME_MAX - end.len());
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

#[cfg(test)]
mod tests;

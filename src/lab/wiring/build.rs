//! Makes the namespaces and links of a wiring, by netlink.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;

use thiserror::Error;

use crate::lab::edge::run;
use crate::lab::wiring::{Bypass, Link, NodeEnd, NodeKind, Wiring};
use crate::sys::namespace::{NetworkNamespace, interface_setting, kernel_setting};
use crate::sys::netlink::{Netlink, NetlinkError, VethEnd};

/// Ends that are no node's first are numbered from here, which no interface that the kernel numbers
/// reaches: both ends of a pair have different indexes.
const FIRST_INDEX: u32 = 1001;

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

/// Makes the namespaces and links of a wiring. To be called inside a sandbox, once.
pub fn build(wiring: &Wiring) -> Result<Namespaces, BuildError> {
    let mut builder = Builder::new()?;
    for node in &wiring.nodes {
        builder.add_node(&node.name, node.kind)?;
    }
    let mut index = FIRST_INDEX..;
    for (link, index) in wiring.links.iter().zip(&mut index) {
        let made = builder.link(link, index);
        made.map_err(|source| BuildError::Link { link: link.name.clone(), source })?;
    }
    for (bypass, index) in wiring.bypasses.iter().zip(index) {
        let made = builder.bypass(bypass, index);
        made.map_err(|source| BuildError::Link { link: bypass.name.clone(), source })?;
    }
    Ok(builder.namespaces)
}

struct Builder {
    /// The sandbox's own namespace, where the router-side ends are.
    own: NetworkNamespace,
    netlink: Netlink,
    namespaces: Namespaces,
    sockets: BTreeMap<String, Netlink>,
}

impl Builder {
    fn new() -> Result<Self, BuildError> {
        let routers = "of the routers";
        let failed = |source| BuildError::Namespace { name: routers.to_owned(), source };
        quieten_router_side().map_err(failed)?;
        let mut netlink = Netlink::open()?;
        take_loopback_up(&mut netlink, routers)?;
        let own = NetworkNamespace::current()?;
        Ok(Self { own, netlink, namespaces: BTreeMap::new(), sockets: BTreeMap::new() })
    }

    fn add_node(&mut self, name: &str, kind: NodeKind) -> Result<(), BuildError> {
        let failed = |source| BuildError::Namespace { name: name.to_owned(), source };
        let namespace = NetworkNamespace::create(name).map_err(failed)?;
        let socket = namespace.run(|| prepare(kind)).and_then(|outcome| outcome);
        let mut socket = socket.map_err(failed)?;
        take_loopback_up(&mut socket, name)?;
        self.sockets.insert(name.to_owned(), socket);
        self.namespaces.insert(name.to_owned(), namespace);
        Ok(())
    }

    fn link(&mut self, link: &Link, index: u32) -> Result<(), NetlinkError> {
        let (router, node) = (&link.router, &link.node);
        let router_end = VethEnd {
            name: &router.interface,
            namespace: self.own.as_fd(),
            index: Some(index),
            mac: None,
            mtu: router.mtu,
            arp: false,
        };
        let node_end = veth_end(node, &self.namespaces, None);
        self.netlink.make_veth([router_end, node_end])?;
        let interface = self.netlink.interface(&router.interface)?;
        self.netlink.set_up(&interface, true)?;
        self.configure(node)
    }

    fn bypass(&mut self, bypass: &Bypass, index: u32) -> Result<(), NetlinkError> {
        let [a, b] = &bypass.ends;
        let ends =
            [veth_end(a, &self.namespaces, None), veth_end(b, &self.namespaces, Some(index))];
        self.netlink.make_veth(ends)?;
        self.configure(a)?;
        self.configure(b)
    }

    fn configure(&mut self, end: &NodeEnd) -> Result<(), NetlinkError> {
        let netlink = self.sockets.get_mut(&end.node).expect("a link leads to a node");
        let interface = netlink.interface(&end.interface)?;
        netlink.set_up(&interface, true)?;
        for placed in &end.addresses {
            let (on_link, length) = (placed.on_link.addr(), placed.on_link.prefix_len());
            netlink.add_address(&interface, placed.address, on_link, length, end.connected)?;
        }
        for &gateway in &end.gateways {
            netlink.add_default_route(&interface, gateway)?;
        }
        Ok(())
    }
}

fn veth_end<'a>(end: &'a NodeEnd, nodes: &'a Namespaces, index: Option<u32>) -> VethEnd<'a> {
    VethEnd {
        name: &end.interface,
        namespace: nodes[&end.node].as_fd(),
        index,
        mac: Some(end.mac.0),
        mtu: end.mtu,
        arp: true,
    }
}

/// The kernel says nothing of its own on the router-side ends, and forwards nothing between them.
fn quieten_router_side() -> io::Result<()> {
    for interface in ["all", "default"] {
        interface_setting("ipv6", interface, "disable_ipv6", "1")?;
        interface_setting("ipv4", interface, "forwarding", "0")?;
    }
    Ok(())
}

/// Sets a node's kernel up before it has interfaces, and opens a socket in its namespace. Without
/// this some settings would be those of the host's own namespace.
fn prepare(kind: NodeKind) -> io::Result<Netlink> {
    match kind {
        NodeKind::Host => {
            for interface in ["all", "default"] {
                interface_setting("ipv4", interface, "forwarding", "0")?;
                interface_setting("ipv6", interface, "forwarding", "0")?;
                interface_setting("ipv4", interface, "rp_filter", "0")?;
            }
        }
        NodeKind::Edge => {
            for (path, value) in run::SETTINGS {
                kernel_setting(path, value)?;
            }
        }
    }
    // Addresses are given, and nobody else has them.
    for key in ["accept_ra", "accept_dad", "router_solicitations"] {
        interface_setting("ipv6", "default", key, "0")?;
    }
    Netlink::open()
}

fn take_loopback_up(netlink: &mut Netlink, namespace: &str) -> Result<(), BuildError> {
    let outcome = netlink.interface("lo").and_then(|lo| netlink.set_up(&lo, true));
    outcome.map_err(|source| BuildError::Netlink { namespace: namespace.to_owned(), source })
}

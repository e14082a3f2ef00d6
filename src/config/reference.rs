//! Names of things in a lab, as drills write them: places, routers, sessions, peerings, hosts.
//!
//! Each type is made by `resolve` and so exists in the lab it was resolved against; `Display` gives
//! back what a drill writes.

use std::fmt;

use crate::config::error::nearest;
use crate::config::lab::{Lab, PeeringType};
use crate::model::LinkRole;

/// A segment of a circuit's link: `ams/primary:access`; `ams/primary` alone means `:nni`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    pub circuit: String,
    pub link: LinkRole,
    pub segment: Segment,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Segment {
    /// CE – provider.
    Access,
    /// Provider – MSEE.
    Nni,
    /// MSEE – gateways and VNets of the circuit.
    Core,
}

/// One link of a circuit, end to end: `ams/primary`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CircuitLink {
    pub circuit: String,
    pub link: LinkRole,
}

/// A router.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum NodeRef {
    /// `ce1`.
    SiteRouter(String),
    /// `ams/primary`: the MSEE at the end of that link. Circuits of one location share it.
    Msee(CircuitLink),
    /// `hub/er#0`, or `hub/er` for all instances.
    Gateway { vnet: String, gateway: String, instance: Option<u8> },
}

/// A BGP session, and the BFD session beside it; every address family it has.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SessionRef {
    /// `ams/primary`: between the customer's edge and the MSEE of that link.
    Link(CircuitLink),
    /// `core>ce1`: iBGP inside a site. `hub/er#0>ams/primary`: a gateway (or one instance of it)
    /// and an MSEE, in either order.
    Between(NodeRef, NodeRef),
}

/// `ams/AzurePrivatePeering`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PeeringRef {
    pub circuit: String,
    pub peering_type: PeeringType,
}

/// `dc1.erp` or `hub.app`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum HostRef {
    Site { site: String, host: String },
    VirtualNetwork { vnet: String, host: String },
}

/// Why a text names nothing, and what would.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unknown {
    pub found: String,
    pub allowed: String,
}

impl Segment {
    const ALL: [Self; 3] = [Self::Access, Self::Nni, Self::Core];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Nni => "nni",
            Self::Core => "core",
        }
    }
}

impl CircuitLink {
    pub fn resolve(text: &str, lab: &Lab) -> Result<Self, Unknown> {
        let link = text.split_once('/').and_then(|(circuit, link)| {
            let link = LinkRole::BOTH.into_iter().find(|role| role.name() == link)?;
            lab.circuit(circuit).map(|_| Self { circuit: circuit.to_owned(), link })
        });
        link.ok_or_else(|| unknown("link", text, circuit_links(lab)))
    }
}

impl Place {
    pub fn resolve(text: &str, lab: &Lab) -> Result<Self, Unknown> {
        let (link, segment) = text.split_once(':').unwrap_or((text, Segment::Nni.name()));
        let Ok(CircuitLink { circuit, link }) = CircuitLink::resolve(link, lab) else {
            let segments =
                |link: String| Segment::ALL.map(|segment| format!("{link}:{}", segment.name()));
            return Err(unknown(
                "place",
                text,
                circuit_links(lab).into_iter().flat_map(segments).collect(),
            ));
        };
        let segment = Segment::ALL.into_iter().find(|known| known.name() == segment);
        let segment = segment.ok_or_else(|| Unknown {
            found: format!("`{text}` names no segment of {circuit}/{link}"),
            allowed: "access (CE–provider), nni (provider–MSEE), core (MSEE–gateway)".to_owned(),
        })?;
        Ok(Self { circuit, link, segment })
    }
}

impl NodeRef {
    pub fn resolve(text: &str, lab: &Lab) -> Result<Self, Unknown> {
        if lab.site_router(text).is_some() {
            return Ok(Self::SiteRouter(text.to_owned()));
        }
        if let Ok(link) = CircuitLink::resolve(text, lab) {
            return Ok(Self::Msee(link));
        }
        Self::gateway(text, lab).ok_or_else(|| unknown("router", text, routers(lab)))
    }

    fn gateway(text: &str, lab: &Lab) -> Option<Self> {
        let (path, instance) = match text.split_once('#') {
            Some((path, instance)) => (path, Some(instance.parse().ok()?)),
            None => (text, None),
        };
        let (vnet, gateway) = path.split_once('/')?;
        let instances = lab.virtual_network(vnet)?.gateway(gateway)?.instances();
        let (vnet, gateway) = (vnet.to_owned(), gateway.to_owned());
        instance.is_none_or(|i| i < instances).then_some(Self::Gateway { vnet, gateway, instance })
    }
}

impl SessionRef {
    pub fn resolve(text: &str, lab: &Lab) -> Result<Self, Unknown> {
        let Some((a, b)) = text.split_once('>') else {
            return Self::of_link(text, lab);
        };
        let (a, b) = (NodeRef::resolve(a.trim(), lab)?, NodeRef::resolve(b.trim(), lab)?);
        if have_session(&a, &b, lab) || have_session(&b, &a, lab) {
            return Ok(Self::Between(a, b));
        }
        Err(Unknown { found: format!("{a} and {b} have no session"), allowed: SESSIONS.to_owned() })
    }

    /// Whether one end is an MSEE and the other a customer's router.
    pub const fn is_of_customer(&self) -> bool {
        use NodeRef::{Msee, SiteRouter};
        match self {
            Self::Link(_) => true,
            Self::Between(a, b) => {
                matches!((a, b), (SiteRouter(_), Msee(_)) | (Msee(_), SiteRouter(_)))
            }
        }
    }

    fn of_link(text: &str, lab: &Lab) -> Result<Self, Unknown> {
        let link = CircuitLink::resolve(text, lab).map_err(|Unknown { found, allowed }| {
            Unknown { found, allowed: format!("{allowed}; or router>router") }
        })?;
        let peered = lab.circuit(&link.circuit).is_some_and(|circuit| !circuit.peerings.is_empty());
        if peered && lab.edge_of(&link.circuit, link.link).is_some() {
            return Ok(Self::Link(link));
        }
        let found = format!("{link} has no session: the link lacks a peering or a router");
        Err(Unknown { found, allowed: SESSIONS.to_owned() })
    }
}

const SESSIONS: &str =
    "circuit/link (customer and MSEE), router>router inside a site, vnet/gateway>circuit/link";

fn have_session(a: &NodeRef, b: &NodeRef, lab: &Lab) -> bool {
    match (a, b) {
        (NodeRef::SiteRouter(a), NodeRef::SiteRouter(b)) => {
            lab.site_router(a).is_some_and(|(_, router)| router.ibgp.contains(b))
        }
        (NodeRef::SiteRouter(a), NodeRef::Msee(link)) => lab
            .site_router(a)
            .is_some_and(|(_, router)| router.uplink(&link.circuit, link.link).is_some()),
        (NodeRef::Gateway { vnet, gateway, .. }, NodeRef::Msee(link)) => {
            let gateway = lab.virtual_network(vnet).and_then(|vnet| vnet.gateway(gateway));
            let connected = |c: &crate::config::lab::Connection| c.circuit == link.circuit;
            gateway.is_some_and(|gateway| gateway.connections.iter().any(connected))
        }
        (NodeRef::SiteRouter(_), NodeRef::Gateway { .. })
        | (NodeRef::Gateway { .. }, NodeRef::SiteRouter(_) | NodeRef::Gateway { .. })
        | (NodeRef::Msee(_), _) => false,
    }
}

impl PeeringRef {
    pub fn resolve(text: &str, lab: &Lab) -> Result<Self, Unknown> {
        let peerings = |circuit: &crate::config::lab::Circuit| {
            let of = |kind: PeeringType| Self { circuit: circuit.name.clone(), peering_type: kind };
            circuit.peerings.iter().map(move |peering| of(peering.peering_type)).collect::<Vec<_>>()
        };
        let all: Vec<_> = lab.circuits.iter().flat_map(peerings).collect();
        let known = all.iter().map(ToString::to_string).collect();
        let peering = all.into_iter().find(|peering| peering.to_string() == text);
        peering.ok_or_else(|| unknown("peering", text, known))
    }
}

impl HostRef {
    pub fn resolve(text: &str, lab: &Lab) -> Result<Self, Unknown> {
        let all = hosts(lab);
        let known = all.iter().map(ToString::to_string).collect();
        let host = all.into_iter().find(|host| host.to_string() == text);
        host.ok_or_else(|| unknown("host", text, known))
    }

    pub const fn is_on_site(&self) -> bool {
        matches!(self, Self::Site { .. })
    }

    /// The host itself; none in a lab it was not resolved against.
    pub fn host<'l>(&self, lab: &'l Lab) -> Option<&'l crate::config::lab::Host> {
        match self {
            Self::Site { site, host } => lab.site(site)?.host(host).map(|(_, host)| host),
            Self::VirtualNetwork { vnet, host } => lab.virtual_network(vnet)?.host(host),
        }
    }
}

fn circuit_links(lab: &Lab) -> Vec<String> {
    let links = |name: &str| LinkRole::BOTH.map(|link| format!("{name}/{link}"));
    lab.circuits.iter().flat_map(|circuit| links(&circuit.name)).collect()
}

fn routers(lab: &Lab) -> Vec<String> {
    let sites = lab.sites.iter().flat_map(|site| &site.routers).map(|router| router.name.clone());
    let gateways = lab.virtual_networks.iter().flat_map(|vnet| {
        vnet.gateways.iter().map(move |gateway| format!("{}/{}", vnet.name, gateway.name))
    });
    sites.chain(circuit_links(lab)).chain(gateways).collect()
}

fn hosts(lab: &Lab) -> Vec<HostRef> {
    let mut all = Vec::new();
    for site in &lab.sites {
        for host in site.networks.iter().flat_map(|network| &network.hosts) {
            all.push(HostRef::Site { site: site.name.clone(), host: host.name.clone() });
        }
    }
    for vnet in &lab.virtual_networks {
        for host in &vnet.hosts {
            all.push(HostRef::VirtualNetwork { vnet: vnet.name.clone(), host: host.name.clone() });
        }
    }
    all
}

fn unknown(what: &str, text: &str, known: Vec<String>) -> Unknown {
    let list = if known.is_empty() { "there is none".to_owned() } else { known.join(", ") };
    let allowed = match nearest(text, known.iter().map(String::as_str)) {
        Some(near) => format!("{list}; did you mean `{near}`?"),
        None => list,
    };
    Unknown { found: format!("the lab has no {what} `{text}`"), allowed }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.circuit, self.link, self.segment.name())
    }
}

impl fmt::Display for CircuitLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.circuit, self.link)
    }
}

impl fmt::Display for NodeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SiteRouter(name) => f.write_str(name),
            Self::Msee(link) => link.fmt(f),
            Self::Gateway { vnet, gateway, instance: None } => write!(f, "{vnet}/{gateway}"),
            Self::Gateway { vnet, gateway, instance: Some(i) } => write!(f, "{vnet}/{gateway}#{i}"),
        }
    }
}

impl fmt::Display for SessionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(link) => link.fmt(f),
            Self::Between(a, b) => write!(f, "{a}>{b}"),
        }
    }
}

impl fmt::Display for PeeringRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.circuit, self.peering_type.name())
    }
}

impl fmt::Display for HostRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Site { site, host } => write!(f, "{site}.{host}"),
            Self::VirtualNetwork { vnet, host } => write!(f, "{vnet}.{host}"),
        }
    }
}

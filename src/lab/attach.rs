//! Where a lab ends and somebody else's network begins: which routers a process runs, which links
//! lead out of them, and the host's ports that those are on.
//!
//! ```text
//!   ce1 (attach) ── eth1 ─┤ ams/primary:access ── provider ── MSEE ── …        a whole lab
//!                └─ eth3 ─┤ dc1.erp:lan ── the hosts of the network
//!   provider, CE ── eth1 ─┤ ams/primary:nni ── MSEE ── gateways, VNet          --node ams/primary …
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fmt, io};

use thiserror::Error;

use crate::azure::{self, CompiledLink};
use crate::config::lab::{Attach, AttachEnd, AttachLink, Lab, RouterKind, Site, SiteRouter};
use crate::config::nearest;
use crate::io::packet::AttachedPort;
use crate::io::udp::{self, UdpPort};
use crate::io::{Frames, Port};
use crate::lab::{Ports, sites};
use crate::model::{Instant, LinkRole};
use crate::sys::namespace::NetworkNamespace;
use crate::sys::packet;

/// Of links with one tag or none (F-77), and of those with two.
const IP_MTU: usize = 1500;
const FULL_MTU: usize = 1508;
/// Frames of an earlier lab are read in batches of so many, and so many of these at most: more than a
/// socket holds.
const STALE_BATCH: usize = 64;
const STALE_BATCHES_MAX: u64 = 4096;

/// What of a lab a process runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// Routers that are somebody else's.
    pub outside: BTreeSet<String>,
    /// Links between those and the process's own, and the links of its own routers' hosts.
    pub leads: Vec<Lead>,
}

/// A link that leads out, or may.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lead {
    /// The link's name in the lab.
    link: String,
    /// As places are written: `ams/primary:access`, `hub.app`; the first is the usual one.
    called: Vec<String>,
    pub at: Option<AttachLink>,
    /// A host stays the lab's own unless it is given a port.
    pub is_host: bool,
}

/// Why a lab cannot be run in parts like that.
#[derive(Debug, Error)]
pub enum PartError {
    #[error("the lab has no `{name}`{}; routers, sites, circuits and VNets: {}",
        meant(.nearest.as_ref()), .known.join(", "))]
    UnknownNode { name: String, nearest: Option<String>, known: Vec<String> },
    #[error(
        "{name} is `kind: {kind}` and no router of msee's; leave it out, and say by \
         --port LINK=INTERFACE where its links are"
    )]
    NotOurs { name: String, kind: &'static str },
    #[error(
        "{name} is `kind: {kind}`, which `msee lab up` runs; here its links are on interfaces: \
         `kind: attach`, or {}", .ports.join(" ")
    )]
    Runs { name: String, kind: &'static str, ports: Vec<String> },
    #[error("no link `{name}` leads out of what runs here{}; {}",
        meant(.nearest.as_ref()), leading(.leads))]
    UnknownLink { name: String, nearest: Option<String>, leads: Vec<String> },
    #[error("link {name} is given two ports; give it one")]
    Twice { name: String },
    #[error("links {first} and {second} are both on {at}; give each its own")]
    Shared { first: String, second: String, at: AttachLink },
}

/// Why a port could not be opened.
#[derive(Debug, Error)]
pub enum AttachError {
    #[error("{link}: there is no {at}; `ip link` lists what there is")]
    Missing { link: String, at: AttachLink },
    #[error(transparent)]
    Packet(#[from] packet::Error),
    #[error(transparent)]
    Udp(#[from] udp::Error),
    #[error(
        "network namespace {name}: {source}; `ip netns` lists those with a name, and to enter one \
         takes root"
    )]
    Namespace { name: String, source: io::Error },
}

fn meant(nearest: Option<&String>) -> String {
    nearest.map(|name| format!(" (did you mean {name}?)")).unwrap_or_default()
}

fn leading(leads: &[String]) -> String {
    if leads.is_empty() {
        return "none does: --node NAME says what runs here".to_owned();
    }
    format!("these do: {}", leads.join(", "))
}

/// Names of the site routers that are no routers of msee's where frames are real.
pub fn outside(lab: &Lab) -> BTreeSet<String> {
    let routers = lab.sites.iter().flat_map(|site| &site.routers);
    let external = routers.filter(|router| router.kind != RouterKind::BuiltIn);
    external.map(|router| router.name.clone()).collect()
}

/// The host's ports of a lab's attached routers, opened in the network namespace of the calling
/// thread: to be called before that is another.
///
/// # Errors
/// A port cannot be opened.
pub fn ports(lab: &Lab) -> Result<Ports, AttachError> {
    let mut ports = Ports::new();
    for (link, at) in attachments(lab) {
        // To see that it is missing takes no privilege.
        let is_missing = |name: &String| packet::Interface::by_name(name).is_err();
        if matches!(&at, AttachLink::Interface(name) if is_missing(name)) {
            return Err(AttachError::Missing { link, at });
        }
        let mut port = open(&at)?;
        if !port.is_there() {
            return Err(AttachError::Missing { link, at });
        }
        ports.insert(link, port.into_port());
    }
    Ok(ports)
}

/// The host's ports of a lab's attached routers, which one lab after another has: opening them takes
/// privileges that a sandbox has not.
#[derive(Default)]
pub struct Lent {
    /// Of their links.
    names: Vec<String>,
    /// Those that no lab has.
    ports: Mutex<Ports>,
}

impl Lent {
    /// Ports as [`ports`] opens them.
    pub fn new(ports: Ports) -> Self {
        Self { names: ports.keys().cloned().collect(), ports: Mutex::new(ports) }
    }

    pub const fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Those that no lab has, with nothing in them of what came before.
    pub fn lend(&self) -> Ports {
        let mut ports = std::mem::take(&mut *self.lock());
        for port in ports.values_mut() {
            forget(&mut **port);
        }
        ports
    }

    /// Takes them from the lab that had them; nothing reaches it any more.
    pub fn take_back(&self, lab: &mut super::Lab) {
        let taken = self.names.iter().filter_map(|name| Some((name.clone(), lab.take_port(name)?)));
        self.lock().extend(taken);
    }

    fn lock(&self) -> MutexGuard<'_, Ports> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").field("names", &self.names).finish_non_exhaustive()
    }
}

/// Throws away what has arrived at a port. Who sends without an end is not waited for.
fn forget(port: &mut dyn Port) {
    let (mut frames, mut arrived) = (Frames::new(), Vec::new());
    for batch in 0..STALE_BATCHES_MAX {
        // A port looks for some of it from time to time only.
        let now = Instant::ZERO + Duration::from_millis(batch);
        port.receive(STALE_BATCH, &mut arrived, &mut frames, now);
        if arrived.is_empty() {
            return;
        }
        arrived.drain(..).for_each(|frame| frames.free(frame));
    }
}

impl Part {
    /// Of the routers that `nodes` stand for, or all; links are on the ports that the lab's file says
    /// or, before that, `ports`. Without `nodes` a customer's router whose circuit's link is given a
    /// port is behind that port.
    pub fn of(
        lab: &Lab,
        nodes: &[String],
        ports: &[(String, AttachLink)],
    ) -> Result<Self, PartError> {
        let links: Vec<_> =
            azure::compile(lab).links.into_iter().chain(sites::compile(lab).links).collect();
        let all: BTreeSet<_> =
            links.iter().flat_map(|link| &link.ends).map(|(router, _)| router.clone()).collect();
        let outside = if nodes.is_empty() {
            behind(lab, ports)?
        } else {
            let mut inside = BTreeSet::new();
            for name in nodes {
                inside.extend(stands_for(lab, &all, name)?);
            }
            all.difference(&inside).cloned().collect()
        };
        let mut part = Self { leads: leads(lab, &links, &outside), outside };
        if nodes.is_empty() {
            part.leads.extend(lans(lab));
        }
        let written: BTreeMap<_, _> = attachments(lab).collect();
        for lead in &mut part.leads {
            lead.at = written.get(&lead.link).cloned();
        }
        let mut given = BTreeSet::new();
        for (name, at) in ports {
            let lead = part.find(name)?;
            if !given.insert(lead) {
                return Err(PartError::Twice { name: name.clone() });
            }
            part.leads[lead].at = Some(at.clone());
        }
        for (at, second) in part.leads.iter().enumerate() {
            let first =
                part.leads[..at].iter().find(|lead| second.at.is_some() && lead.at == second.at);
            if let (Some(first), Some(at)) = (first, &second.at) {
                let [first, second] = [first, second].map(|lead| lead.name().to_owned());
                return Err(PartError::Shared { first, second, at: at.clone() });
            }
        }
        Ok(part)
    }

    /// The lead of that name.
    fn find(&self, name: &str) -> Result<usize, PartError> {
        let by = |is: &dyn Fn(&Lead) -> bool| {
            let mut found = (0..self.leads.len()).filter(|&at| is(&self.leads[at]));
            found.next().filter(|_| found.next().is_none())
        };
        let whole = by(&|lead| lead.called.iter().any(|called| called == name));
        // The end of a circuit's link that leads out, where one does.
        let found =
            whole.or_else(|| by(&|lead| lead.called.iter().any(|called| short(called) == name)));
        found.ok_or_else(|| {
            let names = self.leads.iter().map(Lead::name);
            let known = names.clone().chain(names.clone().map(short));
            PartError::UnknownLink {
                name: name.to_owned(),
                nearest: nearest(name, known).map(str::to_owned),
                leads: names.map(str::to_owned).collect(),
            }
        })
    }
}

/// A place without its segment.
fn short(called: &str) -> &str {
    called.split_once(':').map_or(called, |(link, _)| link)
}

impl Lead {
    pub fn name(&self) -> &str {
        &self.called[0]
    }

    /// What an interface there has to have, bytes: with two tags the kernel counts one of them.
    pub fn mtu(&self) -> usize {
        if self.name().ends_with(":nni") { FULL_MTU } else { IP_MTU }
    }

    /// As [`Ports`] calls it.
    pub fn link(&self) -> &str {
        &self.link
    }
}

/// A port of the host that was opened.
#[derive(Debug)]
pub enum Opened {
    Packet(Box<AttachedPort>),
    Udp(Box<UdpPort>),
}

impl Opened {
    /// Whether its interface is there.
    pub fn is_there(&mut self) -> bool {
        match self {
            Self::Packet(port) => port.state().is_some(),
            Self::Udp(_) => true,
        }
    }

    /// Largest IP packet without tags of its interface, bytes.
    pub fn mtu(&mut self) -> Option<usize> {
        match self {
            Self::Packet(port) => port.state().map(|state| state.mtu),
            Self::Udp(_) => None,
        }
    }

    pub fn into_port(self) -> Box<dyn Port> {
        match self {
            Self::Packet(port) => port,
            Self::Udp(port) => port,
        }
    }
}

/// Opens a port of the host. An interface need not be there yet.
pub fn open(at: &AttachLink) -> Result<Opened, AttachError> {
    match at {
        AttachLink::Interface(name) => Ok(Opened::Packet(Box::new(AttachedPort::open(name)?))),
        AttachLink::Udp { listen, peer } => {
            Ok(Opened::Udp(Box::new(UdpPort::open(*listen, *peer)?)))
        }
        AttachLink::Netns { namespace, name } => {
            let failed = |source| AttachError::Namespace { name: namespace.clone(), source };
            let port = NetworkNamespace::find(namespace)
                .and_then(|namespace| namespace.visit(|| AttachedPort::open(name)))
                .map_err(failed)??;
            Ok(Opened::Packet(Box::new(port)))
        }
    }
}

/// What is said of each port of an attached router.
fn entries(lab: &Lab) -> impl Iterator<Item = (&Site, &SiteRouter, &Attach)> {
    let routers = lab.sites.iter().flat_map(|site| site.routers.iter().map(move |r| (site, r)));
    routers.flat_map(|(site, router)| router.attached().iter().map(move |at| (site, router, at)))
}

/// Links of attached routers by their names, and where they are.
fn attachments(lab: &Lab) -> impl Iterator<Item = (String, AttachLink)> {
    entries(lab).map(|(site, router, entry)| (link_of(site, router, entry), entry.link.clone()))
}

/// The link at a port of an attached router.
fn link_of(site: &Site, router: &SiteRouter, attached: &Attach) -> String {
    match &attached.end {
        AttachEnd::Uplink(port) => {
            let uplink = router.uplinks.iter().find(|uplink| uplink.port == *port);
            let uplink = uplink.expect("a checked lab attaches ports of uplinks");
            format!("{}/{}:access", uplink.circuit, uplink.link)
        }
        AttachEnd::Network(network) => lan(&site.name, network),
        AttachEnd::Router(other) => sites::internal_link(site, &router.name, other),
    }
}

/// The segment with the hosts of a network that is on a port of an attached router.
pub(super) fn lan(site: &str, network: &str) -> String {
    format!("{site}.{network}:lan")
}

/// The routers that are outside when all others run here.
fn behind(lab: &Lab, ports: &[(String, AttachLink)]) -> Result<BTreeSet<String>, PartError> {
    let mut outside = BTreeSet::new();
    for router in lab.sites.iter().flat_map(|site| &site.routers) {
        let places: Vec<_> = router
            .uplinks
            .iter()
            .map(|uplink| format!("{}/{}", uplink.circuit, uplink.link))
            .collect();
        let is_given = places.iter().any(|place| {
            ports.iter().any(|(name, _)| name == place || *name == format!("{place}:access"))
        });
        if is_given || matches!(router.kind, RouterKind::Attach(_)) {
            outside.insert(router.name.clone());
        } else if router.kind != RouterKind::BuiltIn {
            return Err(PartError::Runs {
                name: router.name.clone(),
                kind: kind(router),
                ports: places.iter().map(|place| format!("--port {place}=INTERFACE")).collect(),
            });
        }
    }
    Ok(outside)
}

/// The routers that a name stands for: a router, or those of a circuit, a site or a VNet.
fn stands_for(lab: &Lab, all: &BTreeSet<String>, name: &str) -> Result<Vec<String>, PartError> {
    if let Some(circuit) = lab.circuit(name) {
        let msees = LinkRole::BOTH.map(|link| azure::msee_name(lab, circuit, link));
        return Ok(msees.into_iter().chain([azure::provider_name(circuit)]).collect());
    }
    if let Some(site) = lab.sites.iter().find(|site| site.name == name) {
        return site.routers.iter().map(ours).collect();
    }
    if let Some(vnet) = lab.virtual_network(name) {
        let gateways = vnet.gateways.iter().flat_map(|gateway| {
            (0..gateway.instances())
                .map(|instance| azure::gateway_instance(vnet, gateway, instance))
        });
        return Ok(gateways.chain([vnet.name.clone()]).collect());
    }
    if let Some((_, router)) = lab.site_router(name) {
        return Ok(vec![ours(router)?]);
    }
    // The MSEE at the end of a circuit's link, however many circuits share it.
    for circuit in &lab.circuits {
        for link in LinkRole::BOTH {
            if name == format!("{}/{link}", circuit.name) {
                return Ok(vec![azure::msee_name(lab, circuit, link)]);
            }
        }
    }
    let instances: Vec<_> = all
        .iter()
        .filter(|router| {
            router.as_str() == name
                || router.split_once('#').is_some_and(|(gateway, _)| gateway == name)
        })
        .cloned()
        .collect();
    if !instances.is_empty() {
        return Ok(instances);
    }
    let groups = lab.circuits.iter().map(|circuit| &circuit.name);
    let groups = groups.chain(lab.sites.iter().map(|site| &site.name));
    let known: Vec<_> = all.iter().chain(groups).cloned().collect();
    let nearest = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
    Err(PartError::UnknownNode { name: name.to_owned(), nearest, known })
}

fn ours(router: &SiteRouter) -> Result<String, PartError> {
    match router.kind {
        RouterKind::BuiltIn => Ok(router.name.clone()),
        _ => Err(PartError::NotOurs { name: router.name.clone(), kind: kind(router) }),
    }
}

const fn kind(router: &SiteRouter) -> &'static str {
    match router.kind {
        RouterKind::BuiltIn => "built-in",
        RouterKind::Frr => "frr",
        RouterKind::Bird => "bird",
        RouterKind::Attach(_) => "attach",
    }
}

/// The links with one end outside, and those of hosts of the routers inside.
fn leads(lab: &Lab, links: &[CompiledLink], outside: &BTreeSet<String>) -> Vec<Lead> {
    let is_outside = |router: &str| outside.contains(router);
    let leading = links
        .iter()
        .filter(|link| link.ends.iter().filter(|(router, _)| is_outside(router)).count() == 1);
    let between = leading.map(|link| Lead {
        link: link.name.clone(),
        called: called(lab, &link.name),
        at: None,
        is_host: false,
    });
    let host =
        |name: String| Lead { link: name.clone(), called: vec![name], at: None, is_host: true };
    let sites = lab.sites.iter().flat_map(|site| {
        let inside = site.networks.iter().filter(|network| {
            site.gateway_of(&network.name).is_some_and(|router| !is_outside(&router.name))
        });
        let hosts = inside.flat_map(|network| &network.hosts);
        hosts.map(move |entry| host(format!("{}.{}", site.name, entry.name)))
    });
    let vnets = lab.virtual_networks.iter().filter(|vnet| !is_outside(&vnet.name));
    let vms = vnets.flat_map(|vnet| {
        vnet.hosts.iter().map(move |entry| host(format!("{}.{}", vnet.name, entry.name)))
    });
    between.chain(sites).chain(vms).collect()
}

/// The segments behind attached routers, whose hosts are the whole lab's.
fn lans(lab: &Lab) -> impl Iterator<Item = Lead> {
    entries(lab).filter_map(|(site, _, entry)| match &entry.end {
        AttachEnd::Network(network) => {
            let link = lan(&site.name, network);
            Some(Lead { link: link.clone(), called: vec![link], at: None, is_host: false })
        }
        AttachEnd::Uplink(_) | AttachEnd::Router(_) => None,
    })
}

/// What a link is called in places; its name where it has no place of its own.
fn called(lab: &Lab, link: &str) -> Vec<String> {
    let mut names = Vec::new();
    for circuit in &lab.circuits {
        for role in LinkRole::BOTH {
            if link == format!("{}/{role}:nni", azure::provider_name(circuit)) {
                names.push(format!("{}/{role}:nni", circuit.name));
            }
        }
    }
    names.push(link.to_owned());
    names
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_lab_is_lent_ports_without_what_arrived_before() {
        let free = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let [listen, peer] = free.each_ref().map(|socket| socket.local_addr().unwrap());
        drop(free);
        let far = UdpSocket::bind(peer).unwrap();
        let port = UdpPort::open(listen, peer).unwrap();
        let lent = Lent::new(Ports::from([("ams/primary:access".to_owned(), Box::new(port) as _)]));
        for _ in 0..100 {
            far.send_to(&[1; 60], listen).unwrap();
        }
        let mut ports = lent.lend();
        assert!(lent.lend().is_empty(), "one lab has them");
        far.send_to(&[2; 60], listen).unwrap();
        let (mut frames, mut arrived) = (Frames::new(), Vec::new());
        let port = ports.get_mut("ams/primary:access").unwrap();
        port.receive(64, &mut arrived, &mut frames, Instant::ZERO);
        let [frame] = arrived.try_into().unwrap();
        assert_eq!(frames.bytes(&frame), [2; 60]);
    }
}

//! A customer's router that is not built in: what it has to be configured with, and how FRR and
//! BIRD are run as one.
//!
//! [`Customer`] is the customer's side of a lab as a built-in router has it, in nobody's language;
//! the files beside this one each say it in one. Nothing here starts a process: [`run`] says what is
//! to be started.

mod bird;
mod birdc;
mod frr;
mod ios;
mod junos;
pub mod run;

use std::net::{IpAddr, Ipv4Addr};

use crate::config::lab::{Lab, Site, SiteRouter, Uplink};
use crate::lab::sites;
use crate::model::{
    Asn, AttachmentConfig, BfdConfig, Encapsulation, ExportPolicy, ImportPolicy, NeighborConfig,
    NeighborKind, Prefix, RouterConfig, VrfConfig,
};

/// A language a configuration can be asked for in.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// As after `--for`.
    pub name: &'static str,
    pub about: &'static str,
    /// The configuration of a router, ready to paste.
    pub configuration: fn(&Customer) -> String,
}

pub const FORMATS: &[Format] = &[
    Format {
        name: "frr",
        about: "FRRouting 8 and later: frr.conf",
        configuration: |customer| frr::configuration(customer, Ports::SubInterfaces),
    },
    Format {
        name: "bird",
        about: "BIRD 2: bird.conf",
        configuration: |customer| bird::configuration(customer, Ports::SubInterfaces),
    },
    Format {
        name: "ios",
        about: "Cisco IOS-XE, to be pasted in configuration mode",
        configuration: ios::configuration,
    },
    Format {
        name: "junos",
        about: "Juniper Junos, set commands",
        configuration: junos::configuration,
    },
];

/// What a tagged link of FRR or BIRD hangs on. The name of the interface, and so all of the
/// configuration that counts, is the same: what was tried in a lab is what is pasted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ports {
    /// A VLAN sub-interface that the customer makes on the port.
    SubInterfaces,
    /// A plain interface with the sub-interface's name; the lab puts the tag on at its own end,
    /// since not every kernel has VLAN interfaces.
    Plain,
}

/// What a customer's router has to be configured with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Customer {
    pub name: String,
    pub site: String,
    pub lab: String,
    pub router_id: Ipv4Addr,
    pub asn: Asn,
    /// Most next hops of one route.
    pub max_paths: u8,
    /// Links with BGP sessions, in the order of the lab file; those inside the site come last.
    pub links: Vec<Link>,
    /// Links to hosts.
    pub lans: Vec<Lan>,
    /// What it announces as its own.
    pub networks: Vec<Prefix>,
}

/// A link on which the router speaks BGP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// `ams/primary`, or the router at the other end.
    pub name: String,
    /// What it is, for a person.
    pub title: String,
    /// As the lab file calls it.
    pub port: String,
    /// The sub-interface, or the port where frames have no tag.
    pub interface: String,
    pub encapsulation: Encapsulation,
    /// Own addresses with the length of the link's subnet.
    pub addresses: Vec<Prefix>,
    /// At most one of each family.
    pub sessions: Vec<NeighborConfig>,
}

/// A link to one host of a network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lan {
    /// As the router's configuration calls it: `lan:erp`.
    pub port: String,
    pub interface: String,
    /// Own address, the host's gateway.
    pub address: IpAddr,
    /// The host alone: the rest of the network is not on the link.
    pub host: Prefix,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Family {
    Ipv4,
    Ipv6,
}

impl Customer {
    /// The site's router of that name; none where the lab has no such router.
    pub fn of(lab: &Lab, name: &str) -> Option<Self> {
        let (site, router) = lab.site_router(name)?;
        let compiled = sites::compile(lab);
        let config = compiled.routers.into_iter().find(|config| config.name == name)?;
        Some(Self::new(lab, site, router, &config))
    }

    fn new(lab: &Lab, site: &Site, router: &SiteRouter, config: &RouterConfig) -> Self {
        let vrf = config.vrfs.first().expect("a site's router has one VRF");
        let mut links = Vec::new();
        let mut lans = Vec::new();
        for (ordinal, attachment) in config.attachments.iter().enumerate() {
            let sessions = sessions_on(vrf, attachment);
            if sessions.is_empty() {
                lans.extend(lans_on(attachment, ordinal));
            } else {
                links.push(link(lab, site, router, attachment, sessions, ordinal));
            }
        }
        Self {
            name: router.name.clone(),
            site: site.name.clone(),
            lab: lab.name.clone(),
            router_id: config.router_id,
            asn: vrf.asn,
            max_paths: vrf.max_paths,
            links,
            lans,
            networks: vrf.originated.iter().map(|originated| originated.prefix).collect(),
        }
    }

    /// Each session with the link it is on.
    fn sessions(&self) -> impl Iterator<Item = (&Link, &NeighborConfig)> {
        self.links.iter().flat_map(|link| link.sessions.iter().map(move |session| (link, session)))
    }

    /// The families in which it has a session, in order.
    fn families(&self) -> impl Iterator<Item = Family> {
        let used = |family: &Family| self.sessions().any(|(_, s)| Family::of(s.peer) == *family);
        [Family::Ipv4, Family::Ipv6].into_iter().filter(used)
    }

    fn sessions_in(&self, family: Family) -> impl Iterator<Item = (&Link, &NeighborConfig)> {
        self.sessions().filter(move |(_, session)| Family::of(session.peer) == family)
    }

    fn networks_in(&self, family: Family) -> impl Iterator<Item = Prefix> {
        let networks = self.networks.iter().copied();
        networks.filter(move |network| Family::of(network.addr()) == family)
    }

    fn has_uplinks(&self) -> bool {
        self.sessions().any(|(_, session)| is_external(session))
    }

    /// Towards every MSEE the same: a policy belongs to the router (7.4, F-58, F-111).
    fn policy(&self) -> (ImportPolicy, ExportPolicy) {
        let uplink = self.sessions().find(|(_, session)| is_external(session));
        uplink
            .map(|(_, session)| (session.import.clone(), session.export.clone()))
            .unwrap_or_default()
    }

    /// What routes from Azure are given, where that is not what every router gives them (7.4).
    fn local_preference(&self) -> Option<u32> {
        self.policy().0.local_preference.filter(|&given| given != LOCAL_PREFERENCE_OF_EVERYONE)
    }

    /// The own ASN once for each time it is put in front again; empty for none.
    fn prepended(&self, between: &str) -> String {
        vec![self.asn.to_string(); usize::from(self.policy().1.prepend)].join(between)
    }

    /// Timers of BFD, the same on every uplink (L-12).
    fn bfd(&self) -> Option<BfdConfig> {
        self.sessions().find_map(|(_, session)| session.bfd)
    }

    /// The tagged links, by port.
    fn tagged(&self) -> impl Iterator<Item = &Link> {
        self.links.iter().filter(|link| link.encapsulation != Encapsulation::Untagged)
    }

    /// Ports of the lab file, each once.
    fn ports(&self) -> Vec<&str> {
        let mut ports: Vec<&str> = Vec::new();
        for link in self.links.iter().filter(|link| link.is_uplink()) {
            if !ports.contains(&link.port.as_str()) {
                ports.push(&link.port);
            }
        }
        ports
    }
}

/// BGP's customary default; what a router does without being told (7.4).
const LOCAL_PREFERENCE_OF_EVERYONE: u32 = 100;

/// Between two attempts to connect; the 120 s of FRR and BIRD are long after a cut.
const CONNECT_SECS: u8 = 5;

impl Link {
    fn is_uplink(&self) -> bool {
        self.sessions.iter().any(is_external)
    }
}

impl Family {
    const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }

    /// As in `address-family ipv4 unicast`.
    const fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }
}

fn is_external(session: &NeighborConfig) -> bool {
    session.kind == NeighborKind::Provider
}

/// The keepalive that goes with a hold time (L-11; RFC 4271, 10), seconds.
fn keepalive_secs(session: &NeighborConfig) -> u64 {
    (session.hold.as_secs() / 3).max(1)
}

/// Whether it insists on a neighbour that is on the link (RFC 5082).
fn is_ttl_secured(session: &NeighborConfig) -> bool {
    is_external(session) && session.ttl.least > 1
}

fn sessions_on(vrf: &VrfConfig, attachment: &AttachmentConfig) -> Vec<NeighborConfig> {
    let here = |neighbor: &&NeighborConfig| neighbor.attachment == attachment.name;
    vrf.neighbors.iter().filter(here).cloned().collect()
}

fn lans_on(attachment: &AttachmentConfig, ordinal: usize) -> impl Iterator<Item = Lan> {
    let interface = interface_inside(&attachment.port, ordinal);
    attachment.addresses.iter().map(move |on_link| Lan {
        port: attachment.port.clone(),
        interface: interface.clone(),
        address: on_link.address,
        host: on_link.on_link,
    })
}

fn link(
    lab: &Lab,
    site: &Site,
    router: &SiteRouter,
    attachment: &AttachmentConfig,
    sessions: Vec<NeighborConfig>,
    ordinal: usize,
) -> Link {
    let place = |uplink: &&Uplink| format!("{}/{}", uplink.circuit, uplink.link) == attachment.name;
    let port = attachment.port.clone();
    let own = attachment.addresses.iter().map(|on_link| on_link.address);
    let Some(uplink) = router.uplinks.iter().find(place) else {
        let other = port.trim_start_matches(sites::INTERNAL_PORT).to_owned();
        return Link {
            title: format!("to {other}, inside {}; the addresses are the lab's own", site.name),
            name: other,
            interface: interface_inside(&port, ordinal),
            port,
            encapsulation: attachment.encapsulation,
            addresses: own.map(internal_subnet).collect(),
            sessions,
        };
    };
    let circuit = lab.circuit(&uplink.circuit).expect("a checked lab names circuits it has");
    let subnets = attachment.addresses.iter().map(|on_link| on_link.on_link.prefix_len());
    let with_length = |(address, length)| {
        Prefix::new(address, length).expect("an address has the family of its subnet")
    };
    Link {
        title: format!(
            "circuit {}, {} link: {} {}, {}",
            circuit.name,
            uplink.link,
            circuit.service_provider,
            circuit.peering_location,
            tags_in_words(attachment.encapsulation),
        ),
        name: attachment.name.clone(),
        interface: sub_interface(&port, attachment.encapsulation),
        port,
        encapsulation: attachment.encapsulation,
        addresses: own.zip(subnets).map(with_length).collect(),
        sessions,
    }
}

/// Inside a site each end is one of a /30 and a /126.
fn internal_subnet(address: IpAddr) -> Prefix {
    let length = if address.is_ipv4() { 30 } else { 126 };
    Prefix::new(address, length).expect("both lengths are possible")
}

/// As people name sub-interfaces: the port, then its tags from the outside.
fn sub_interface(port: &str, encapsulation: Encapsulation) -> String {
    match encapsulation {
        Encapsulation::Untagged | Encapsulation::Vni(_) => port.to_owned(),
        Encapsulation::Dot1q(tag) => format!("{port}.{tag}"),
        Encapsulation::QinQ { outer, inner } => format!("{port}.{outer}.{inner}"),
    }
}

fn tags_in_words(encapsulation: Encapsulation) -> String {
    match encapsulation {
        Encapsulation::Untagged => "untagged".to_owned(),
        Encapsulation::Dot1q(tag) => format!("VLAN {tag}"),
        Encapsulation::QinQ { outer, inner } => format!("S-tag {outer}, C-tag {inner}"),
        Encapsulation::Vni(vni) => format!("VNI {vni}"),
    }
}

/// Linux's IFNAMSIZ without the closing zero.
const INTERFACE_NAME_LEN_MAX: usize = 15;

/// An interface for a port that the lab names, within what Linux allows: no colon, and short. What
/// is cut off is told apart by the port's place; a dot is in no name of a lab file.
fn interface_inside(port: &str, ordinal: usize) -> String {
    let name = port.replace(':', "-");
    if name.len() <= INTERFACE_NAME_LEN_MAX {
        return name;
    }
    let end = format!(".{ordinal}");
    format!("{}{end}", &name[..INTERFACE_NAME_LEN_MAX - end.len()])
}

/// The commands that make the sub-interfaces of a Linux router, an outer tag once.
fn commands_for_sub_interfaces(customer: &Customer) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut add = |command: String| {
        if !commands.contains(&command) {
            commands.push(command);
        }
    };
    for link in customer.tagged() {
        let Link { port, interface, .. } = link;
        add(format!("ip link set dev {port} up"));
        match link.encapsulation {
            Encapsulation::Dot1q(tag) => {
                add(format!("ip link add link {port} name {interface} type vlan id {tag}"));
            }
            Encapsulation::QinQ { outer, inner } => {
                let middle = format!("{port}.{outer}");
                add(format!("ip link add link {port} name {middle} type vlan id {outer}"));
                add(format!("ip link set dev {middle} up"));
                add(format!("ip link add link {middle} name {interface} type vlan id {inner}"));
            }
            Encapsulation::Untagged | Encapsulation::Vni(_) => {}
        }
        add(format!("ip link set dev {interface} up"));
    }
    commands
}

/// What a configuration opens with on Linux about its links, where there is something to say.
fn how_links_are_made(customer: &Customer, ports: Ports, text: &mut Text) {
    if customer.tagged().next().is_none() {
        return;
    }
    match ports {
        Ports::SubInterfaces => {
            text.comment(
                "It makes no VLAN interfaces itself; the system has to, before it starts:",
            );
            for command in commands_for_sub_interfaces(customer) {
                text.comment(format!("  {command}"));
            }
        }
        Ports::Plain => {
            text.comment("In this lab each interface has the name of its VLAN and carries no tag:");
            text.comment("the lab puts the tag on at its own end of the link.");
        }
    }
}

/// A configuration as it is written.
struct Text {
    text: String,
    /// How a line begins that is for people only.
    comment: &'static str,
}

impl Text {
    const fn new(comment: &'static str) -> Self {
        Self { text: String::new(), comment }
    }

    fn line(&mut self, line: impl AsRef<str>) {
        self.text += line.as_ref();
        self.text.push('\n');
    }

    fn comment(&mut self, comment: impl AsRef<str>) {
        self.text += self.comment;
        self.text.push(' ');
        self.line(comment);
    }

    /// Ends a block.
    fn gap(&mut self) {
        self.text.push('\n');
    }

    /// Who it is for.
    fn heading(&mut self, customer: &Customer, made_for: &str) {
        let Customer { name, site, lab, asn, .. } = customer;
        self.comment(format!("{name} of {site}, AS {asn}, in lab {lab}: {made_for}"));
    }

    /// Ports that only stand for those of a real router.
    fn stand_ins(&mut self, customer: &Customer) {
        let ports = customer.ports();
        if !ports.is_empty() {
            self.comment(format!("Put your ports for {}.", ports.join(" and ")));
        }
    }

    fn finish(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests;

//! The customer's side: a configuration for each built-in site router, and where its links go.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::azure::{self, Compiled, CompiledLink};
use crate::config::lab::{self, Lab, OwnKey, Site, SiteRouter, Uni};
use crate::model::{
    AddressOnLink, AttachmentConfig, BfdConfig, ConvergenceDelay, Encapsulation, ExportPolicy,
    GracefulRestart, ImportPolicy, NeighborConfig, NeighborKind, OriginatedPrefix, PortConfig,
    Prefix, Role, RouterConfig, Service, SessionTtl, VrfConfig,
};

/// Site routers are numbered from here, so that their MACs and identifiers are their own.
const FIRST_NUMBER: u16 = 0x8000;
/// One way inside a site: a guess, switches of one building.
pub const LAN_DELAY: Duration = Duration::from_micros(50);
const MTU: u16 = 1500;
const HOLD_INTERNAL: Duration = Duration::from_secs(9);
const MAX_PATHS: u8 = 8;

/// What the name of a port to another router of the site begins with.
pub const INTERNAL_PORT: &str = "to:";

/// The VRF of a site's router.
pub const MAIN: &str = "main";

/// The site routers and their links, to be added to what `azure::compile` gives.
pub fn compile(lab: &Lab) -> Compiled {
    let mut compiled = Compiled { routers: Vec::new(), links: Vec::new() };
    let mut internal = 0;
    for site in &lab.sites {
        for router in &site.routers {
            let number = FIRST_NUMBER + compiled.routers.len() as u16;
            compiled.routers.push(edge(lab, site, router, number, &mut compiled.links));
        }
        for (a, b) in internal_pairs(site) {
            let addresses = [0, 1].map(|side| internal_addresses(internal, side));
            internal += 1;
            join_internally(&mut compiled, site, [a, b], &addresses);
        }
    }
    compiled
}

fn edge(
    lab: &Lab,
    site: &Site,
    router: &SiteRouter,
    number: u16,
    links: &mut Vec<CompiledLink>,
) -> RouterConfig {
    let mut config = RouterConfig {
        name: router.name.clone(),
        role: Role::Edge,
        router_id: azure::router_id(number),
        hash: lab.hash,
        announces_addresses: true,
        ports: Vec::new(),
        limiters: Vec::new(),
        vrfs: vec![VrfConfig {
            name: MAIN.to_owned(),
            asn: site.asn,
            max_paths: MAX_PATHS,
            originated: Vec::new(),
            statics: Vec::new(),
            neighbors: Vec::new(),
            convergence: ConvergenceDelay::default(),
        }],
        attachments: Vec::new(),
    };
    for (ordinal, uplink) in router.uplinks.iter().enumerate() {
        add_uplink(lab, router, uplink, ordinal as u8, &mut config);
        let circuit = lab.circuit(&uplink.circuit).expect("a checked lab names circuits it has");
        let place = format!("{}/{}", uplink.circuit, uplink.link);
        links.push(CompiledLink {
            name: format!("{place}:access"),
            ends: [
                (router.name.clone(), uplink.port.clone()),
                (azure::provider_name(circuit), format!("uni:{place}")),
            ],
            delay: circuit.provider.delay,
            shows_carrier: [true; 2],
        });
    }
    for network in site.networks.iter().filter(|network| router.gateway_of.contains(&network.name))
    {
        config.vrfs[0].originated.push(OriginatedPrefix { prefix: network.prefix });
        for host in &network.hosts {
            let port = format!("lan:{}", host.name);
            let on_link = |&address: &IpAddr| AddressOnLink {
                address: network.gateway,
                on_link: address.into(),
            };
            let addresses = host.addresses.iter().map(on_link).collect();
            config.attachments.push(attachment(&port, &port, Encapsulation::Untagged, addresses));
        }
    }
    let originated = router.originates.iter().flat_map(|blocks| blocks.prefixes());
    config.vrfs[0].originated.extend(originated.map(|prefix| OriginatedPrefix { prefix }));
    number_ports(&mut config, number);
    config
}

/// One attachment per peering, and a session per family.
fn add_uplink(
    lab: &Lab,
    router: &SiteRouter,
    uplink: &lab::Uplink,
    ordinal: u8,
    config: &mut RouterConfig,
) {
    let circuit = lab.circuit(&uplink.circuit).expect("a checked lab names circuits it has");
    for peering in &circuit.peerings {
        let name = format!("{}/{}", uplink.circuit, uplink.link);
        let encapsulation = match (uplink.own.vlan, circuit.provider.uni) {
            (Some(own), _) => Encapsulation::Dot1q(own),
            (None, Uni::Untagged) => Encapsulation::Untagged,
            (None, Uni::Dot1q) => Encapsulation::Dot1q(peering.vlan),
        };
        let md5 = match &uplink.own.key {
            OwnKey::AsPeering => peering.shared_key.clone(),
            OwnKey::None => None,
            OwnKey::Other(key) => Some(key.clone()),
        };
        let secured = uplink.own.ttl_security;
        let subnets: Vec<_> = peering.ipv4.iter().chain(&peering.ipv6).collect();
        let on_link = |subnets: &&lab::LinkSubnets| {
            let (address, _, on_link) = subnets.configured(uplink);
            AddressOnLink { address, on_link }
        };
        let addresses = subnets.iter().map(on_link).collect();
        config.attachments.push(attachment(&name, &uplink.port, encapsulation, addresses));
        for subnets in subnets {
            let (local, peer, _) = subnets.configured(uplink);
            config.vrfs[0].neighbors.push(NeighborConfig {
                name: azure::neighbor_name(&name, peer),
                kind: NeighborKind::Provider,
                attachment: name.clone(),
                local,
                peer,
                peer_asn: crate::model::Asn::MICROSOFT,
                ordinal,
                enabled: true,
                md5: md5.clone(),
                ttl: if secured { SessionTtl::SECURED } else { SessionTtl::SINGLE_HOP },
                hold: router.hold,
                // As FRR, BIRD and Junos do without a word.
                graceful_restart: GracefulRestart::Helper,
                bfd: router.bfd.enabled.then_some(BfdConfig {
                    desired_min_tx: router.bfd.interval,
                    required_min_rx: router.bfd.interval,
                    detect_mult: router.bfd.multiplier,
                }),
                import: router.import.clone(),
                export: router.export.clone(),
            });
        }
    }
}

/// Each pair of routers that speak iBGP, once, in the order of the file.
fn internal_pairs(site: &Site) -> Vec<(&SiteRouter, &SiteRouter)> {
    let mut pairs: Vec<(&SiteRouter, &SiteRouter)> = Vec::new();
    for a in &site.routers {
        for b in a.ibgp.iter().filter_map(|name| site.routers.iter().find(|r| r.name == *name)) {
            let known = |&(x, y): &(&SiteRouter, &SiteRouter)| {
                (x.name == a.name && y.name == b.name) || (x.name == b.name && y.name == a.name)
            };
            if !pairs.iter().any(known) {
                pairs.push((a, b));
            }
        }
    }
    pairs
}

/// A link between two routers of a site, with iBGP over it in each family.
fn join_internally(
    compiled: &mut Compiled,
    site: &Site,
    pair: [&SiteRouter; 2],
    addresses: &[[IpAddr; 2]; 2],
) {
    for (own, other) in [(0, 1), (1, 0)] {
        let port = format!("{INTERNAL_PORT}{}", pair[other].name);
        let (ours, peers) = (&addresses[own], &addresses[other]);
        let index = compiled
            .routers
            .iter()
            .position(|router| router.name == pair[own].name)
            .expect("every site router was compiled before");
        let config = &mut compiled.routers[index];
        let on_link = |(&address, &peer): (&IpAddr, &IpAddr)| AddressOnLink {
            address,
            on_link: Prefix::from(peer),
        };
        let on_links = ours.iter().zip(peers).map(on_link).collect();
        config.attachments.push(attachment(&port, &port, Encapsulation::Untagged, on_links));
        let ordinal = (config.attachments.len() - 1) as u8;
        for (&local, &peer) in ours.iter().zip(peers) {
            config.vrfs[0].neighbors.push(NeighborConfig {
                name: azure::neighbor_name(&pair[other].name, peer),
                kind: NeighborKind::Internal,
                attachment: port.clone(),
                local,
                peer,
                peer_asn: site.asn,
                ordinal,
                enabled: true,
                md5: None,
                ttl: SessionTtl::INTERNAL,
                hold: HOLD_INTERNAL,
                graceful_restart: GracefulRestart::Off,
                bfd: None,
                import: ImportPolicy::default(),
                export: ExportPolicy::default(),
            });
        }
        number_ports(config, FIRST_NUMBER + index as u16);
    }
    let [a, b] = pair.map(|router| router.name.clone());
    compiled.links.push(CompiledLink {
        name: internal_name(&a, &b),
        ends: [(a.clone(), format!("{INTERNAL_PORT}{b}")), (b, format!("{INTERNAL_PORT}{a}"))],
        delay: LAN_DELAY,
        shows_carrier: [true; 2],
    });
}

/// Name of the link between two routers of a site that speak iBGP.
pub(super) fn internal_link(site: &Site, a: &str, b: &str) -> String {
    let between = |(x, y): &(&SiteRouter, &SiteRouter)| {
        [(a, b), (b, a)].contains(&(x.name.as_str(), y.name.as_str()))
    };
    let pair = internal_pairs(site).into_iter().find(between);
    let (first, second) = pair.expect("a checked lab attaches ports to iBGP neighbours");
    internal_name(&first.name, &second.name)
}

fn internal_name(first: &str, second: &str) -> String {
    format!("{first}–{second}")
}

/// Addresses of the `number`-th link inside a site; nobody writes them.
fn internal_addresses(number: u16, side: u16) -> [IpAddr; 2] {
    let host = 4 * number + 1 + side;
    let [high, low] = host.to_be_bytes();
    let ipv6 = Ipv6Addr::new(0xfd6d, 0x7365, 0x6500, 0, 0, 0, number, 1 + side);
    [Ipv4Addr::new(100, 126, high, low).into(), ipv6.into()]
}

fn attachment(
    name: &str,
    port: &str,
    encapsulation: Encapsulation,
    addresses: Vec<AddressOnLink>,
) -> AttachmentConfig {
    AttachmentConfig {
        name: name.to_owned(),
        port: port.to_owned(),
        encapsulation,
        service: Service::Vrf(MAIN.to_owned()),
        mtu: MTU,
        addresses,
        ingress_limiters: Vec::new(),
        egress_limiters: Vec::new(),
        polices_control: false,
        answers_icmp: true,
    }
}

/// A port for each that an attachment names.
fn number_ports(config: &mut RouterConfig, number: u16) {
    for attachment in &config.attachments {
        if !config.ports.iter().any(|port| port.name == attachment.port) {
            let mac = azure::mac(number, config.ports.len() as u16);
            config.ports.push(PortConfig { name: attachment.port.clone(), mac });
        }
    }
}

//! A lab file's rules.
//!
//! [`fill`] gives values to what the file left out, [`RULES`] look for what does not fit together,
//! [`build`] makes the checked value of a file without problems. Rules see raw values, so that one
//! wrong value does not hide the problems of the others.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::config::error::{At, nearest};
use crate::config::lab::{
    Attach, AttachEnd, AttachLink, BfdTimers, Circuit, Connection, Deviation, Gateway, GatewaySku,
    Host, Lab, LimiterBurst, LinkSubnets, Network, Originates, OwnKey, Peering, Policer, Provider,
    RouterKind, Site, SiteRouter, Uni, Uplink, VirtualNetwork, address_at, gateway_subnet,
    link_peer,
};
use crate::config::raw::lab as raw;
use crate::config::raw::{
    Field, Int, LinkSubnet, List, Name, OneOrMany, Origin, PeeringState, Profile, Raw, Reader,
    RouterKindWord, Text,
};
use crate::model::{
    Bandwidth, ConvergenceDelay, ExportPolicy, ImportPolicy, Prefix, Spread, VlanId,
};

/// Source of defaults that are this program's choice.
const OURS: Option<&str> = Some("lab file");

/// A rule: its id, and what looks for breaches of it.
type Rule = (&'static str, fn(&raw::Lab, &mut Found));

/// Every rule between values, in the order they are looked at.
const RULES: &[Rule] = &[
    ("lab file", names_are_unique),
    ("section 20", outer_tags_are_unique),
    ("section 5", inner_tags_are_unique),
    ("section 2.3", peering_types_are_unique),
    ("lab file", untagged_carries_one_peering),
    ("lab file", policer_has_a_rate),
    ("section 6.1", families_are_complete),
    ("section 6.1", link_subnets_are_apart),
    ("lab file", site_networks_are_apart),
    ("lab file", site_hosts_are_inside),
    ("lab file", networks_have_one_gateway),
    ("lab file", ibgp_stays_inside),
    ("lab file", uplinks_are_on_circuits),
    ("section 6.1", own_addresses_have_a_peer),
    ("lab file", external_routers_are_complete),
    ("L-11", hold_times_are_possible),
    ("L-12", bfd_intervals_are_possible),
    ("lab file", address_spaces_are_apart),
    ("lab file", vnet_hosts_are_inside),
    ("section 9.1", one_gateway_each),
    ("L-31", only_scale_gateways_have_units),
    ("section 9.1", connections_are_to_circuits),
    ("L-19", circuits_of_a_vnet_are_few),
    ("section 6.1", ipv6_reaches_both),
    ("section 6.1", vnets_keep_clear_of_peerings),
    ("section 9.1", vnets_of_a_circuit_are_apart),
    ("section 9.1", sites_and_vnets_are_apart),
    ("lab file", originated_blocks_exist),
    ("section 9.1", originated_blocks_and_vnets_are_apart),
    ("section 20", medians_are_below_the_most),
];

/// Problems found by one rule.
struct Found<'r> {
    reader: &'r mut Reader,
    rule: &'static str,
}

impl Found<'_> {
    fn refuse(&mut self, at: &At, found: impl Into<String>, allowed: impl Into<String>) {
        self.reader.refuse(at, found, allowed, Some(self.rule));
    }

    /// Reports a name that is not among those known.
    fn unknown(&mut self, what: &str, name: &str, at: &At, known: &[&str]) {
        self.refuse(at, format!("no {what} is called `{name}`"), known_or_near(name, known));
    }
}

/// The name that was probably meant, or all there are.
pub(super) fn known_or_near(name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "there is none".to_owned(),
        None => known.join(", "),
    }
}

pub fn check(lab: &raw::Lab, reader: &mut Reader) {
    for (rule, look) in RULES {
        look(lab, &mut Found { reader, rule });
    }
}

// What the file leaves out.

/// Gives values to what depends on the rest of the file. `stem` is the file's name.
pub fn fill(lab: &mut raw::Lab, stem: &str, reader: &mut Reader) {
    lab.name.fill(Text(stem.to_owned()), Some("file name"));
    fill_outer_tags(lab, reader);
    for circuit in lab.circuits.items_mut() {
        fill_circuit(circuit);
    }
    for site in lab.sites.items_mut() {
        fill_site(site, reader);
    }
    for vnet in lab.virtual_networks.items_mut() {
        fill_vnet(vnet, reader);
    }
}

/// From 2 upward, per location (section 20).
fn fill_outer_tags(lab: &mut raw::Lab, reader: &mut Reader) {
    let mut used: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
    for (circuit, _) in lab.circuits.items() {
        if let (Some(location), Some(tag)) = (location(circuit), circuit.stag.get()) {
            used.entry(location.to_owned()).or_default().insert(tag.get());
        }
    }
    for circuit in lab.circuits.items_mut().filter(|circuit| circuit.stag.origin == Origin::Absent)
    {
        let used = used.entry(location(circuit).unwrap_or_default().to_owned()).or_default();
        match (2..=4094).find(|tag| !used.contains(tag)) {
            Some(tag) => {
                used.insert(tag);
                let tag = VlanId::new(u64::from(tag)).expect("2–4094 are VLAN ids");
                circuit.stag.fill(tag, Some("section 20"));
            }
            None => reader.refuse(
                &circuit.stag.at,
                "no outer tag is left",
                "4093 circuits a location",
                Some("section 20"),
            ),
        }
    }
}

fn fill_circuit(circuit: &mut raw::Circuit) {
    if let Some(limiter) = circuit.limiter.value.as_mut()
        && let Some(burst) = limiter.burst.get().copied()
    {
        limiter.burst_to_azure.fill(burst, Some("limiter.burst"));
        limiter.burst_to_onprem.fill(burst, Some("limiter.burst"));
    }
    if let Some(provider) = circuit.provider.value.as_mut()
        && provider.rate.get().is_some()
    {
        provider.burst.fill(Policer::BURST, OURS);
        provider.polices_control.fill(true, Some("section 20"));
    }
}

fn fill_site(site: &mut raw::Site, reader: &mut Reader) {
    for network in site.networks.items_mut() {
        fill_network(network, reader);
    }
    let names: Vec<_> =
        site.networks.items().filter_map(|(network, _)| network.name.get().cloned()).collect();
    let alone = site.routers.value.as_ref().is_some_and(|routers| routers.len() == 1);
    for router in site.routers.items_mut() {
        let at = router.gateway_of.at.clone();
        let gateway_of = if alone { names.clone() } else { Vec::new() };
        router.gateway_of.fill(defaults(gateway_of, &at), OURS);
        let at = router.ibgp.at.clone();
        router.ibgp.fill(defaults(Vec::new(), &at), OURS);
        fill_ports(router);
    }
}

/// The tenth address, so that addresses of routers are free.
const SITE_HOST_OFFSET: u32 = 10;

fn fill_network(network: &mut raw::Network, reader: &mut Reader) {
    if let Some(first) = network.prefix.get().and_then(|prefix| address_at(*prefix, 1)) {
        network.gateway.fill(first, OURS);
    }
    let (Some(name), Some(prefix)) = (network.name.get().cloned(), network.prefix.get().copied())
    else {
        return;
    };
    if network.hosts.origin != Origin::Absent {
        return;
    }
    let at = network.hosts.at.clone();
    let Some(address) = address_at(prefix, SITE_HOST_OFFSET) else {
        let found =
            format!("{prefix} has no tenth address for the host it gets when hosts is left out");
        reader.refuse(
            &network.prefix.at,
            found,
            "a larger network, or hosts: with their addresses",
            OURS,
        );
        return;
    };
    let host = raw::SiteHost {
        here: at.clone(),
        name: default(name, &at),
        address: default(address, &at),
    };
    network.hosts.fill(defaults(vec![host], &at), OURS);
}

fn fill_ports(router: &mut raw::SiteRouter) {
    let taken: BTreeSet<_> =
        router.uplinks.items().filter_map(|(uplink, _)| uplink.port.get().cloned()).collect();
    let mut free = (1..).map(|i| Name(format!("eth{i}"))).filter(|name| !taken.contains(name));
    for uplink in router.uplinks.items_mut().filter(|uplink| uplink.port.value.is_none()) {
        uplink.port.fill(free.next().expect("there is always another number"), OURS);
    }
}

/// Azure keeps the first four addresses of a subnet.
const VNET_HOST_OFFSET: u32 = 4;

fn fill_vnet(vnet: &mut raw::VirtualNetwork, reader: &mut Reader) {
    for gateway in vnet.gateways.items_mut() {
        if gateway.sku.get().is_some_and(|sku| sku.0 == GatewaySku::ErGwScale) {
            gateway.scale_units.fill(Int(1), Some("L-31"));
        }
    }
    if vnet.hosts.origin != Origin::Absent {
        return;
    }
    let prefixes: Vec<_> = vnet.address_prefixes.items().map(|(prefix, _)| *prefix).collect();
    let firsts = [prefixes.iter().find(|p| is_v4(p)), prefixes.iter().find(|p| !is_v4(p))];
    let addresses: Vec<_> =
        firsts.into_iter().flatten().filter_map(|p| address_at(*p, VNET_HOST_OFFSET)).collect();
    if addresses.is_empty() {
        if !prefixes.is_empty() {
            let allowed = "a larger address space, or hosts: with their addresses";
            reader.refuse(&vnet.address_prefixes.at, "no room for a host", allowed, OURS);
        }
        return;
    }
    let at = vnet.hosts.at.clone();
    let absent = Field { value: None, at: at.clone(), origin: Origin::Absent };
    let host = raw::VnetHost {
        here: at.clone(),
        name: default(Name("app".to_owned()), &at),
        address: absent,
        addresses: default(OneOrMany(defaults(addresses, &at)), &at),
    };
    vnet.hosts.fill(defaults(vec![host], &at), OURS);
}

fn default<T>(value: T, at: &At) -> Field<T> {
    Field { value: Some(value), at: at.clone(), origin: Origin::Default(OURS) }
}

fn defaults<T>(values: Vec<T>, at: &At) -> List<T> {
    values.into_iter().map(|value| default(value, at)).collect()
}

// Rules of names.

fn names_are_unique(lab: &raw::Lab, found: &mut Found) {
    unique(found, "circuit", lab.circuits.items().map(|(circuit, _)| &circuit.name));
    let sites = lab.sites.items().map(|(site, _)| &site.name);
    let vnets = lab.virtual_networks.items().map(|(vnet, _)| &vnet.name);
    unique(found, "site or virtual network", sites.chain(vnets));
    let routers = lab.sites.items().flat_map(|(site, _)| site.routers.items());
    unique(found, "router", routers.map(|(router, _)| &router.name));
    // A VNet's own router is called by the VNet.
    let vnets = lab.virtual_networks.items().map(|(vnet, _)| &vnet.name);
    let routers = lab.sites.items().flat_map(|(site, _)| site.routers.items());
    let routers = routers.map(|(router, _)| &router.name);
    let vnet_names: BTreeSet<&Name> = vnets.filter_map(Field::get).collect();
    for router in routers {
        if let Some(name) = router.get()
            && vnet_names.contains(name)
        {
            let text = format!("a virtual network is called `{}`", name.0);
            found.refuse(&router.at, text, "a name of its own".to_owned());
        }
    }
    for (site, _) in lab.sites.items() {
        unique(
            found,
            "network of the site",
            site.networks.items().map(|(network, _)| &network.name),
        );
        let hosts = site.networks.items().flat_map(|(network, _)| network.hosts.items());
        unique(found, "host of the site", hosts.map(|(host, _)| &host.name));
    }
    for (vnet, _) in lab.virtual_networks.items() {
        unique(
            found,
            "host of the virtual network",
            vnet.hosts.items().map(|(host, _)| &host.name),
        );
        let gateways = vnet.gateways.items();
        unique(found, "gateway of the virtual network", gateways.map(|(gateway, _)| &gateway.name));
    }
    for (router, _) in lab.sites.items().flat_map(|(site, _)| site.routers.items()) {
        unique(found, "port of the router", router.uplinks.items().map(|(uplink, _)| &uplink.port));
    }
}

fn unique<'a>(found: &mut Found, what: &str, names: impl Iterator<Item = &'a Field<Name>>) {
    let mut seen: BTreeMap<&Name, &At> = BTreeMap::new();
    for field in names {
        let Some(name) = field.get() else { continue };
        if let Some(first) = seen.get(name) {
            let text = format!("another {what} is called `{}`", name.0);
            found.refuse(
                &field.at,
                text,
                format!("a name of its own; the first is in {}", found.reader.line(first.spot)),
            );
        } else {
            seen.insert(name, &field.at);
        }
    }
}

// Rules of circuits and peerings.

fn outer_tags_are_unique(lab: &raw::Lab, found: &mut Found) {
    let mut seen = BTreeMap::new();
    for (circuit, _) in lab.circuits.items() {
        let (Some(location), Some(tag)) = (location(circuit), circuit.stag.get()) else { continue };
        if let Some(other) = seen.insert((location, *tag), name_of(&circuit.name)) {
            let text = format!("outer tag {tag} is also `{other}`'s at {location}");
            found.refuse(&circuit.stag.at, text, "a tag of its own, or none: it is then allocated");
        }
    }
}

fn inner_tags_are_unique(lab: &raw::Lab, found: &mut Found) {
    for (circuit, _) in lab.circuits.items() {
        let mut seen = BTreeSet::new();
        for (peering, _) in circuit.peerings.items() {
            let Some(vlan) = peering.vlan.get() else { continue };
            if !seen.insert(*vlan) {
                let text = format!("another peering of the circuit has VLAN {vlan}");
                found.refuse(&peering.vlan.at, text, "each VLAN id once in a circuit");
            }
        }
    }
}

fn peering_types_are_unique(lab: &raw::Lab, found: &mut Found) {
    for (circuit, _) in lab.circuits.items() {
        let mut seen = BTreeSet::new();
        for (peering, _) in circuit.peerings.items() {
            let Some(kind) = peering.peering_type.get() else { continue };
            if !seen.insert(*kind) {
                let text = format!("a second {}", kind.name());
                found.refuse(&peering.peering_type.at, text, "each type once in a circuit");
            }
        }
    }
}

fn untagged_carries_one_peering(lab: &raw::Lab, found: &mut Found) {
    for (circuit, _) in lab.circuits.items() {
        let Some(provider) = circuit.provider.get() else { continue };
        if provider.uni.get() == Some(&Uni::Untagged) && circuit.peerings.items().count() > 1 {
            let text = "without a tag only one peering can be told from others";
            found.refuse(&provider.uni.at, text, "dot1q, or one peering");
        }
    }
}

fn policer_has_a_rate(lab: &raw::Lab, found: &mut Found) {
    for (circuit, _) in lab.circuits.items() {
        let Some(provider) = circuit.provider.get() else { continue };
        let extra = [
            (provider.burst.is_given(), &provider.burst.at),
            (provider.polices_control.is_given(), &provider.polices_control.at),
        ];
        for (_, at) in
            extra.into_iter().filter(|(given, _)| *given && provider.rate.value.is_none())
        {
            found.refuse(at, "the provider has no limiter of its own", "rateInMbps beside it");
        }
    }
}

fn families_are_complete(lab: &raw::Lab, found: &mut Found) {
    for (peering, _) in lab.circuits.items().flat_map(|(circuit, _)| circuit.peerings.items()) {
        let (primary, secondary) = (&peering.primary, &peering.secondary);
        let absent = |field: &Field<LinkSubnet<false>>| field.origin == Origin::Absent;
        if absent(primary) && absent(secondary) && peering.ipv6.origin == Origin::Absent {
            let allowed = "primaryPeerAddressPrefix and secondaryPeerAddressPrefix, ipv6PeeringConfig, or both";
            found.refuse(&peering.here, "a peering without addresses", allowed);
        } else if absent(primary) != absent(secondary) {
            let missing = if absent(primary) { primary } else { secondary };
            found.refuse(&missing.at, "missing", "a subnet for each of the two links");
        }
    }
}

/// The links' subnets of a peering, where they could be read.
fn link_subnets(peering: &raw::Peering) -> Vec<(Prefix, &At)> {
    let v4 = [&peering.primary, &peering.secondary].map(|f| Some((f.get()?.0, &f.at)));
    let v6 = peering.ipv6.get();
    let v6 = v6.map(|v6| [&v6.primary, &v6.secondary].map(|f| Some((f.get()?.0, &f.at))));
    v4.into_iter().chain(v6.into_iter().flatten()).flatten().collect()
}

fn link_subnets_are_apart(lab: &raw::Lab, found: &mut Found) {
    for (circuit, _) in lab.circuits.items() {
        let all = circuit.peerings.items().flat_map(|(peering, _)| link_subnets(peering));
        let all: Vec<_> = all.collect();
        apart(found, &all, "another subnet of the circuit");
    }
}

/// Reports blocks of a list that overlap an earlier one of it.
fn apart(found: &mut Found, blocks: &[(Prefix, &At)], what: &str) {
    for (i, (block, at)) in blocks.iter().enumerate() {
        if let Some((other, first)) = blocks[..i].iter().find(|(other, _)| overlap(block, other)) {
            let text = format!("{block} overlaps {other}, {what}");
            found.refuse(
                at,
                text,
                format!("blocks that are apart; the other is in {}", found.reader.line(first.spot)),
            );
        }
    }
}

// Rules of sites.

fn site_networks_are_apart(lab: &raw::Lab, found: &mut Found) {
    for (site, _) in lab.sites.items() {
        apart(found, &site_prefixes(site), "another network of the site");
    }
}

fn site_prefixes(site: &raw::Site) -> Vec<(Prefix, &At)> {
    let prefix = |network: &'_ raw::Network| network.prefix.get().copied();
    site.networks.items().filter_map(|(n, _)| Some((prefix(n)?, &n.prefix.at))).collect()
}

fn site_hosts_are_inside(lab: &raw::Lab, found: &mut Found) {
    for (network, _) in lab.sites.items().flat_map(|(site, _)| site.networks.items()) {
        let Some(prefix) = network.prefix.get() else { continue };
        if network.gateway.origin == Origin::Absent {
            let text = format!("{prefix} has no address for the gateway of its hosts");
            found.refuse(&network.prefix.at, text, "a larger network");
        }
        if let Some(gateway) = network.gateway.get().filter(|gateway| !usable(prefix, gateway)) {
            let text = format!("{gateway} is no address for a router in {prefix}");
            found.refuse(&network.gateway.at, text, format!("an address inside {prefix}"));
        }
        let mut seen = BTreeSet::new();
        for (host, _) in network.hosts.items() {
            let Some(address) = host.address.get() else { continue };
            if !usable(prefix, address) {
                let text = format!("{address} is no address for a host in {prefix}");
                found.refuse(&host.address.at, text, format!("an address inside {prefix}"));
            } else if network.gateway.get() == Some(address) {
                let text = format!("{address} is the gateway's");
                found.refuse(
                    &host.address.at,
                    text,
                    "any other; the gateway has the first where no other is given",
                );
            } else if !seen.insert(*address) {
                let text = format!("another host has {address}");
                found.refuse(&host.address.at, text, "each address once");
            }
        }
    }
}

/// What Azure itself has an address of a VNet for.
fn azure_owns(prefixes: &[(Prefix, &At)], address: &IpAddr) -> Option<String> {
    let blocks = || prefixes.iter().map(|(block, _)| block);
    let own = blocks().find(|block| block.contains(address))?;
    if address_at(*own, 1) == Some(*address) {
        return Some("the first hop's".to_owned());
    }
    let first = blocks().find(|block| block.addr().is_ipv4() == address.is_ipv4())?;
    let gateways = first == own && *address >= gateway_subnet(first);
    gateways.then(|| format!("in the GatewaySubnet, the last 64 addresses of {first}"))
}

/// Whether a host can have the address: inside, neither the network's own nor the broadcast.
fn usable(prefix: &Prefix, address: &IpAddr) -> bool {
    let inside = prefix.contains(address);
    match prefix {
        Prefix::V4(v4) if v4.prefix_len() < 31 => {
            inside && *address != IpAddr::V4(v4.network()) && *address != IpAddr::V4(v4.broadcast())
        }
        Prefix::V6(v6) if v6.prefix_len() < 127 => inside && *address != IpAddr::V6(v6.network()),
        Prefix::V4(_) | Prefix::V6(_) => inside,
    }
}

fn networks_have_one_gateway(lab: &raw::Lab, found: &mut Found) {
    for (site, _) in lab.sites.items() {
        let names: Vec<_> =
            site.networks.items().map(|(network, _)| name_of(&network.name)).collect();
        let mut gateways: BTreeMap<&str, &str> = BTreeMap::new();
        for (router, _) in site.routers.items() {
            for (network, at) in router.gateway_of.items() {
                if !names.contains(&network.0.as_str()) {
                    found.unknown("network of the site", &network.0, at, &names);
                } else if let Some(other) = gateways.insert(&network.0, name_of(&router.name)) {
                    let text = format!("`{}` already has `{other}` as its gateway", network.0);
                    found.refuse(at, text, "one gateway a network");
                }
            }
        }
        let legible = site.routers.items().all(|(router, _)| router.gateway_of.value.is_some());
        for (network, _) in site.networks.items().filter(|_| legible) {
            let name = name_of(&network.name);
            if network.name.value.is_some() && !gateways.contains_key(name) {
                let text = format!("no router is the gateway of `{name}`");
                found.refuse(
                    &network.name.at,
                    text,
                    format!("gatewayOf: [{name}] at one of the routers"),
                );
            }
        }
    }
}

fn ibgp_stays_inside(lab: &raw::Lab, found: &mut Found) {
    for (site, _) in lab.sites.items() {
        let names: Vec<_> = site.routers.items().map(|(router, _)| name_of(&router.name)).collect();
        for (router, _) in site.routers.items() {
            for (peer, at) in router.ibgp.items() {
                if router.name.get() == Some(peer) {
                    found.refuse(at, "a session with itself", "other routers of the site");
                } else if !names.contains(&peer.0.as_str()) {
                    found.unknown("router of the site", &peer.0, at, &names);
                }
            }
        }
    }
}

fn uplinks_are_on_circuits(lab: &raw::Lab, found: &mut Found) {
    let names: Vec<_> = lab.circuits.items().map(|(circuit, _)| name_of(&circuit.name)).collect();
    let mut taken: BTreeMap<_, &str> = BTreeMap::new();
    for (router, _) in lab.sites.items().flat_map(|(site, _)| site.routers.items()) {
        for (uplink, _) in router.uplinks.items() {
            let Some(circuit) = uplink.circuit.get() else { continue };
            if !names.contains(&circuit.0.as_str()) {
                found.unknown("circuit", &circuit.0, &uplink.circuit.at, &names);
            }
            let Some(link) = uplink.link.get() else { continue };
            if let Some(other) = taken.insert((circuit, *link), name_of(&router.name)) {
                let text = format!("{}/{link} already ends at `{other}`", circuit.0);
                found.refuse(&uplink.link.at, text, "each link of a circuit at one port");
            }
        }
    }
}

/// A router's own address leaves its peer no choice: the other usable one of the /30 or /126.
fn own_addresses_have_a_peer(lab: &raw::Lab, found: &mut Found) {
    let routers = lab.sites.items().flat_map(|(site, _)| site.routers.items());
    for (uplink, _) in routers.flat_map(|(router, _)| router.uplinks.items()) {
        let Some(OneOrMany(addresses)) = uplink.address.get() else { continue };
        let mut families = BTreeSet::new();
        for field in addresses {
            let Some(&address) = field.get() else { continue };
            let length = if address.is_ipv4() { 30 } else { 126 };
            let subnet = Prefix::new(address, length).expect("within the family").trunc();
            if link_peer(address, subnet).is_none() {
                let text = format!("{address} is no usable address of {subnet}");
                found.refuse(&field.at, text, "the first or the second of a /30 or /126");
            } else if !families.insert(address.is_ipv4()) {
                found.refuse(&field.at, "a second address of the family", "one of each family");
            }
        }
    }
}

fn external_routers_are_complete(lab: &raw::Lab, found: &mut Found) {
    let routers = lab
        .sites
        .items()
        .flat_map(|(site, _)| site.routers.items().map(move |(router, _)| (site, router)));
    for (site, router) in routers {
        let Some(kind) = router.kind.get() else { continue };
        let attached = *kind == RouterKindWord::Attach;
        if attached && router.attach.origin == Origin::Absent {
            found.refuse(
                &router.kind.at,
                "an attached router that is nowhere",
                "attach: { port: …, as: … } beside it",
            );
        }
        if !attached && router.attach.is_given() {
            found.refuse(
                &router.attach.at,
                "attach of a router that is not attached",
                "kind: attach",
            );
        }
        let runs = matches!(kind, RouterKindWord::Frr | RouterKindWord::Bird);
        if router.config.is_given() && !runs {
            found.refuse(
                &router.config.at,
                "a configuration file of a router that reads none",
                "kind: frr or bird",
            );
        }
        let entries = router.attach.get().into_iter().flat_map(|OneOrMany(entries)| entries);
        let entries: Vec<_> = entries.filter_map(Field::get).collect();
        for link in entries.iter().filter_map(|attach| attach.link.get()) {
            if attach_link(link).is_none() {
                let allowed =
                    "{ interface: … }, { netns: …, name: … } or { udp: { listen: …, peer: … } }";
                found.refuse(&link.here, "not exactly one kind of link", allowed);
            }
        }
        if attached && router.attach.is_given() {
            ports_are_attached(site, router, &entries, found);
        }
    }
}

/// Each uplink of an attached router is somewhere, and everything that is somewhere is one thing of it.
fn ports_are_attached(
    site: &raw::Site,
    router: &raw::SiteRouter,
    entries: &[&raw::Attach],
    found: &mut Found,
) {
    let uplinks: Vec<_> = router.uplinks.items().map(|(uplink, _)| &uplink.port).collect();
    let ports: Vec<_> = uplinks.iter().map(|port| name_of(port)).collect();
    let networks: Vec<_> =
        router.gateway_of.items().map(|(network, _)| network.0.as_str()).collect();
    let routers = built_in_neighbors(site, router);
    unique(found, "attached port", entries.iter().map(|entry| &entry.port));
    unique(found, "attached network", entries.iter().map(|entry| &entry.network));
    unique(found, "attached router", entries.iter().map(|entry| &entry.router));
    for entry in entries {
        let ends = [
            (&entry.port, "port of an uplink", &ports),
            (&entry.network, "network it is the gateway of", &networks),
            (&entry.router, "built-in router it speaks iBGP with", &routers),
        ];
        if ends.iter().filter(|(field, ..)| field.is_given()).count() != 1 {
            found.refuse(
                &entry.here,
                "not exactly one thing on the port",
                "port: an uplink's, network: of its hosts, or router: of the site",
            );
        }
        for (field, what, known) in ends {
            if let Some(name) = field.get()
                && !known.contains(&name.0.as_str())
            {
                found.unknown(what, &name.0, &field.at, known);
            }
        }
    }
    for port in uplinks.iter().filter_map(|port| port.get()) {
        if !entries.iter().any(|entry| entry.port.get() == Some(port)) {
            let allowed = format!("an entry {{ port: {}, as: … }} beside the others", port.0);
            found.refuse(&router.attach.at, format!("port {} is nowhere", port.0), allowed);
        }
    }
}

/// Routers inside the program that a router speaks iBGP with, whichever of the two says so.
fn built_in_neighbors<'a>(site: &'a raw::Site, router: &raw::SiteRouter) -> Vec<&'a str> {
    let names = |from: &raw::SiteRouter, to: &raw::SiteRouter| {
        from.ibgp.items().any(|(peer, _)| to.name.get() == Some(peer))
    };
    let others = site.routers.items().map(|(other, _)| other);
    let built_in = others.filter(|other| other.kind.get() == Some(&RouterKindWord::BuiltIn));
    let joined = built_in.filter(|other| names(router, other) || names(other, router));
    joined.map(|other| name_of(&other.name)).collect()
}

/// RFC 4271, 4.2: at least three seconds; two octets of whole seconds.
const HOLD_SECS: std::ops::RangeInclusive<u64> = 3..=65_535;

fn hold_times_are_possible(lab: &raw::Lab, found: &mut Found) {
    for (router, _) in lab.sites.items().flat_map(|(site, _)| site.routers.items()) {
        let Some(hold) = router.hold_time.get() else { continue };
        if hold.subsec_nanos() != 0 || !HOLD_SECS.contains(&hold.as_secs()) {
            let text = format!("{} is no hold time", hold.inline().unwrap_or_default());
            found.refuse(
                &router.hold_time.at,
                text,
                "whole seconds, 3s–65535s; 10s and more is sensible",
            );
        }
    }
}

/// RFC 5880 carries microseconds in 32 bits; below 10 ms no host keeps time.
const BFD_INTERVAL_MS: std::ops::RangeInclusive<u128> = 10..=60_000;

fn bfd_intervals_are_possible(lab: &raw::Lab, found: &mut Found) {
    let peerings = lab.circuits.items().flat_map(|(circuit, _)| circuit.peerings.items());
    let routers = lab.sites.items().flat_map(|(site, _)| site.routers.items());
    let bfd =
        peerings.map(|(peering, _)| &peering.bfd).chain(routers.map(|(router, _)| &router.bfd));
    for field in bfd.filter_map(|bfd| Some(&bfd.get()?.interval)) {
        let Some(interval) = field.get() else { continue };
        if !BFD_INTERVAL_MS.contains(&interval.as_millis()) {
            let text = format!("{} is no BFD interval", interval.inline().unwrap_or_default());
            found.refuse(&field.at, text, "10ms–60s");
        }
    }
}

// Rules of virtual networks.

fn address_spaces_are_apart(lab: &raw::Lab, found: &mut Found) {
    for (vnet, _) in lab.virtual_networks.items() {
        let prefixes = vnet_prefixes(vnet);
        if prefixes.is_empty()
            && vnet.address_prefixes.is_given()
            && vnet.address_prefixes.sure().is_empty()
        {
            found.refuse(&vnet.address_prefixes.at, "no address space", "at least one block");
        }
        apart(found, &prefixes, "another block of the same VNet");
    }
}

fn vnet_prefixes(vnet: &raw::VirtualNetwork) -> Vec<(Prefix, &At)> {
    vnet.address_prefixes.items().map(|(prefix, at)| (*prefix, at)).collect()
}

fn vnet_hosts_are_inside(lab: &raw::Lab, found: &mut Found) {
    for (vnet, _) in lab.virtual_networks.items() {
        let prefixes = vnet_prefixes(vnet);
        let legible = vnet.address_prefixes.value.iter().flatten().all(|item| item.value.is_some());
        let mut seen = BTreeSet::new();
        for (host, _) in vnet.hosts.items() {
            let addresses = host.all();
            let wrong = [&host.address.origin, &host.addresses.origin].contains(&&Origin::Wrong);
            if addresses.is_empty() && !wrong {
                found.refuse(&host.here, "a host without an address", "address: or addresses: []");
            }
            let v4 = addresses.iter().filter(|field| field.sure().is_ipv4()).count();
            if v4 > 1 || addresses.len() - v4 > 1 {
                found.refuse(&host.here, "a host with two addresses of a family", "one of each");
            }
            for field in addresses {
                let address = field.sure();
                if legible && !prefixes.iter().any(|(prefix, _)| usable(prefix, address)) {
                    let blocks: Vec<_> = prefixes.iter().map(|(p, _)| p.to_string()).collect();
                    let text = format!("{address} is outside the VNet");
                    found.refuse(
                        &field.at,
                        text,
                        format!("an address inside {}", blocks.join(", ")),
                    );
                } else if let Some(owner) = azure_owns(&prefixes, address) {
                    let text = format!("{address} is {owner}");
                    found.refuse(&field.at, text, "an address that Azure does not use itself");
                } else if !seen.insert(*address) {
                    found.refuse(
                        &field.at,
                        format!("another host has {address}"),
                        "each address once",
                    );
                }
            }
        }
    }
}

fn one_gateway_each(lab: &raw::Lab, found: &mut Found) {
    for (vnet, _) in lab.virtual_networks.items() {
        for (gateway, _) in vnet.gateways.items().skip(1) {
            found.refuse(&gateway.here, "a second ExpressRoute gateway", "one a VNet");
        }
    }
}

fn only_scale_gateways_have_units(lab: &raw::Lab, found: &mut Found) {
    for (gateway, _) in gateways(lab) {
        let scales = gateway.sku.get().is_none_or(|sku| sku.0 == GatewaySku::ErGwScale);
        if gateway.scale_units.is_given() && !scales {
            found.refuse(&gateway.scale_units.at, "this SKU has no scale units", "sku: ErGwScale");
        }
    }
}

fn gateways(lab: &raw::Lab) -> impl Iterator<Item = (&raw::Gateway, &At)> {
    lab.virtual_networks.items().flat_map(|(vnet, _)| vnet.gateways.items())
}

fn connections_are_to_circuits(lab: &raw::Lab, found: &mut Found) {
    let names: Vec<_> = lab.circuits.items().map(|(circuit, _)| name_of(&circuit.name)).collect();
    for (gateway, _) in gateways(lab) {
        let mut seen = BTreeSet::new();
        for (connection, _) in gateway.connections.items() {
            let Some(circuit) = connection.circuit.get() else { continue };
            if !names.contains(&circuit.0.as_str()) {
                found.unknown("circuit", &circuit.0, &connection.circuit.at, &names);
            }
            if !seen.insert(circuit) {
                let text = format!("a second connection to `{}`", circuit.0);
                found.refuse(
                    &connection.circuit.at,
                    text,
                    "one connection between a gateway and a circuit",
                );
            }
        }
    }
}

/// Most circuits of one location that a VNet can be linked to (L-19).
const CIRCUITS_OF_A_LOCATION_MAX: usize = 4;

fn circuits_of_a_vnet_are_few(lab: &raw::Lab, found: &mut Found) {
    for (gateway, _) in gateways(lab) {
        let Some(sku) = gateway.sku.get() else { continue };
        let most = usize::from(sku.0.figures(scale_units(gateway)).circuits);
        let mut at_location: BTreeMap<&str, usize> = BTreeMap::new();
        for (i, (connection, _)) in gateway.connections.items().enumerate() {
            let name = sku.inline().unwrap_or_default();
            if i == most {
                let text = format!("more circuits than {name} can be linked to");
                found.refuse(&connection.here, text, format!("{most} circuits"));
            }
            let circuit = connection.circuit.get().and_then(|name| circuit_named(lab, name));
            let Some(location) = circuit.and_then(location) else { continue };
            let count = at_location.entry(location).or_default();
            *count += 1;
            if *count == CIRCUITS_OF_A_LOCATION_MAX + 1 {
                let text = format!("more circuits at {location} than a VNet can be linked to");
                found.refuse(
                    &connection.here,
                    text,
                    format!("{CIRCUITS_OF_A_LOCATION_MAX} of one location"),
                );
            }
        }
    }
}

/// VNets and the circuits their gateways are connected to.
fn links(
    lab: &raw::Lab,
) -> impl Iterator<Item = (&raw::VirtualNetwork, &raw::Connection, &raw::Circuit)> {
    lab.virtual_networks.items().flat_map(move |(vnet, _)| {
        let connections =
            vnet.gateways.items().flat_map(|(gateway, _)| gateway.connections.items());
        connections.filter_map(move |(connection, _)| {
            Some((vnet, connection, circuit_named(lab, connection.circuit.get()?)?))
        })
    })
}

fn ipv6_reaches_both(lab: &raw::Lab, found: &mut Found) {
    for (vnet, connection, circuit) in links(lab) {
        let v6 = vnet_prefixes(vnet).iter().any(|(prefix, _)| !is_v4(prefix));
        let lacks = |peering: &raw::Peering| peering.ipv6.origin == Origin::Absent;
        if v6 && circuit.peerings.items().any(|(peering, _)| lacks(peering)) {
            let text = format!(
                "a gateway with IPv6, and private peering of `{}` has IPv4 only",
                name_of(&circuit.name)
            );
            found.refuse(
                &connection.circuit.at,
                text,
                "ipv6PeeringConfig at the peering, or a VNet without IPv6",
            );
        }
    }
}

fn vnets_keep_clear_of_peerings(lab: &raw::Lab, found: &mut Found) {
    for (vnet, _, circuit) in links(lab) {
        for (subnet, at) in circuit.peerings.items().flat_map(|(peering, _)| link_subnets(peering))
        {
            if let Some((block, _)) =
                vnet_prefixes(vnet).iter().find(|(block, _)| overlap(block, &subnet))
            {
                let text = format!("{subnet} overlaps {block} of VNet `{}`", name_of(&vnet.name));
                found.refuse(at, text, "peering subnets outside every linked VNet");
            }
        }
    }
}

fn vnets_of_a_circuit_are_apart(lab: &raw::Lab, found: &mut Found) {
    let links: Vec<_> = links(lab).collect();
    for (i, (vnet, connection, circuit)) in links.iter().enumerate() {
        for (other, _, same) in &links[..i] {
            if !std::ptr::eq(*circuit, *same) || std::ptr::eq(*vnet, *other) {
                continue;
            }
            if let Some((a, b)) = overlapping(&vnet_prefixes(vnet), &vnet_prefixes(other)) {
                let text = format!(
                    "{a} of this VNet overlaps {b} of `{}`, linked to `{}` as well",
                    name_of(&other.name),
                    name_of(&circuit.name),
                );
                found.refuse(&connection.circuit.at, text, "VNets of a circuit that are apart");
            }
        }
    }
}

fn sites_and_vnets_are_apart(lab: &raw::Lab, found: &mut Found) {
    let mut reported = BTreeSet::new();
    for (vnet, _, circuit) in links(lab) {
        for (site, _) in lab.sites.items().filter(|(site, _)| reaches(site, circuit)) {
            for (prefix, at) in site_prefixes(site) {
                let blocks = vnet_prefixes(vnet);
                let Some((block, _)) = blocks.iter().find(|(block, _)| overlap(block, &prefix))
                else {
                    continue;
                };
                if reported.insert(at.clone()) {
                    let (vnet, circuit) = (name_of(&vnet.name), name_of(&circuit.name));
                    let text = format!(
                        "{prefix} overlaps {block} of VNet `{vnet}`, reached over `{circuit}`"
                    );
                    found.refuse(at, text, "networks outside every VNet the site reaches");
                }
            }
        }
    }
}

/// What a site's routers announce without hosts, with its place.
fn originated(site: &raw::Site) -> impl Iterator<Item = (Originates, &At)> {
    let lists = site.routers.items().flat_map(|(router, _)| router.originates.items());
    lists.filter_map(|(raw, _)| Some((build_originates(raw)?, &raw.prefix.at)))
}

fn originated_blocks_exist(lab: &raw::Lab, found: &mut Found) {
    for (originates, at) in lab.sites.items().flat_map(|(site, _)| originated(site)) {
        let Originates { first, count } = originates;
        if originates.last().is_none() {
            let text = format!("there are no {count} blocks from {first} on");
            found.refuse(at, text, "blocks up to the last address");
        }
    }
}

fn originated_blocks_and_vnets_are_apart(lab: &raw::Lab, found: &mut Found) {
    let mut reported = BTreeSet::new();
    for (vnet, _, circuit) in links(lab) {
        for (site, _) in lab.sites.items().filter(|(site, _)| reaches(site, circuit)) {
            for (originates, at) in originated(site) {
                let Originates { first, count } = originates;
                let Some(last) = originates.last() else { continue };
                // A default route is not taken for the VNet's own.
                let meets = |block: &Prefix| {
                    first.prefix_len() > 0
                        && is_v4(block) == is_v4(&first)
                        && first.network() <= block.broadcast()
                        && block.network() <= last.broadcast()
                };
                let blocks = vnet_prefixes(vnet);
                if let Some((block, _)) = blocks.iter().find(|(block, _)| meets(block))
                    && reported.insert(at.clone())
                {
                    let (vnet, circuit) = (name_of(&vnet.name), name_of(&circuit.name));
                    let text = format!(
                        "{count} blocks from {first} on overlap {block} of VNet `{vnet}`, reached \
                         over `{circuit}`"
                    );
                    found.refuse(at, text, "blocks outside every VNet the site reaches");
                }
            }
        }
    }
}

fn reaches(site: &raw::Site, circuit: &raw::Circuit) -> bool {
    let uplinks = site.routers.items().flat_map(|(router, _)| router.uplinks.items());
    let mut circuits = uplinks.filter_map(|(uplink, _)| uplink.circuit.get());
    circuits.any(|name| circuit.name.get() == Some(name))
}

fn medians_are_below_the_most(lab: &raw::Lab, found: &mut Found) {
    for (vnet, _) in lab.virtual_networks.items() {
        let Some(raw::Convergence::Times(times)) = vnet.convergence.get() else { continue };
        for spread in [times.on_withdraw.get(), times.on_announce.get()].into_iter().flatten() {
            if let (Some(p50), Some(max)) = (spread.p50.get(), spread.max.get())
                && p50 > max
            {
                let at = if spread.p50.is_given() { &spread.p50.at } else { &spread.max.at };
                found.refuse(at, "the median is above the most", "p50 up to max");
            }
        }
    }
}

// Small things the rules share.

fn name_of(field: &Field<Name>) -> &str {
    field.get().map_or("", |name| &name.0)
}

fn location(circuit: &raw::Circuit) -> Option<&str> {
    Some(&circuit.service_provider.get()?.location.get()?.0)
}

fn circuit_named<'a>(lab: &'a raw::Lab, name: &Name) -> Option<&'a raw::Circuit> {
    lab.circuits
        .items()
        .map(|(circuit, _)| circuit)
        .find(|circuit| circuit.name.get() == Some(name))
}

fn scale_units(gateway: &raw::Gateway) -> u8 {
    gateway.scale_units.get().map_or(1, |units| units.0 as u8)
}

fn is_v4(prefix: &Prefix) -> bool {
    matches!(prefix, Prefix::V4(_))
}

fn overlap(a: &Prefix, b: &Prefix) -> bool {
    a.contains(b) || b.contains(a)
}

fn overlapping(a: &[(Prefix, &At)], b: &[(Prefix, &At)]) -> Option<(Prefix, Prefix)> {
    a.iter().find_map(|(x, _)| b.iter().find(|(y, _)| overlap(x, y)).map(|(y, _)| (*x, *y)))
}

// The checked value.

/// The lab of a file without problems.
pub fn build(lab: &raw::Lab) -> Lab {
    Lab {
        name: lab.name.sure().0.clone(),
        seed: lab.seed.sure().0,
        profile: match lab.profile.sure() {
            Profile::Documented2026 => "documented-2026".to_owned(),
        },
        hash: *lab.hash.sure(),
        circuits: lab.circuits.items().map(|(circuit, _)| build_circuit(circuit)).collect(),
        sites: lab.sites.items().map(|(site, _)| build_site(site)).collect(),
        virtual_networks: lab.virtual_networks.items().map(|(vnet, _)| build_vnet(vnet)).collect(),
    }
}

fn build_circuit(circuit: &raw::Circuit) -> Circuit {
    let (provider, sku) = (circuit.service_provider.sure(), circuit.sku.sure());
    let limiter = circuit.limiter.sure();
    Circuit {
        name: circuit.name.sure().0.clone(),
        service_provider: provider.name.sure().0.clone(),
        peering_location: provider.location.sure().0.clone(),
        bandwidth: provider.bandwidth.sure().bandwidth(),
        tier: *sku.tier.sure(),
        family: *sku.family.sure(),
        stag: *circuit.stag.sure(),
        provider: build_provider(circuit.provider.sure()),
        limiter: LimiterBurst {
            to_azure: *limiter.burst_to_azure.sure(),
            to_onprem: *limiter.burst_to_onprem.sure(),
        },
        peerings: circuit.peerings.items().map(|(peering, _)| build_peering(peering)).collect(),
    }
}

fn build_provider(provider: &raw::Provider) -> Provider {
    Provider {
        uni: *provider.uni.sure(),
        mtu: provider.mtu.sure().0 as u16,
        delay: *provider.delay.sure(),
        carrier_follows: *provider.carrier_follows.sure(),
        policer: provider.rate.get().map(|rate| Policer {
            rate: Bandwidth::from_mbps(rate.0),
            burst: *provider.burst.sure(),
            polices_control: *provider.polices_control.sure(),
        }),
    }
}

fn build_peering(peering: &raw::Peering) -> Peering {
    let enabled = *peering.state.sure() == PeeringState::Enabled;
    let v4 = |primary: &LinkSubnet<false>| LinkSubnets {
        primary: primary.0,
        secondary: peering.secondary.sure().0,
        enabled,
    };
    let v6 = |v6: &raw::Ipv6Peering| LinkSubnets {
        primary: v6.primary.sure().0,
        secondary: v6.secondary.sure().0,
        enabled: enabled && *v6.state.sure() == PeeringState::Enabled,
    };
    Peering {
        peering_type: *peering.peering_type.sure(),
        peer_asn: peering.peer_asn.sure().0,
        vlan: *peering.vlan.sure(),
        shared_key: peering.shared_key.get().map(|key| key.0.clone()),
        ipv4: peering.primary.get().map(v4),
        ipv6: peering.ipv6.get().map(v6),
        bfd: build_bfd(peering.bfd.sure()),
        graceful_restart: *peering.graceful_restart.sure(),
    }
}

fn build_bfd(bfd: &raw::Bfd) -> BfdTimers {
    let Int(multiplier) = *bfd.multiplier.sure();
    BfdTimers {
        enabled: *bfd.enabled.sure(),
        interval: *bfd.interval.sure(),
        multiplier: multiplier as u8,
    }
}

fn build_site(site: &raw::Site) -> Site {
    let mut routers: Vec<_> =
        site.routers.items().map(|(router, _)| build_router(router)).collect();
    mirror_ibgp(&mut routers);
    Site {
        name: site.name.sure().0.clone(),
        asn: site.asn.sure().0,
        networks: site.networks.items().map(|(network, _)| build_network(network)).collect(),
        routers,
    }
}

/// One side of an iBGP session is enough in the file; a [`Site`] has both, in the file's order.
fn mirror_ibgp(routers: &mut [SiteRouter]) {
    let named =
        |a: &SiteRouter, b: &SiteRouter| a.ibgp.contains(&b.name) || b.ibgp.contains(&a.name);
    let both: Vec<Vec<String>> = routers
        .iter()
        .map(|a| routers.iter().filter(|b| named(a, b)).map(|b| b.name.clone()).collect())
        .collect();
    for (router, ibgp) in routers.iter_mut().zip(both) {
        router.ibgp = ibgp;
    }
}

fn build_network(network: &raw::Network) -> Network {
    let host = |host: &raw::SiteHost| Host {
        name: host.name.sure().0.clone(),
        addresses: vec![*host.address.sure()],
    };
    Network {
        name: network.name.sure().0.clone(),
        prefix: *network.prefix.sure(),
        gateway: *network.gateway.sure(),
        hosts: network.hosts.items().map(|(raw, _)| host(raw)).collect(),
    }
}

fn build_router(router: &raw::SiteRouter) -> SiteRouter {
    let policy = router.policy.sure();
    let names = |list: &Field<List<Name>>| list.items().map(|(name, _)| name.0.clone()).collect();
    SiteRouter {
        name: router.name.sure().0.clone(),
        kind: match router.kind.sure() {
            RouterKindWord::BuiltIn => RouterKind::BuiltIn,
            RouterKindWord::Frr => RouterKind::Frr,
            RouterKindWord::Bird => RouterKind::Bird,
            RouterKindWord::Attach => RouterKind::Attach(
                router.attach.sure().0.iter().map(|entry| build_attach(entry.sure())).collect(),
            ),
        },
        config: router.config.get().map(|path| path.0.clone()),
        uplinks: router.uplinks.items().map(|(uplink, _)| build_uplink(uplink)).collect(),
        import: ImportPolicy {
            local_preference: Some(policy.import.sure().local_preference.sure().0 as u32),
            weight: 0,
        },
        export: ExportPolicy { prepend: policy.export.sure().prepend.sure().0 as u8 },
        gateway_of: names(&router.gateway_of),
        ibgp: names(&router.ibgp),
        originates: (router.originates.items())
            .map(|(raw, _)| build_originates(raw).expect("a file without problems has both"))
            .collect(),
        bfd: build_bfd(router.bfd.sure()),
        hold: *router.hold_time.sure(),
    }
}

fn build_originates(raw: &raw::Originates) -> Option<Originates> {
    Some(Originates { first: raw.prefix.get()?.trunc(), count: raw.count.get()?.0 as u32 })
}

fn build_uplink(uplink: &raw::Uplink) -> Uplink {
    let addresses = uplink.address.get().map(|OneOrMany(addresses)| addresses);
    Uplink {
        circuit: uplink.circuit.sure().0.clone(),
        link: *uplink.link.sure(),
        port: uplink.port.sure().0.clone(),
        own: Deviation {
            vlan: uplink.vlan.get().copied(),
            addresses: addresses.into_iter().flatten().map(|field| *field.sure()).collect(),
            key: match uplink.shared_key.get() {
                None => OwnKey::AsPeering,
                Some(raw::OwnKey(None)) => OwnKey::None,
                Some(raw::OwnKey(Some(key))) => OwnKey::Other(key.0.clone()),
            },
            ttl_security: *uplink.ttl_security.sure(),
        },
    }
}

fn build_attach(attach: &raw::Attach) -> Attach {
    let link = attach_link(attach.link.sure()).expect("a rule refuses any other link");
    let name = |field: &Field<Name>| field.get().map(|name| name.0.clone());
    let end = match (name(&attach.port), name(&attach.network), name(&attach.router)) {
        (Some(port), ..) => Some(AttachEnd::Uplink(port)),
        (None, Some(network), _) => Some(AttachEnd::Network(network)),
        (None, None, router) => router.map(AttachEnd::Router),
    };
    Attach { end: end.expect("a rule refuses a port with nothing on it"), link }
}

fn attach_link(link: &raw::AttachAs) -> Option<AttachLink> {
    let text = |field: &Field<Text>| field.get().map(|text| text.0.clone());
    match (text(&link.interface), text(&link.netns), text(&link.name), link.udp.get()) {
        (Some(interface), None, None, None) => Some(AttachLink::Interface(interface)),
        (None, Some(namespace), Some(name), None) => Some(AttachLink::Netns { namespace, name }),
        (None, None, None, Some(udp)) => {
            Some(AttachLink::Udp { listen: *udp.listen.get()?, peer: *udp.peer.get()? })
        }
        _ => None,
    }
}

fn build_vnet(vnet: &raw::VirtualNetwork) -> VirtualNetwork {
    let host = |host: &raw::VnetHost| Host {
        name: host.name.sure().0.clone(),
        addresses: host.all().into_iter().map(|field| *field.sure()).collect(),
    };
    VirtualNetwork {
        name: vnet.name.sure().0.clone(),
        location: vnet.location.sure().0.clone(),
        address_prefixes: vnet.address_prefixes.items().map(|(prefix, _)| *prefix).collect(),
        hosts: vnet.hosts.items().map(|(raw, _)| host(raw)).collect(),
        gateways: vnet.gateways.items().map(|(gateway, _)| build_gateway(gateway)).collect(),
        convergence: build_convergence(vnet.convergence.sure()),
    }
}

fn build_gateway(gateway: &raw::Gateway) -> Gateway {
    let connection = |connection: &raw::Connection| Connection {
        circuit: connection.circuit.sure().0.clone(),
        routing_weight: connection.routing_weight.sure().0 as u16,
    };
    Gateway {
        name: gateway.name.sure().0.clone(),
        sku: gateway.sku.sure().0,
        scale_units: scale_units(gateway),
        connections: gateway.connections.items().map(|(raw, _)| connection(raw)).collect(),
    }
}

fn build_convergence(convergence: &raw::Convergence) -> ConvergenceDelay {
    let raw::Convergence::Times(times) = convergence else { return ConvergenceDelay::default() };
    let spread = |spread: &raw::Spread| Spread {
        min: std::time::Duration::ZERO,
        p50: *spread.p50.sure(),
        max: *spread.max.sure(),
    };
    ConvergenceDelay {
        on_withdraw: spread(times.on_withdraw.sure()),
        on_announce: spread(times.on_announce.sure()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::tree;

    #[test]
    fn every_rule_finds_something_in_the_fixtures() {
        let mut fired = vec![false; RULES.len()];
        for entry in fs::read_dir("fixtures/config").unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let tree = tree::parse(&fs::read_to_string(&path).unwrap(), 0).ok();
            let Some(mut lab) = tree.and_then(|node| raw::Lab::read(&node, &mut Reader::default()))
            else {
                continue;
            };
            fill(&mut lab, "lab", &mut Reader::default());
            for ((rule, look), fired) in RULES.iter().zip(&mut fired) {
                let mut reader = Reader::default();
                look(&lab, &mut Found { reader: &mut reader, rule });
                *fired |= !reader.problems.is_empty();
            }
        }
        let silent: Vec<_> = (0..RULES.len()).filter(|i| !fired[*i]).collect();
        assert!(silent.is_empty(), "rows of RULES without a fixture: {silent:?}");
    }
}

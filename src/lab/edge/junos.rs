//! The customer's side as Junos set commands.

use crate::lab::edge::{Customer, Family, Link, Text, is_external, is_ttl_secured};
use crate::model::{Encapsulation, NeighborConfig, Prefix};

/// Groups of BGP neighbours: the MSEEs, and the site's own routers.
const AZURE: &str = "AZURE";
const SITE: &str = "SITE";

pub(super) fn configuration(customer: &Customer) -> String {
    let mut text = Text::new("#");
    text.heading(customer, "Juniper Junos");
    text.stand_ins(customer);
    trunks(customer, &mut text);
    for (index, link) in customer.links.iter().enumerate() {
        interface(link, index + 1, &mut text);
    }
    routing(customer, &mut text);
    networks(customer, &mut text);
    if customer.has_uplinks() {
        policy_to_azure(customer, &mut text);
    }
    if customer.links.iter().any(|link| !link.is_uplink()) {
        policy_to_site(customer, &mut text);
    }
    groups(customer, &mut text);
    for (link, session) in customer.sessions() {
        neighbor(link, session, &mut text);
    }
    text.finish()
}

/// Tags are switched on for a port as a whole; one or two in a frame want `flexible`.
fn trunks(customer: &Customer, text: &mut Text) {
    let tagged = |port: &&str| customer.tagged().any(|link| link.port == *port);
    for port in customer.ports().into_iter().filter(tagged) {
        let stacked = |link: &Link| matches!(link.encapsulation, Encapsulation::QinQ { .. });
        let two = customer.tagged().any(|link| link.port == port && stacked(link));
        let tagging = if two { "flexible-vlan-tagging" } else { "vlan-tagging" };
        text.line(format!("set interfaces {port} {tagging}"));
    }
}

/// The customer has the first address of each subnet (L-22); both tags are 0x8100 (section 5). A
/// unit has the number of its tag; with two of them neither need be unique on the port, so the
/// link's `place` is its number.
fn interface(link: &Link, place: usize, text: &mut Text) {
    text.comment(&link.title);
    let port = junos_port(link);
    let unit = match link.encapsulation {
        Encapsulation::Dot1q(tag) => format!("{port} unit {tag}"),
        Encapsulation::QinQ { .. } => format!("{port} unit {place}"),
        Encapsulation::Untagged | Encapsulation::Vni(_) => format!("{port} unit 0"),
    };
    text.line(format!("set interfaces {unit} description {}", link.name));
    match link.encapsulation {
        Encapsulation::Dot1q(tag) => text.line(format!("set interfaces {unit} vlan-id {tag}")),
        Encapsulation::QinQ { outer, inner } => text.line(format!(
            "set interfaces {unit} vlan-tags outer 0x8100.{outer} inner 0x8100.{inner}"
        )),
        Encapsulation::Untagged | Encapsulation::Vni(_) => {}
    }
    for address in &link.addresses {
        let family = junos_family(Family::of(address.addr()));
        text.line(format!("set interfaces {unit} family {family} address {address}"));
    }
}

fn routing(customer: &Customer, text: &mut Text) {
    text.line(format!("set routing-options router-id {}", customer.router_id));
    text.line(format!("set routing-options autonomous-system {}", customer.asn));
    text.comment("Equal paths are used together.");
    text.line("set policy-options policy-statement BALANCE then load-balance per-packet");
    text.line("set routing-options forwarding-table export BALANCE");
}

fn networks(customer: &Customer, text: &mut Text) {
    if customer.networks.is_empty() {
        return;
    }
    text.comment("What this AS originates.");
    for network in &customer.networks {
        let table = match network {
            Prefix::V4(_) => "set routing-options static route",
            Prefix::V6(_) => "set routing-options rib inet6.0 static route",
        };
        text.line(format!("{table} {network} discard"));
        text.line(format!("set policy-options prefix-list OWN-NETWORKS {network}"));
    }
}

/// F-58 and F-111; the site is no way between two MSEEs.
fn policy_to_azure(customer: &Customer, text: &mut Text) {
    text.comment("To Azure only what this AS originates: nothing learned on the other link.");
    let to_azure = "set policy-options policy-statement TO-AZURE term";
    let mut terms = Vec::new();
    if !customer.networks.is_empty() {
        text.line(format!("{to_azure} own from protocol static"));
        text.line(format!("{to_azure} own from prefix-list OWN-NETWORKS"));
        terms.push("own");
    }
    text.line("set policy-options as-path OWN \"()\"");
    text.line(format!("{to_azure} site from protocol bgp"));
    text.line(format!("{to_azure} site from as-path OWN"));
    terms.push("site");
    let prepended = customer.prepended(" ");
    for term in terms {
        if !prepended.is_empty() {
            text.line(format!("{to_azure} {term} then as-path-prepend \"{prepended}\""));
        }
        text.line(format!("{to_azure} {term} then accept"));
    }
    text.line(format!("{to_azure} rest then reject"));
    if let Some(preference) = customer.local_preference() {
        let from_azure = "set policy-options policy-statement FROM-AZURE";
        text.line(format!("{from_azure} then local-preference {preference}"));
        text.line(format!("{from_azure} then accept"));
    }
}

fn policy_to_site(customer: &Customer, text: &mut Text) {
    let to_site = "set policy-options policy-statement TO-SITE term";
    if !customer.networks.is_empty() {
        text.line(format!("{to_site} own from protocol static"));
        text.line(format!("{to_site} own from prefix-list OWN-NETWORKS"));
        text.line(format!("{to_site} own then accept"));
    }
    text.line(format!("{to_site} azure from protocol bgp"));
    text.line(format!("{to_site} azure then next-hop self"));
    text.line(format!("{to_site} azure then accept"));
}

/// F-40, L-08.
fn groups(customer: &Customer, text: &mut Text) {
    if let Some((_, session)) = customer.sessions().find(|(_, session)| is_external(session)) {
        let group = format!("set protocols bgp group {AZURE}");
        text.line(format!("{group} type external"));
        text.line(format!("{group} peer-as {}", session.peer_asn));
        text.line(format!("{group} multipath"));
        if customer.local_preference().is_some() {
            text.line(format!("{group} import FROM-AZURE"));
        }
        text.line(format!("{group} export TO-AZURE"));
        text.line(format!("{group} log-updown"));
    }
    if customer.sessions().any(|(_, session)| !is_external(session)) {
        let group = format!("set protocols bgp group {SITE}");
        text.line(format!("{group} type internal"));
        text.line(format!("{group} multipath"));
        text.line(format!("{group} export TO-SITE"));
        text.line(format!("{group} log-updown"));
    }
}

/// L-11, L-12, L-23, F-48. IPv4 on the IPv4 sessions, IPv6 on the IPv6 ones (section 20).
fn neighbor(link: &Link, session: &NeighborConfig, text: &mut Text) {
    text.comment(&link.title);
    let group = if is_external(session) { AZURE } else { SITE };
    let neighbor = format!("set protocols bgp group {group} neighbor {}", session.peer);
    text.line(format!("{neighbor} description {}", link.name));
    text.line(format!("{neighbor} local-address {}", session.local));
    let family = junos_family(Family::of(session.peer));
    text.line(format!("{neighbor} family {family} unicast"));
    if let Some(key) = &session.md5 {
        text.line(format!("{neighbor} authentication-key {key}"));
    }
    text.line(format!("{neighbor} hold-time {}", session.hold.as_secs()));
    if let Some(timers) = session.bfd {
        let bfd = format!("{neighbor} bfd-liveness-detection");
        text.line(format!("{bfd} minimum-interval {}", timers.desired_min_tx.as_millis()));
        text.line(format!("{bfd} multiplier {}", timers.detect_mult));
    }
    if is_ttl_secured(session) {
        text.comment(
            "Takes nothing less only with a firewall filter that discards ttl-except 255.",
        );
        text.line(format!("{neighbor} ttl 255"));
    }
}

/// A link inside the site is known by the router at its other end.
fn junos_port(link: &Link) -> &str {
    if link.is_uplink() { &link.port } else { &link.interface }
}

const fn junos_family(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "inet",
        Family::Ipv6 => "inet6",
    }
}

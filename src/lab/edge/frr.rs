//! The customer's side in FRR's words: one `frr.conf` for zebra, bgpd and bfdd.

use std::collections::BTreeSet;

use crate::lab::edge::{
    CONNECT_SECS, Customer, Family, Link, Ports, Text, how_links_are_made, is_external,
    is_ttl_secured, keepalive_secs,
};
use crate::model::{NeighborConfig, Prefix, RouterConfig, VrfConfig};

/// BFD on the uplinks, where it is on.
const BFD_PROFILE: &str = "expressroute";

pub(super) fn configuration(customer: &Customer, ports: Ports) -> String {
    let mut text = Text::new("!");
    text.heading(customer, "frr.conf for FRRouting 8 and later");
    text.comment("Daemons: zebra, bgpd, bfdd.");
    how_links_are_made(customer, ports, &mut text);
    text.line("frr defaults traditional");
    text.line(format!("hostname {}", customer.name));
    text.line("ip forwarding");
    text.line("ipv6 forwarding");
    text.gap();
    for link in &customer.links {
        interface(link, &mut text);
    }
    bfd(customer, &mut text);
    if customer.has_uplinks() {
        policy(customer, &mut text);
    }
    bgp(customer, &mut text);
    text.finish()
}

/// What an operator types to make a router that is `old` what `new` says: sessions shut, BFD taken
/// away, networks announced. Families a session does not have are of no concern to FRR.
pub fn lines_between(old: &RouterConfig, new: &RouterConfig) -> Vec<String> {
    let (Some(before), Some(after)) = (old.vrfs.first(), new.vrfs.first()) else {
        return Vec::new();
    };
    let no = |is: bool| if is { "no " } else { "" };
    let mut lines = Vec::new();
    for session in &after.neighbors {
        let peer = session.peer;
        let Some(old) = before.neighbors.iter().find(|old| old.name == session.name) else {
            continue;
        };
        if old.enabled != session.enabled {
            lines.push(format!("{}neighbor {peer} shutdown", no(session.enabled)));
        }
        match (&old.bfd, &session.bfd) {
            (Some(_), None) => lines.push(format!("no neighbor {peer} bfd")),
            (None, Some(_)) => {
                lines.push(format!("neighbor {peer} bfd"));
                lines.push(format!("neighbor {peer} bfd profile {BFD_PROFILE}"));
            }
            _ => {}
        }
    }
    for family in [Family::Ipv4, Family::Ipv6] {
        let of = |vrf: &VrfConfig| -> BTreeSet<Prefix> {
            let prefixes = vrf.originated.iter().map(|originated| originated.prefix);
            prefixes.filter(|prefix| Family::of(prefix.addr()) == family).collect()
        };
        let (before, after) = (of(before), of(after));
        let changed: Vec<_> = before.symmetric_difference(&after).collect();
        if changed.is_empty() {
            continue;
        }
        lines.push(format!("address-family {} unicast", family.name()));
        for network in changed {
            lines.push(format!("{}network {network}", no(before.contains(network))));
        }
        lines.push("exit-address-family".to_owned());
    }
    if !lines.is_empty() {
        lines.splice(0..0, ["configure terminal".to_owned(), format!("router bgp {}", after.asn)]);
    }
    lines
}

/// The customer has the first address of each subnet (L-22).
fn interface(link: &Link, text: &mut Text) {
    text.comment(&link.title);
    text.line(format!("interface {}", link.interface));
    text.line(format!(" description {}", link.name));
    for address in &link.addresses {
        let word = match Family::of(address.addr()) {
            Family::Ipv4 => "ip",
            Family::Ipv6 => "ipv6",
        };
        text.line(format!(" {word} address {address}"));
    }
    text.line("exit");
    text.gap();
}

/// L-12, F-48.
fn bfd(customer: &Customer, text: &mut Text) {
    let Some(timers) = customer.bfd() else { return };
    text.comment("The slower side's interval counts: one below the MSEE's gains nothing.");
    text.line("bfd");
    text.line(format!(" profile {BFD_PROFILE}"));
    text.line(format!("  detect-multiplier {}", timers.detect_mult));
    text.line(format!("  receive-interval {}", timers.required_min_rx.as_millis()));
    text.line(format!("  transmit-interval {}", timers.desired_min_tx.as_millis()));
    text.line(" exit");
    text.line("exit");
    text.gap();
}

/// F-58 and F-111; the site is no way between two MSEEs.
fn policy(customer: &Customer, text: &mut Text) {
    text.comment("To Azure only what this AS originates: nothing learned on the other link.");
    text.line("bgp as-path access-list OWN seq 5 permit ^$");
    text.line("route-map TO-AZURE permit 10");
    text.line(" match as-path OWN");
    let prepended = customer.prepended(" ");
    if !prepended.is_empty() {
        text.line(format!(" set as-path prepend {prepended}"));
    }
    text.line("exit");
    text.line("route-map FROM-AZURE permit 10");
    if let Some(preference) = customer.local_preference() {
        text.line(format!(" set local-preference {preference}"));
    }
    text.line("exit");
    text.gap();
}

fn bgp(customer: &Customer, text: &mut Text) {
    text.line(format!("router bgp {}", customer.asn));
    text.line(format!(" bgp router-id {}", customer.router_id));
    text.line(" bgp log-neighbor-changes");
    text.line(" no bgp default ipv4-unicast");
    text.comment("The networks are announced whether or not they are in the routing table.");
    text.line(" no bgp network import-check");
    for (link, session) in customer.sessions() {
        neighbor(link, session, text);
    }
    for family in customer.families() {
        address_family(customer, family, text);
    }
    text.line("exit");
}

/// F-40, L-08, L-11, L-23.
fn neighbor(link: &Link, session: &NeighborConfig, text: &mut Text) {
    let peer = session.peer;
    text.comment(&link.title);
    text.line(format!(" neighbor {peer} remote-as {}", session.peer_asn));
    text.line(format!(" neighbor {peer} description {}", link.name));
    if let Some(key) = &session.md5 {
        text.line(format!(" neighbor {peer} password {key}"));
    }
    let (keepalive, hold) = (keepalive_secs(session), session.hold.as_secs());
    text.line(format!(" neighbor {peer} timers {keepalive} {hold}"));
    text.line(format!(" neighbor {peer} timers connect {CONNECT_SECS}"));
    if session.bfd.is_some() {
        text.line(format!(" neighbor {peer} bfd"));
        text.line(format!(" neighbor {peer} bfd profile {BFD_PROFILE}"));
    }
    if is_ttl_secured(session) {
        text.line(format!(" neighbor {peer} ttl-security hops 1"));
    }
}

/// IPv4 on the IPv4 sessions, IPv6 on the IPv6 ones (section 20).
fn address_family(customer: &Customer, family: Family, text: &mut Text) {
    text.line(format!(" address-family {} unicast", family.name()));
    for network in customer.networks_in(family) {
        text.line(format!("  network {network}"));
    }
    for (_, session) in customer.sessions_in(family) {
        let peer = session.peer;
        text.line(format!("  neighbor {peer} activate"));
        if is_external(session) {
            text.line(format!("  neighbor {peer} route-map FROM-AZURE in"));
            text.line(format!("  neighbor {peer} route-map TO-AZURE out"));
        } else {
            text.line(format!("  neighbor {peer} next-hop-self"));
        }
    }
    text.line(format!("  maximum-paths {}", customer.max_paths));
    text.line(format!("  maximum-paths ibgp {}", customer.max_paths));
    text.line(" exit-address-family");
}

//! The customer's side in the words of Cisco IOS-XE, to be pasted in configuration mode.

use crate::lab::edge::{Customer, Family, Link, Text, is_external, is_ttl_secured, keepalive_secs};
use crate::model::{Encapsulation, NeighborConfig, Prefix};

pub(super) fn configuration(customer: &Customer) -> String {
    let mut text = Text::new("!");
    text.heading(customer, "Cisco IOS-XE");
    text.stand_ins(customer);
    if customer.families().any(|family| family == Family::Ipv6) {
        text.line("ipv6 unicast-routing");
    }
    ports(customer, &mut text);
    for link in &customer.links {
        interface(link, &mut text);
    }
    networks(customer, &mut text);
    if customer.has_uplinks() {
        policy(customer, &mut text);
    }
    bgp(customer, &mut text);
    text.line("end");
    text.finish()
}

/// The physical interface below tagged ones.
fn ports(customer: &Customer, text: &mut Text) {
    let tagged = |port: &&str| customer.tagged().any(|link| link.port == *port);
    for port in customer.ports().into_iter().filter(tagged) {
        text.line(format!("interface {port}"));
        text.line(" no ip address");
        text.line(" no shutdown");
        text.line("exit");
    }
}

/// The customer has the first address of each subnet (L-22); plain stacked 802.1Q tags on a trunk
/// (section 5). BFD: L-12, F-48.
fn interface(link: &Link, text: &mut Text) {
    text.comment(&link.title);
    text.line(format!("interface {}", link.interface));
    text.line(format!(" description {}", link.name));
    match link.encapsulation {
        Encapsulation::Dot1q(tag) => text.line(format!(" encapsulation dot1Q {tag}")),
        Encapsulation::QinQ { outer, inner } => {
            text.line(format!(" encapsulation dot1Q {outer} second-dot1q {inner}"));
        }
        Encapsulation::Untagged | Encapsulation::Vni(_) => {}
    }
    for address in &link.addresses {
        match address {
            Prefix::V4(v4) => text.line(format!(" ip address {} {}", v4.addr(), v4.netmask())),
            Prefix::V6(v6) => text.line(format!(" ipv6 address {v6}")),
        }
    }
    if let Some(timers) = link.sessions.iter().find_map(|session| session.bfd) {
        text.line(format!(
            " bfd interval {} min_rx {} multiplier {}",
            timers.desired_min_tx.as_millis(),
            timers.required_min_rx.as_millis(),
            timers.detect_mult
        ));
        text.line(" no bfd echo");
    }
    text.line(" no shutdown");
    text.line("exit");
}

/// A `network` statement wants its prefix in the routing table; 254 loses to any other route.
fn networks(customer: &Customer, text: &mut Text) {
    if customer.networks.is_empty() {
        return;
    }
    text.comment("What is announced has to be in the routing table, whatever else is.");
    for network in &customer.networks {
        match network {
            Prefix::V4(v4) => {
                text.line(format!("ip route {} {} Null0 254", v4.network(), v4.netmask()));
            }
            Prefix::V6(v6) => text.line(format!("ipv6 route {v6} Null0 254")),
        }
    }
}

/// F-58 and F-111; the site is no way between two MSEEs.
fn policy(customer: &Customer, text: &mut Text) {
    text.comment("To Azure only what this AS originates: nothing learned on the other link.");
    text.line("ip as-path access-list 1 permit ^$");
    text.line("route-map TO-AZURE permit 10");
    text.line(" match as-path 1");
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
}

fn bgp(customer: &Customer, text: &mut Text) {
    text.line(format!("router bgp {}", customer.asn));
    text.line(format!(" bgp router-id {}", customer.router_id));
    text.line(" bgp log-neighbor-changes");
    text.line(" no bgp default ipv4-unicast");
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
    if session.bfd.is_some() {
        text.line(format!(" neighbor {peer} fall-over bfd"));
    }
    if is_ttl_secured(session) {
        text.line(format!(" neighbor {peer} ttl-security hops 1"));
    }
}

/// IPv4 on the IPv4 sessions, IPv6 on the IPv6 ones (section 20).
fn address_family(customer: &Customer, family: Family, text: &mut Text) {
    let unicast = match family {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6 unicast",
    };
    text.line(format!(" address-family {unicast}"));
    for network in customer.networks_in(family) {
        match network {
            Prefix::V4(v4) => {
                text.line(format!("  network {} mask {}", v4.network(), v4.netmask()));
            }
            Prefix::V6(v6) => text.line(format!("  network {v6}")),
        }
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

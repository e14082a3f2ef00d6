//! The customer's side in BIRD 2's words: one `bird.conf`.

use crate::lab::edge::{
    CONNECT_SECS, Customer, Family, Link, Ports, Text, how_links_are_made, is_external,
    is_ttl_secured, keepalive_secs,
};
use crate::model::NeighborConfig;

pub(super) fn configuration(customer: &Customer, ports: Ports) -> String {
    let mut text = Text::new("#");
    text.heading(customer, "bird.conf for BIRD 2");
    how_links_are_made(customer, ports, &mut text);
    text.comment("BIRD gives interfaces no addresses; the system has to:");
    for link in &customer.links {
        for address in &link.addresses {
            text.comment(format!("  ip address add {address} dev {}", link.interface));
        }
    }
    text.line(format!("router id {};", customer.router_id));
    text.gap();
    tables(customer, &mut text);
    for family in customer.families() {
        networks(customer, family, &mut text);
    }
    if customer.bfd().is_some() {
        bfd(customer, &mut text);
    }
    if customer.has_uplinks() {
        policy(customer, &mut text);
    }
    text.comment(
        "A session that BFD ends while it comes up is tried again after 1 s and not 60 s.",
    );
    for (link, session) in customer.sessions() {
        session_of(customer, link, session, &mut text);
    }
    text.finish()
}

/// What BGP chose goes to the kernel, equal paths together.
fn tables(customer: &Customer, text: &mut Text) {
    text.line("protocol device { }");
    text.line("protocol direct {");
    for family in customer.families() {
        text.line(format!("  {};", family.name()));
    }
    text.line("}");
    for family in customer.families() {
        text.line("protocol kernel {");
        text.line(format!("  merge paths yes limit {};", customer.max_paths));
        text.line(format!("  {} {{", family.name()));
        text.line("    import none;");
        text.line("    export where source = RTS_BGP;");
        text.line("  };");
        text.line("}");
    }
    text.gap();
}

/// The networks are announced whether or not they are in the routing table.
fn networks(customer: &Customer, family: Family, text: &mut Text) {
    let mut networks = customer.networks_in(family).peekable();
    if networks.peek().is_none() {
        return;
    }
    text.comment("What this AS originates; announced, not given to the kernel.");
    text.line(format!("protocol static own_{} {{", family.name()));
    text.line(format!("  {};", family.name()));
    for network in networks {
        text.line(format!("  route {network} blackhole;"));
    }
    text.line("}");
    text.gap();
}

/// L-12, F-48.
fn bfd(customer: &Customer, text: &mut Text) {
    let Some(timers) = customer.bfd() else { return };
    text.comment("The slower side's interval counts: one below the MSEE's gains nothing.");
    text.line("protocol bfd {");
    for link in customer.links.iter().filter(|link| link.is_uplink()) {
        text.line(format!("  interface \"{}\" {{", link.interface));
        text.line(format!("    min rx interval {} ms;", timers.required_min_rx.as_millis()));
        text.line(format!("    min tx interval {} ms;", timers.desired_min_tx.as_millis()));
        text.line(format!("    multiplier {};", timers.detect_mult));
        text.line("  };");
    }
    text.line("}");
    text.gap();
}

/// F-58 and F-111; the site is no way between two MSEEs.
fn policy(customer: &Customer, text: &mut Text) {
    text.comment("To Azure only what this AS originates: nothing learned on the other link.");
    text.line("filter to_azure {");
    text.line("  if source != RTS_STATIC && (source != RTS_BGP || bgp_path.len > 0) then reject;");
    for _ in 0..customer.policy().1.prepend {
        text.line(format!("  bgp_path.prepend({});", customer.asn));
    }
    text.line("  accept;");
    text.line("}");
    text.line("filter from_azure {");
    if let Some(preference) = customer.local_preference() {
        text.line(format!("  bgp_local_pref = {preference};"));
    }
    text.line("  accept;");
    text.line("}");
    text.gap();
}

/// F-40, L-08, L-11, L-23. IPv4 on the IPv4 sessions, IPv6 on the IPv6 ones (section 20).
fn session_of(customer: &Customer, link: &Link, session: &NeighborConfig, text: &mut Text) {
    let family = Family::of(session.peer).name();
    text.comment(&link.title);
    text.line(format!("protocol bgp {} {{", protocol_name(&link.name, family)));
    text.line(format!("  description \"{}\";", link.name));
    text.line(format!("  local {} as {};", session.local, customer.asn));
    text.line(format!("  neighbor {} as {};", session.peer, session.peer_asn));
    if let Some(key) = &session.md5 {
        text.line(format!("  password \"{key}\";"));
    }
    let (keepalive, hold) = (keepalive_secs(session), session.hold.as_secs());
    text.line(format!("  hold time {hold};"));
    text.line(format!("  keepalive time {keepalive};"));
    text.line("  error wait time 1, 2;");
    text.line("  connect delay time 1;");
    text.line(format!("  connect retry time {CONNECT_SECS};"));
    if session.bfd.is_some() {
        text.line("  bfd on;");
    }
    if is_ttl_secured(session) {
        text.line("  ttl security on;");
    }
    if !is_external(session) {
        text.line("  direct;");
    }
    text.line(format!("  {family} {{"));
    if is_external(session) {
        text.line("    import filter from_azure;");
        text.line("    export filter to_azure;");
    } else {
        text.line("    import all;");
        text.line("    export where source ~ [ RTS_STATIC, RTS_BGP ];");
        text.line("    next hop self;");
    }
    text.line("  };");
    text.line("}");
    text.gap();
}

/// A word of BIRD's language: letters, digits and underscores, the first no digit.
fn protocol_name(link: &str, family: &str) -> String {
    let word = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    format!("bgp_{}_{family}", link.chars().map(word).collect::<String>())
}

//! What a drill can do to a lab: one row each. Help, listing and the test that runs every event
//! walk the rows.

use crate::config::drill::{
    self as config, Directions, Event, Families, MaintenanceCategory, Only, Target,
};
use crate::config::lab::Lab as LabFile;
use crate::config::{NodeRef, SessionRef};
use crate::fabric::{Fault, FaultScope, Impairment};
use crate::lab::Lab;
use crate::telemetry::EventKind;

/// A kind of event.
pub struct EventRow {
    /// As after `do:`.
    pub name: &'static str,
    pub help: &'static str,
    pub example: &'static str,
    /// Does it. The event is of this row's kind.
    pub start: fn(&mut Lab, &Event),
}

/// Every event, in the order the help shows them.
pub const EVENTS: &[EventRow] = &[
    EventRow {
        name: "cut",
        help: "carrier is lost at both ends of the segment",
        example: "{ step: cut, do: cut, at: ams/primary:access, for: 10s }",
        start: cut,
    },
    EventRow {
        name: "blackhole",
        help: "frames vanish and carrier stays; direction and only narrow it",
        example: "{ step: loss, do: blackhole, at: ams/primary, direction: both, for: 30s }",
        start: blackhole,
    },
    EventRow {
        name: "impair",
        help: "adds loss, delay, jitter, limits the rate; corrupts, truncates, duplicates, reorders",
        example: "{ step: poor, do: impair, at: ams/primary:access, loss: 1%, delay: 20ms, for: 30s }",
        start: impair,
    },
    EventRow {
        name: "bgp-shutdown",
        help: "the operator closes a session (Cease) and keeps it closed",
        example: "{ step: shut, do: bgp-shutdown, at: ams/primary, for: 30s }",
        start: bgp_shutdown,
    },
    EventRow {
        name: "bgp-reset",
        help: "a session is closed once and comes up again",
        example: "{ step: reset, do: bgp-reset, at: ams/primary, until: converged }",
        start: bgp_reset,
    },
    EventRow {
        name: "bfd-disable",
        help: "both ends of a session stop BFD",
        example: "{ step: no-bfd, do: bfd-disable, at: ams/primary, for: 5s }",
        start: bfd_disable,
    },
    EventRow {
        name: "router-crash",
        help: "a router dies without a word",
        example: "{ step: crash, do: router-crash, at: ams/primary, for: 30s }",
        start: router_crash,
    },
    EventRow {
        name: "router-restart",
        help: "a router starts from nothing; one that runs dies first",
        example: "{ step: restart, do: router-restart, at: ams/primary, until: converged }",
        start: router_restart,
    },
    EventRow {
        name: "control-kill",
        help: "a router's control process dies and is back after 5 s; forwarding and BFD go on",
        example: "{ step: kill, do: control-kill, at: ams/primary, until: converged }",
        start: control_kill,
    },
    EventRow {
        name: "replace-device",
        help: "another device with other MACs takes a site router's place at once",
        example: "{ step: swap, do: replace-device, at: ce1, gratuitousArp: false, until: converged }",
        start: replace_device,
    },
    EventRow {
        name: "maintenance",
        help: "Microsoft works on a link: eight more 12076 in the path, or the session closed",
        example: "{ step: work, do: maintenance, at: ams/primary, category: ASPathPrepend, for: 30s }",
        start: maintenance,
    },
    EventRow {
        name: "peering-disable",
        help: "the peering is disabled on both links",
        example: "{ step: off, do: peering-disable, at: ams/AzurePrivatePeering, for: 30s }",
        start: peering_disable,
    },
    EventRow {
        name: "peering-enable",
        help: "a disabled peering is enabled",
        example: "{ step: again, do: peering-enable, at: ams/AzurePrivatePeering, until: converged }",
        start: peering_enable,
    },
    EventRow {
        name: "bandwidth",
        help: "the circuit is upgraded while it runs",
        example: "{ step: upgrade, do: bandwidth, at: ams, bandwidthInMbps: 2000, for: 30s }",
        start: bandwidth,
    },
    EventRow {
        name: "provider-rate",
        help: "the provider's own throttle of a circuit, each direction; none takes it off",
        example: "{ step: throttle, do: provider-rate, at: ams, rateInMbps: 50, for: 10s }",
        start: provider_rate,
    },
    EventRow {
        name: "announce",
        help: "a site's router announces prefixes as its own; it drops what it has no host for",
        example: "{ step: more, do: announce, at: ce1, prefix: 192.168.8.0/24, for: 10s }",
        start: announce,
    },
    EventRow {
        name: "withdraw",
        help: "a site's router withdraws prefixes",
        example: "{ step: less, do: withdraw, at: core, prefix: 192.168.0.0/22, for: 10s }",
        start: withdraw,
    },
    EventRow {
        name: "restore",
        help: "undoes what earlier steps did there; everything where no place is given",
        example: "{ step: failback, do: restore, until: { stable: 10s }, within: 5m }",
        start: restore,
    },
];

/// An event for a person: `blackhole ams/primary:nni, to-azure only`.
pub fn describe(event: &Event) -> String {
    let targets: Vec<_> = event.targets().iter().map(ToString::to_string).collect();
    let what = format!("{} {}", event.name(), targets.join(", "));
    let how: Vec<String> = match event {
        Event::Blackhole { direction, only, .. } => {
            let only = only.map(|only| match only {
                Only::Data => "data only".to_owned(),
                Only::Control => "control only".to_owned(),
            });
            one_way(*direction).into_iter().chain(only).collect()
        }
        Event::Impair { direction, impairment, .. } => {
            one_way(*direction).into_iter().chain(impaired(impairment)).collect()
        }
        Event::Maintenance {
            category: MaintenanceCategory::AsPathPrepend { prepends }, ..
        } => {
            vec![format!("{prepends} × 12076 prepended")]
        }
        Event::Maintenance { category: MaintenanceCategory::BgpDisconnect, .. } => {
            vec!["BGP disconnected".to_owned()]
        }
        Event::PeeringDisable { families, .. } | Event::PeeringEnable { families, .. } => {
            match families {
                Families::Both => Vec::new(),
                Families::Ipv4 => vec!["IPv4 only".to_owned()],
                Families::Ipv6 => vec!["IPv6 only".to_owned()],
            }
        }
        Event::Bandwidth { bandwidth, .. } => vec![format!("to {bandwidth}")],
        Event::Announce { prefixes, .. } | Event::Withdraw { prefixes, .. } => {
            prefixes.iter().map(ToString::to_string).collect()
        }
        Event::ReplaceDevice { gratuitous_arp, .. } => {
            let told = if *gratuitous_arp { "with" } else { "without" };
            vec!["new MAC addresses".to_owned(), format!("{told} gratuitous ARP")]
        }
        Event::ProviderRate { rate, .. } => {
            vec![rate.map_or("no limit".to_owned(), |rate| format!("to {rate}"))]
        }
        Event::Cut { .. }
        | Event::ControlKill { .. }
        | Event::BgpShutdown { .. }
        | Event::BgpReset { .. }
        | Event::BfdDisable { .. }
        | Event::RouterCrash { .. }
        | Event::RouterRestart { .. }
        | Event::Restore { .. } => Vec::new(),
    };
    if how.is_empty() { what } else { format!("{what}, {}", how.join(", ")) }
}

fn one_way(direction: Directions) -> Option<String> {
    match direction {
        Directions::Both => None,
        Directions::ToAzure => Some("to Azure only".to_owned()),
        Directions::ToOnprem => Some("to on-premises only".to_owned()),
    }
}

fn impaired(impairment: &config::Impairment) -> Vec<String> {
    let shares = [
        (impairment.loss_ppm, "loss"),
        (impairment.corrupt_ppm, "corrupted"),
        (impairment.truncate_ppm, "truncated"),
        (impairment.duplicate_ppm, "duplicated"),
        (impairment.reorder_ppm, "reordered"),
    ];
    let shares = shares.into_iter().filter(|(parts, _)| *parts > 0);
    let mut parts: Vec<_> = shares
        .map(|(parts, of)| format!("{}.{:04} % {of}", parts / 10_000, parts % 10_000))
        .collect();
    if !impairment.delay.is_zero() {
        parts.push(format!("{:?} more delay", impairment.delay));
    }
    if !impairment.jitter.is_zero() {
        parts.push(format!("{:?} jitter", impairment.jitter));
    }
    parts.extend(impairment.rate.map(|rate| format!("at most {rate}")));
    parts
}

/// The row of an event.
pub fn row(event: &Event) -> &'static EventRow {
    let found = EVENTS.iter().find(|row| row.name == event.name());
    found.expect("a test holds that every event has a row")
}

/// Does an event in somebody's name, and says so in the log. `earlier` is what was done something to
/// before: what a restore of everything restores.
pub fn start<'t>(
    lab: &mut Lab,
    event: &Event,
    earlier: impl Iterator<Item = &'t Target>,
    who: &str,
    name: &str,
) {
    let mut touched: Vec<Target> = Vec::new();
    for target in earlier {
        if !touched.contains(target) {
            touched.push(target.clone());
        }
    }
    let everything = Event::Restore { at: touched };
    let event = match event {
        Event::Restore { at } if at.is_empty() => &everything,
        other => other,
    };
    lab.record(who, EventKind::Fault, format!("{name}: {}", describe(event)));
    (row(event).start)(lab, event);
}

fn cut(lab: &mut Lab, event: &Event) {
    let Event::Cut { at } = event else { return };
    for place in at {
        lab.break_at(place, Directions::Both, Fault::Cut);
    }
}

fn blackhole(lab: &mut Lab, event: &Event) {
    let Event::Blackhole { at, direction, only } = event else { return };
    let scope = match only {
        None => FaultScope::All,
        Some(Only::Data) => FaultScope::Data,
        Some(Only::Control) => FaultScope::Control,
    };
    for place in at {
        lab.break_at(place, *direction, Fault::Blackhole(scope));
    }
}

fn impair(lab: &mut Lab, event: &Event) {
    let Event::Impair { at, direction, impairment } = event else { return };
    let fault = Fault::Impair(Impairment {
        loss_ppm: impairment.loss_ppm,
        corrupt_ppm: impairment.corrupt_ppm,
        truncate_ppm: impairment.truncate_ppm,
        duplicate_ppm: impairment.duplicate_ppm,
        reorder_ppm: impairment.reorder_ppm,
        delay: impairment.delay,
        jitter: impairment.jitter,
        rate: impairment.rate,
    });
    for place in at {
        lab.break_at(place, *direction, fault);
    }
}

fn bgp_shutdown(lab: &mut Lab, event: &Event) {
    let Event::BgpShutdown { at } = event else { return };
    for session in at {
        lab.shut_session(session, true);
    }
}

fn bgp_reset(lab: &mut Lab, event: &Event) {
    let Event::BgpReset { at } = event else { return };
    for session in at {
        lab.reset_session(session);
    }
}

fn bfd_disable(lab: &mut Lab, event: &Event) {
    let Event::BfdDisable { at } = event else { return };
    for session in at {
        lab.set_bfd(session, false);
    }
}

fn router_crash(lab: &mut Lab, event: &Event) {
    let Event::RouterCrash { at } = event else { return };
    for node in at {
        lab.crash(node);
    }
}

fn router_restart(lab: &mut Lab, event: &Event) {
    let Event::RouterRestart { at } = event else { return };
    for node in at {
        lab.restart(node);
    }
}

fn control_kill(lab: &mut Lab, event: &Event) {
    let Event::ControlKill { at } = event else { return };
    for node in at {
        lab.kill_control(node);
    }
}

fn replace_device(lab: &mut Lab, event: &Event) {
    let Event::ReplaceDevice { at, gratuitous_arp } = event else { return };
    for router in at {
        lab.replace_device(router, *gratuitous_arp);
    }
}

fn provider_rate(lab: &mut Lab, event: &Event) {
    let Event::ProviderRate { at, rate } = event else { return };
    for circuit in at {
        lab.set_provider_rate(circuit, *rate);
    }
}

fn maintenance(lab: &mut Lab, event: &Event) {
    let Event::Maintenance { at, category } = event else { return };
    for place in at {
        match category {
            MaintenanceCategory::AsPathPrepend { prepends } => lab.drain(place, Some(*prepends)),
            MaintenanceCategory::BgpDisconnect => lab.disconnect(place, true),
        }
    }
}

fn peering_disable(lab: &mut Lab, event: &Event) {
    let Event::PeeringDisable { at, families } = event else { return };
    for peering in at {
        lab.set_peering(peering, *families, false);
    }
}

fn peering_enable(lab: &mut Lab, event: &Event) {
    let Event::PeeringEnable { at, families } = event else { return };
    for peering in at {
        lab.set_peering(peering, *families, true);
    }
}

fn bandwidth(lab: &mut Lab, event: &Event) {
    let Event::Bandwidth { at, bandwidth } = event else { return };
    for circuit in at {
        lab.set_bandwidth(circuit, *bandwidth);
    }
}

fn announce(lab: &mut Lab, event: &Event) {
    let Event::Announce { at, prefixes } = event else { return };
    for (router, &prefix) in at.iter().flat_map(|router| prefixes.iter().map(move |p| (router, p)))
    {
        lab.announce(router, prefix, true);
    }
}

fn withdraw(lab: &mut Lab, event: &Event) {
    let Event::Withdraw { at, prefixes } = event else { return };
    for (router, &prefix) in at.iter().flat_map(|router| prefixes.iter().map(move |p| (router, p)))
    {
        lab.announce(router, prefix, false);
    }
}

fn restore(lab: &mut Lab, event: &Event) {
    let Event::Restore { at } = event else { return };
    for target in at {
        undo(lab, target);
    }
}

/// Undoes at one target whatever can have been done there. A bandwidth stays: circuits do not
/// shrink (3.2).
fn undo(lab: &mut Lab, target: &Target) {
    match target {
        Target::Place(place) => lab.mend_at(place),
        Target::Session(session) => {
            lab.shut_session(session, false);
            lab.set_bfd(session, true);
        }
        Target::Link(place) => {
            lab.drain(place, None);
            lab.disconnect(place, false);
        }
        Target::Node(node) => undo_node(lab, node),
        Target::Peering(peering) => lab.reset_peering(peering),
        Target::Circuit(circuit) => lab.reset_provider_rate(circuit),
    }
}

fn undo_node(lab: &mut Lab, node: &NodeRef) {
    lab.revive(node);
    if let NodeRef::SiteRouter(name) = node {
        lab.forget_announcements(name);
        lab.return_device(name);
    }
}

impl std::fmt::Debug for EventRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Site routers that somebody has to act on for an event to happen, and how.
fn acts_on(event: &Event, lab: &LabFile) -> Option<(Means, Vec<String>)> {
    let site_router = |node: &NodeRef| match node {
        NodeRef::SiteRouter(name) => Some(name.clone()),
        NodeRef::Msee(_) | NodeRef::Gateway { .. } => None,
    };
    let customer = |session: &SessionRef| match session {
        SessionRef::Link(place) => {
            lab.edge_of(&place.circuit, place.link).map(|(_, edge)| edge.name.clone())
        }
        SessionRef::Between(first, _) => site_router(first),
    };
    match event {
        Event::BgpShutdown { at } | Event::BfdDisable { at } => {
            Some((Means::Console, at.iter().filter_map(customer).collect()))
        }
        Event::Announce { at, .. } | Event::Withdraw { at, .. } => {
            Some((Means::Console, at.clone()))
        }
        Event::RouterCrash { at } | Event::RouterRestart { at } => {
            Some((Means::Console, at.iter().filter_map(site_router).collect()))
        }
        Event::ControlKill { at } => {
            Some((Means::Hands, at.iter().filter_map(site_router).collect()))
        }
        Event::ReplaceDevice { at, .. } => Some((Means::Hands, at.clone())),
        Event::Cut { .. }
        | Event::Blackhole { .. }
        | Event::Impair { .. }
        // Microsoft's end can reset a session as well.
        | Event::BgpReset { .. }
        | Event::Maintenance { .. }
        | Event::PeeringDisable { .. }
        | Event::PeeringEnable { .. }
        | Event::Bandwidth { .. }
        | Event::ProviderRate { .. }
        | Event::Restore { .. } => None,
    }
}

/// What the operator of a site's router needs for an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Means {
    /// To be told something, or its power switch.
    Console,
    /// Another device, or a process of it, in hand.
    Hands,
}

/// A router outside on which the event has to be done by its own means, if there is one. `outside`
/// says of a site's router whether it is, and then whether it has a console here.
pub fn out_of_reach(
    event: &Event,
    lab: &LabFile,
    outside: impl Fn(&str) -> Option<bool>,
) -> Option<String> {
    let (means, routers) = acts_on(event, lab)?;
    let is_reached =
        |name: &str| outside(name).is_none_or(|has_console| has_console && means == Means::Console);
    routers.into_iter().find(|name| !is_reached(name))
}

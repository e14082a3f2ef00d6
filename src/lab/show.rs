//! The tables of a running lab, as plain data: what `msee show` prints. Every table is a row of
//! [`TABLES`].

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Value, json};

use crate::config::lab::Circuit;
use crate::config::{CircuitLink, HostRef, NodeRef, SessionRef, nearest};
use crate::fabric::Altered;
use crate::lab::{Lab, neighbor_base, tables};
use crate::model::LinkRole;
use crate::router::{DropReason, LimiterRow};

/// A table that can be asked for.
pub struct Table {
    /// As after `msee show`.
    pub name: &'static str,
    pub help: &'static str,
    /// The rows, or what is wrong with the name and what is right.
    pub rows: fn(&mut Lab, Option<&str>) -> Result<Value, String>,
}

/// Every table, in the order the help shows them.
pub const TABLES: &[Table] = &[
    Table {
        name: "circuits",
        help: "bandwidth, provider, and whether both links carry",
        rows: |lab, node| circuits(lab, node),
    },
    Table {
        name: "bgp",
        help: "sessions: neighbor, AS, for how long, prefixes received",
        rows: |lab, node| bgp(lab, node),
    },
    Table {
        name: "routes",
        help: "routing tables of a router or of all, by VRF, best path first",
        rows: |lab, node| routes(lab, node),
    },
    Table { name: "arp", help: "who is on a router's links", rows: |lab, node| arp(lab, node) },
    Table {
        name: "bfd",
        help: "BFD sessions and how soon each detects",
        rows: |lab, node| bfd(lab, node),
    },
    Table {
        name: "limits",
        help: "limiters by circuit, link and direction: rate, burst, what conformed and what did not",
        rows: |lab, node| limits(lab, node),
    },
    Table {
        name: "drops",
        help: "dropped packets by node or link and reason, what links altered, ports, and whether \
               every packet is accounted for",
        rows: drops,
    },
    Table {
        name: "effective-routes",
        help: "what the VMs of a VNet follow; of a VNet or one of its hosts",
        rows: |lab, node| effective_routes(lab, node),
    },
];

/// The table of that name.
pub fn table(name: &str) -> Result<&'static Table, String> {
    let found = TABLES.iter().find(|table| table.name == name);
    found.ok_or_else(|| unknown("table", name, TABLES.iter().map(|table| table.name.to_owned())))
}

/// A row with the router it is of.
#[derive(Serialize)]
struct Of<T> {
    node: String,
    #[serde(flatten)]
    row: T,
}

/// A row with the router and the VRF it is of.
#[derive(Serialize)]
struct OfVrf<T> {
    node: String,
    vrf: String,
    #[serde(flatten)]
    row: T,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CircuitRow {
    name: String,
    bandwidth_in_mbps: u64,
    service_provider_name: String,
    peering_location: String,
    /// `up`, `no carrier`, or `router down`.
    primary: &'static str,
    /// Sessions with the customer that are up, of those there are.
    primary_bgp: String,
    secondary: &'static str,
    secondary_bgp: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Limit {
    /// Empty for a gateway's.
    circuit: String,
    link: String,
    /// `to-azure` or `to-onprem`; of the provider's own, with `provider-` in front.
    direction: String,
    rate_in_mbps: f64,
    burst_ms: f64,
    conforming_packets: u64,
    conforming_bytes: u64,
    surplus_packets: u64,
    surplus_bytes: u64,
}

#[derive(Serialize)]
struct Drop {
    node: String,
    reason: &'static str,
    packets: u64,
}

/// What a fault on a link did to packets that it did not lose.
#[derive(Serialize)]
struct AlteredRow {
    link: String,
    corrupted: u64,
    truncated: u64,
    duplicated: u64,
    reordered: u64,
}

/// Counters of a port on the host.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PortRow {
    port: String,
    received: u64,
    transmitted: u64,
    receive_dropped: u64,
    transmit_dropped: u64,
    kernel_dropped: u64,
}

/// received + originated = transmitted + consumed + queued + dropped.
#[derive(Serialize)]
struct Conservation {
    held: bool,
    received: u64,
    originated: u64,
    transmitted: u64,
    consumed: u64,
    queued: u64,
    dropped: u64,
}

fn circuits(lab: &Lab, name: Option<&str>) -> Result<Value, String> {
    let all = &lab.file().circuits;
    let names = || all.iter().map(|circuit| circuit.name.clone());
    if let Some(name) = name.filter(|name| lab.file().circuit(name).is_none()) {
        return Err(unknown("circuit", name, names()));
    }
    let asked = all.iter().filter(|circuit| name.is_none_or(|name| circuit.name == name));
    Ok(list(asked.map(|circuit| {
        let [primary, secondary] = LinkRole::BOTH.map(|link| LinkState::of(lab, circuit, link));
        CircuitRow {
            name: circuit.name.clone(),
            bandwidth_in_mbps: circuit.bandwidth.bps() / 1_000_000,
            service_provider_name: circuit.service_provider.clone(),
            peering_location: circuit.peering_location.clone(),
            primary: primary.word(),
            primary_bgp: primary.bgp(),
            secondary: secondary.word(),
            secondary_bgp: secondary.bgp(),
        }
    })))
}

/// A circuit's link, end to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkState {
    pub router_up: bool,
    /// On all its segments.
    pub carrier: bool,
    /// The customer's sessions that are up, and all of them.
    pub established: u32,
    pub sessions: u32,
}

impl LinkState {
    pub fn of(lab: &Lab, circuit: &Circuit, link: LinkRole) -> Self {
        let place = CircuitLink { circuit: circuit.name.clone(), link };
        let segments = [lab.access(&circuit.name, link), lab.nni(&circuit.name, link)];
        let mut state = Self {
            router_up: lab.is_up(&NodeRef::Msee(place.clone())),
            carrier: segments.into_iter().flatten().all(|index| lab.has_carrier(index)),
            established: 0,
            sessions: 0,
        };
        for [_, end] in lab.session_ends(&SessionRef::Link(place)) {
            let here = lab.sessions().filter(|(router, _)| *router == end.router);
            for (_, row) in here.filter(|(_, row)| neighbor_base(&row.neighbor) == end.neighbor) {
                state.sessions += 1;
                state.established += u32::from(row.established);
            }
        }
        state
    }

    pub const fn word(self) -> &'static str {
        match (self.router_up, self.carrier) {
            (false, _) => "router down",
            (true, false) => "no carrier",
            (true, true) => "up",
        }
    }

    pub fn bgp(self) -> String {
        format!("{} of {}", self.established, self.sessions)
    }
}

fn bgp(lab: &Lab, node: Option<&str>) -> Result<Value, String> {
    let asked = routers(lab, node)?;
    let rows = lab.sessions().filter(|(name, _)| asked.contains(*name));
    Ok(list(rows.map(|(name, row)| OfVrf {
        node: name.to_owned(),
        vrf: row.vrf.clone(),
        row: tables::session(&row),
    })))
}

fn routes(lab: &Lab, node: Option<&str>) -> Result<Value, String> {
    let asked = routers(lab, node)?;
    let states = asked.iter().filter_map(|name| lab.snapshot(name));
    Ok(list(states.flat_map(|state| {
        let rows = |vrf: &str| {
            let of = |row| OfVrf { node: state.name.clone(), vrf: vrf.to_owned(), row };
            tables::routes(&state, vrf).into_iter().map(of).collect::<Vec<_>>()
        };
        state.vrfs.iter().flat_map(|vrf| rows(&vrf.name)).collect::<Vec<_>>()
    })))
}

fn arp(lab: &Lab, node: Option<&str>) -> Result<Value, String> {
    let asked = routers(lab, node)?;
    let states = asked.iter().filter_map(|name| lab.snapshot(name));
    Ok(list(states.flat_map(|state| {
        let rows = |attachment: &str| tables::arp(&state, attachment);
        let rows = state.attachments.iter().flat_map(|attachment| rows(&attachment.name));
        rows.map(|row| Of { node: state.name.clone(), row }).collect::<Vec<_>>()
    })))
}

fn bfd(lab: &Lab, node: Option<&str>) -> Result<Value, String> {
    let asked = routers(lab, node)?;
    let states = asked.iter().filter_map(|name| lab.snapshot(name));
    Ok(list(states.flat_map(|state| {
        let rows = tables::bfd(&state).into_iter();
        rows.map(|row| Of { node: state.name.clone(), row }).collect::<Vec<_>>()
    })))
}

fn limits(lab: &Lab, node: Option<&str>) -> Result<Value, String> {
    let mut rows = Vec::new();
    for router in routers(lab, node)? {
        let counters = lab.counters(&router).unwrap_or_default().limiters;
        rows.extend(counters.iter().map(|row| limit(lab, &router, row)));
    }
    Ok(list(rows.into_iter()))
}

/// Limiters of circuits are called `circuit/link:direction`.
fn limit(lab: &Lab, router: &str, row: &LimiterRow) -> Of<Limit> {
    let (place, direction) = row.name.split_once(':').unwrap_or(("", &row.name));
    let (circuit, link) = place.split_once('/').unwrap_or_default();
    let desired = lab.desired(router).into_iter().flat_map(|config| &config.limiters);
    let burst = desired.filter(|limiter| limiter.name == row.name).map(|limiter| limiter.burst);
    let burst = burst.max().unwrap_or_default();
    Of {
        node: router.to_owned(),
        row: Limit {
            circuit: circuit.to_owned(),
            link: link.to_owned(),
            direction: direction.to_owned(),
            rate_in_mbps: row.rate.bps() as f64 / 1e6,
            burst_ms: burst.as_secs_f64() * 1e3,
            conforming_packets: row.conforming_packets,
            conforming_bytes: row.conforming_bytes,
            surplus_packets: row.dropped_packets,
            surplus_bytes: row.dropped_bytes,
        },
    }
}

fn drops(lab: &mut Lab, node: Option<&str>) -> Result<Value, String> {
    let asked = node.map(|node| drop_places(lab, node)).transpose()?;
    let is_asked = |name: &str| asked.as_ref().is_none_or(|asked| asked.contains(name));
    let nodes = lab.node_ledgers();
    let links = lab.link_ledgers().map(|(name, ledger)| (name, ledger.clone()));
    let mut dropped = Vec::new();
    for (name, ledger) in nodes.chain(links).filter(|(name, _)| is_asked(name)) {
        for &reason in DropReason::ALL {
            let packets = ledger.dropped[reason as usize];
            if packets > 0 {
                dropped.push(Drop { node: name.to_owned(), reason: reason.name(), packets });
            }
        }
    }
    let altered =
        lab.altered().filter(|(name, altered)| is_asked(name) && *altered != Altered::default());
    let altered = list(altered.map(|(link, altered)| AlteredRow {
        link: link.to_owned(),
        corrupted: altered.corrupted,
        truncated: altered.truncated,
        duplicated: altered.duplicated,
        reordered: altered.reordered,
    }));
    let ports = lab.port_counters().into_iter().filter(|(name, _)| is_asked(name));
    let ports = list(ports.map(|(port, counters)| PortRow {
        port,
        received: counters.received,
        transmitted: counters.transmitted,
        receive_dropped: counters.receive_dropped,
        transmit_dropped: counters.transmit_dropped,
        kernel_dropped: counters.kernel_dropped,
    }));
    let totals = lab.totals();
    let conservation = Conservation {
        held: totals.held,
        received: totals.sum.received,
        originated: totals.sum.originated,
        transmitted: totals.sum.transmitted,
        consumed: totals.sum.consumed,
        queued: totals.sum.queued,
        dropped: totals.sum.dropped.iter().sum(),
    };
    let conservation = list([conservation].into_iter());
    Ok(json!({
        "drops": list(dropped.into_iter()),
        "altered": altered,
        "ports": ports,
        "conservation": conservation,
    }))
}

/// What has a ledger or a port: a router under any of its names, a host, a link.
fn drop_places(lab: &Lab, name: &str) -> Result<BTreeSet<String>, String> {
    let nodes = lab.node_ledgers().map(|(name, _)| name.to_owned());
    let links = lab.link_ledgers().map(|(name, _)| name.to_owned());
    let known: BTreeSet<_> = nodes.chain(links).chain(lab.ports.keys().cloned()).collect();
    if known.contains(name) {
        return Ok(BTreeSet::from([name.to_owned()]));
    }
    routers(lab, Some(name)).map_err(|_| unknown("node or link", name, known.into_iter()))
}

fn effective_routes(lab: &Lab, place: Option<&str>) -> Result<Value, String> {
    let file = lab.file();
    let names: Vec<_> = file.virtual_networks.iter().map(|vnet| vnet.name.clone()).collect();
    let vnets = match place {
        None => names,
        Some(name) if names.iter().any(|known| known == name) => vec![name.to_owned()],
        Some(name) => match HostRef::resolve(name, file) {
            Ok(HostRef::VirtualNetwork { vnet, .. }) => vec![vnet],
            Ok(HostRef::Site { .. }) => {
                let known = names.join(", ");
                return Err(format!("{name} is at a site; effective routes are of VNets: {known}"));
            }
            Err(_) => {
                let hosts = file.virtual_networks.iter().flat_map(|vnet| {
                    vnet.hosts.iter().map(|host| format!("{}.{}", vnet.name, host.name))
                });
                return Err(unknown("VNet or VNet host", name, names.iter().cloned().chain(hosts)));
            }
        },
    };
    let states = vnets.iter().filter_map(|vnet| lab.snapshot(vnet));
    Ok(list(states.flat_map(|state| {
        let rows = tables::effective(&state).into_iter();
        rows.map(|row| Of { node: state.name.clone(), row }).collect::<Vec<_>>()
    })))
}

/// The routers a name stands for; all without one. A router is known by the name reports have, and
/// by what a drill writes: `ams/primary` also where circuits share the MSEE, `hub/er` for all
/// instances.
pub(super) fn routers(lab: &Lab, name: Option<&str>) -> Result<BTreeSet<String>, String> {
    let all = || lab.router_names().map(str::to_owned);
    let Some(name) = name else { return Ok(all().collect()) };
    if lab.router_names().any(|known| known == name) {
        return Ok(BTreeSet::from([name.to_owned()]));
    }
    match NodeRef::resolve(name, lab.file()) {
        Ok(node) => Ok(lab.routers_of(&node).into_iter().collect()),
        Err(_) => Err(unknown("router", name, all())),
    }
}

pub(super) fn unknown(what: &str, name: &str, known: impl Iterator<Item = String>) -> String {
    let known: Vec<_> = known.collect();
    let near = nearest(name, known.iter().map(String::as_str));
    let near = near.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
    format!("no {what} {name}{near}; there are {}", known.join(", "))
}

fn list<T: Serialize>(rows: impl Iterator<Item = T>) -> Value {
    let row = |row| serde_json::to_value(row).expect("a row is plain data");
    Value::Array(rows.map(row).collect())
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

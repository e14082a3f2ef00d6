//! Tables of routers before the first event and after each, in the columns Azure shows them in
//! (`Get-AzExpressRouteCircuitRouteTable`, `…RouteTableSummary`, `…ARPTable`,
//! `Get-AzVirtualNetworkGatewayLearnedRoute`, effective routes).

use crate::config::{CircuitLink, NodeRef};
use crate::drill::report::{Moment, Table};
use crate::drill::steps::{Record, States};
use crate::lab::neighbor_base;
use crate::model::LinkRole;
use crate::router::{PathRow, Snapshot};

/// Rows of a table that are kept.
const ROWS_MAX: usize = 100;
/// The customer's half of an MSEE's ARP table, and Microsoft's (section 5).
const ON_PREM: &str = "On-Prem";
const MICROSOFT: &str = "Microsoft";

type Rows = Vec<Vec<String>>;

/// Every table of the lab's circuits, gateways, VNets and edges.
pub fn all(record: &Record) -> Vec<Table> {
    let file = record.lab.file();
    let mut tables = Vec::new();
    for circuit in &file.circuits {
        for link in LinkRole::BOTH {
            let node = NodeRef::Msee(CircuitLink { circuit: circuit.name.clone(), link });
            let name = format!("{}/{link}", circuit.name);
            let router = record.lab.routers_of(&node).remove(0);
            let vrf = record.lab.vrf_of(&node);
            let of =
                |kind, columns: &[&str], volatile: &[usize], rows: &dyn Fn(&Snapshot) -> Rows| {
                    table(record, &name, kind, columns, volatile, |states| {
                        states.get(&router).map(rows).unwrap_or_default()
                    })
                };
            tables.push(of(
                "routes",
                &["Network", "NextHop", "LocPrf", "Weight", "Path"],
                &[],
                &|state| routes(state, &vrf),
            ));
            tables.push(of(
                "arp",
                &["Age", "InterfaceProperty", "IpAddress", "MacAddress"],
                &[0],
                &|state| arp(state, &vrf),
            ));
            tables.push(of(
                "bgp",
                &["Neighbor", "V", "AS", "UpDown", "StatePfxRcd"],
                &[3],
                &|state| bgp(state, &vrf),
            ));
            tables.push(of("bfd", &["Neighbor", "State", "Detection"], &[], &|state| {
                bfd(state, &vrf)
            }));
        }
    }
    for vnet in &file.virtual_networks {
        for gateway in &vnet.gateways {
            let node = NodeRef::Gateway {
                vnet: vnet.name.clone(),
                gateway: gateway.name.clone(),
                instance: None,
            };
            for router in record.lab.routers_of(&node) {
                let columns = ["Network", "NextHop", "SourcePeer", "Origin", "AsPath", "Weight"];
                tables.push(table(record, &router, "learned routes", &columns, &[], |states| {
                    states.get(&router).map(learned).unwrap_or_default()
                }));
            }
        }
        let columns = ["Source", "State", "AddressPrefix", "NextHopType", "NextHopIpAddress"];
        tables.push(table(record, &vnet.name, "effective routes", &columns, &[], |states| {
            states.get(&vnet.name).map(effective).unwrap_or_default()
        }));
    }
    for router in file.sites.iter().flat_map(|site| &site.routers) {
        let columns = ["Network", "NextHop", "LocPrf", "Weight", "Path"];
        tables.push(table(record, &router.name, "routes", &columns, &[], |states| {
            let vrfs = |state: &Snapshot| {
                state.vrfs.iter().flat_map(|vrf| routes(state, &vrf.name)).collect()
            };
            states.get(&router.name).map(vrfs).unwrap_or_default()
        }));
    }
    tables
}

fn table(
    record: &Record,
    node: &str,
    kind: &str,
    columns: &[&str],
    volatile: &[usize],
    rows: impl Fn(&States) -> Rows,
) -> Table {
    let moment = |at: &str, states: &States| {
        let mut rows = rows(states);
        let more = rows.len().saturating_sub(ROWS_MAX) as u64;
        rows.truncate(ROWS_MAX);
        Moment { at: at.to_owned(), rows, more }
    };
    let steps = record.steps.iter().filter(|step| step.event.is_some());
    let first = steps.clone().next().map_or(&record.baseline, |first| &first.before);
    let mut moments = vec![moment("before", first)];
    moments.extend(steps.map(|step| moment(&step.name, &step.after)));
    Table {
        node: node.to_owned(),
        kind: kind.to_owned(),
        columns: columns.iter().map(|&column| column.to_owned()).collect(),
        volatile: volatile.to_vec(),
        moments,
    }
}

/// Best path first, every usable path a row, as Azure lists them.
fn routes(state: &Snapshot, vrf: &str) -> Rows {
    let tables = state.vrfs.iter().filter(|table| table.name == vrf);
    let row = |prefix: String, path: &PathRow| {
        let next_hop = path.next_hop.map_or_else(|| path.from.clone(), |hop| hop.to_string());
        let preference = if path.local_preference == 0 {
            String::new()
        } else {
            path.local_preference.to_string()
        };
        vec![prefix, next_hop, preference, path.weight.to_string(), path.as_path.clone()]
    };
    let routes = tables.flat_map(|table| &table.routes);
    routes
        .flat_map(|route| route.paths.iter().map(move |path| row(route.prefix.to_string(), path)))
        .collect()
}

fn arp(state: &Snapshot, vrf: &str) -> Rows {
    let own = state.mac_of(vrf);
    let rows = state.arp.iter().filter(|row| row.attachment == vrf && row.address.is_ipv4());
    rows.map(|row| {
        let property = if row.mac == own { MICROSOFT } else { ON_PREM };
        let (age, address) = (row.age_s.to_string(), row.address.to_string());
        vec![age, property.to_owned(), address, row.mac.clone()]
    })
    .collect()
}

fn bgp(state: &Snapshot, vrf: &str) -> Rows {
    let tables = state.vrfs.iter().filter(|table| table.name == vrf);
    let sessions = tables.flat_map(|table| &table.sessions);
    let row = |session: &crate::router::SessionRow| {
        let received = if session.established {
            session.prefixes_received.to_string()
        } else {
            session.state.clone()
        };
        let up = session.established_for.map_or("never".to_owned(), |span| {
            let seconds = span.as_secs();
            format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
        });
        let up = if session.established { up } else { "down".to_owned() };
        let name = neighbor_base(&session.neighbor);
        let peer = format!("{} ({name})", session.peer);
        vec![peer, "4".to_owned(), session.asn.to_string(), up, received]
    };
    sessions.map(row).collect()
}

fn bfd(state: &Snapshot, vrf: &str) -> Rows {
    let rows = state.bfd.iter().filter(|row| row.attachment == vrf);
    rows.map(|row| {
        vec![row.peer.to_string(), row.state.clone(), format!("{} ms", row.detection.as_millis())]
    })
    .collect()
}

/// As `Get-AzVirtualNetworkGatewayLearnedRoute` prints them.
fn learned(state: &Snapshot) -> Rows {
    let routes = state.vrfs.iter().flat_map(|vrf| &vrf.routes);
    let row = |prefix: String, path: &PathRow| {
        let origin = if path.next_hop.is_none() { "Network" } else { "EBgp" };
        let next_hop = path.next_hop.map(|hop| hop.to_string()).unwrap_or_default();
        vec![
            prefix,
            next_hop,
            path.from.clone(),
            origin.to_owned(),
            path.as_path.clone(),
            path.weight.to_string(),
        ]
    };
    routes
        .flat_map(|route| route.paths.iter().map(move |path| row(route.prefix.to_string(), path)))
        .collect()
}

/// Effective routes of the VNet's VMs: what is used.
fn effective(state: &Snapshot) -> Rows {
    let routes = state.vrfs.iter().flat_map(|vrf| &vrf.routes);
    let row = |prefix: String, path: &PathRow| {
        let (source, kind) = match path.next_hop {
            None => ("Default", "VnetLocal"),
            Some(_) => ("VirtualNetworkGateway", "VirtualNetworkGateway"),
        };
        let next_hop = path.next_hop.map(|hop| hop.to_string()).unwrap_or_default();
        vec![source.to_owned(), "Active".to_owned(), prefix, kind.to_owned(), next_hop]
    };
    let used = |path: &&PathRow| path.best || path.multipath;
    routes
        .flat_map(|route| {
            let paths = route.paths.iter().filter(used);
            paths.map(move |path| row(route.prefix.to_string(), path))
        })
        .collect()
}

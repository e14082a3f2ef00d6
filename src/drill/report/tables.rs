//! Tables of routers before the first event and after each, in the columns Azure shows them in
//! (`Get-AzExpressRouteCircuitRouteTable`, `…RouteTableSummary`, `…ARPTable`,
//! `Get-AzVirtualNetworkGatewayLearnedRoute`, effective routes).

use crate::config::{CircuitLink, NodeRef};
use crate::drill::report::{Moment, Table};
use crate::drill::steps::{Record, States};
use crate::lab::tables;
use crate::model::LinkRole;
use crate::router::Snapshot;

/// Rows of a table that are kept.
const ROWS_MAX: usize = 100;

type Rows = Vec<Vec<String>>;

/// Every table of the lab's circuits, gateways, VNets and edges.
pub fn all(record: &Record) -> Vec<Table> {
    let file = record.lab.file();
    let mut all = Vec::new();
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
            all.push(of(
                "routes",
                &["Network", "NextHop", "LocPrf", "Weight", "Path"],
                &[],
                &|state| routes(state, &vrf),
            ));
            all.push(of(
                "arp",
                &["Age", "InterfaceProperty", "IpAddress", "MacAddress"],
                &[0],
                &|state| arp(state, &vrf),
            ));
            all.push(of(
                "bgp",
                &["Neighbor", "V", "AS", "UpDown", "StatePfxRcd"],
                &[3],
                &|state| bgp(state, &vrf),
            ));
            all.push(of("bfd", &["Neighbor", "State", "Detection"], &[], &|state| {
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
                all.push(table(record, &router, "learned routes", &columns, &[], |states| {
                    states.get(&router).map(learned).unwrap_or_default()
                }));
            }
        }
        let columns = ["Source", "State", "AddressPrefix", "NextHopType", "NextHopIpAddress"];
        all.push(table(record, &vnet.name, "effective routes", &columns, &[], |states| {
            states.get(&vnet.name).map(effective).unwrap_or_default()
        }));
    }
    for router in file.sites.iter().flat_map(|site| &site.routers) {
        let columns = ["Network", "NextHop", "LocPrf", "Weight", "Path"];
        all.push(table(record, &router.name, "routes", &columns, &[], |states| {
            let vrfs = |state: &Snapshot| {
                state.vrfs.iter().flat_map(|vrf| routes(state, &vrf.name)).collect()
            };
            states.get(&router.name).map(vrfs).unwrap_or_default()
        }));
    }
    all
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

fn routes(state: &Snapshot, vrf: &str) -> Rows {
    let row = |row: tables::Route| {
        vec![row.network.to_string(), row.next_hop, row.loc_prf, row.weight.to_string(), row.path]
    };
    tables::routes(state, vrf).into_iter().map(row).collect()
}

fn arp(state: &Snapshot, vrf: &str) -> Rows {
    let row = |row: tables::Arp| {
        let (age, address) = (row.age.as_secs().to_string(), row.ip_address.to_string());
        vec![age, row.interface, address, row.mac_address]
    };
    tables::arp(state, vrf).into_iter().map(row).collect()
}

fn bgp(state: &Snapshot, vrf: &str) -> Rows {
    let vrfs = state.vrfs.iter().filter(|table| table.name == vrf);
    let row = |row: tables::Session| {
        let neighbor = format!("{} ({})", row.neighbor, row.name);
        let version = row.v.to_string();
        vec![neighbor, version, row.asn.to_string(), row.up_down, row.state_pfx_rcd]
    };
    vrfs.flat_map(|table| &table.sessions).map(tables::session).map(row).collect()
}

fn bfd(state: &Snapshot, vrf: &str) -> Rows {
    let rows = tables::bfd(state).into_iter().filter(|row| row.is_on(vrf));
    rows.map(|row| vec![row.neighbor.to_string(), row.state, format!("{} ms", row.detection_ms)])
        .collect()
}

fn learned(state: &Snapshot) -> Rows {
    let row = |row: tables::LearnedRoute| {
        let (network, weight) = (row.network.to_string(), row.weight.to_string());
        vec![network, row.next_hop, row.source_peer, row.origin.to_owned(), row.as_path, weight]
    };
    tables::learned(state).into_iter().map(row).collect()
}

fn effective(state: &Snapshot) -> Rows {
    let row = |row: tables::EffectiveRoute| {
        let (prefix, kind) = (row.address_prefix.to_string(), row.next_hop_type.to_owned());
        vec![row.source.to_owned(), row.state.to_owned(), prefix, kind, row.next_hop_ip]
    };
    tables::effective(state).into_iter().map(row).collect()
}

//! What Azure shows of a router, row by row, under Azure's own names: `list-route-tables`,
//! `list-route-tables-summary`, `list-arp-tables`, learned routes of a gateway, effective routes.
//! Pure: a snapshot in, rows out. Reports and `msee show` have their columns from here.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::lab::neighbor_base;
use crate::model::{Prefix, Role};
use crate::router::{PathRow, SessionRow, Snapshot};

/// The customer's half of an MSEE's ARP table, and Microsoft's (section 5).
const ON_PREM: &str = "On-Prem";
const MICROSOFT: &str = "Microsoft";

/// A path of a routing table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    pub network: Prefix,
    /// Where it came from (`own`, `connected`, `static`) in place of the address it lacks.
    pub next_hop: String,
    /// Empty where there is none.
    pub loc_prf: String,
    pub weight: u16,
    pub path: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Arp {
    /// Whole minutes, where it is written.
    #[serde(serialize_with = "minutes")]
    pub age: Duration,
    /// `On-Prem` or `Microsoft` on a peering of an MSEE, else the attachment.
    pub interface: String,
    pub ip_address: IpAddr,
    pub mac_address: String,
}

/// A session of the summary.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    pub neighbor: IpAddr,
    pub v: u8,
    #[serde(rename = "as")]
    pub asn: u32,
    /// `00:12:03`, or `down`.
    pub up_down: String,
    /// Prefixes received; of a session that is not up, its state.
    pub state_pfx_rcd: String,
    /// What the lab calls the neighbour.
    pub name: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bfd {
    pub neighbor: IpAddr,
    pub state: String,
    pub detection_ms: u128,
    #[serde(skip)]
    attachment: String,
}

/// A path of a gateway's table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LearnedRoute {
    pub network: Prefix,
    /// Empty for the gateway's own.
    pub next_hop: String,
    pub source_peer: String,
    pub origin: &'static str,
    pub as_path: String,
    pub weight: u16,
}

/// What a VM's packets follow.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveRoute {
    pub source: &'static str,
    pub state: &'static str,
    pub address_prefix: Prefix,
    pub next_hop_type: &'static str,
    pub next_hop_ip: String,
}

/// Best path first, every usable path a row, as Azure lists them.
pub fn routes(state: &Snapshot, vrf: &str) -> Vec<Route> {
    let tables = state.vrfs.iter().filter(|table| table.name == vrf);
    let row = |network, path: &PathRow| Route {
        network,
        next_hop: path.next_hop.map_or_else(|| path.from.clone(), |hop| hop.to_string()),
        loc_prf: match path.local_preference {
            0 => String::new(),
            preference => preference.to_string(),
        },
        weight: path.weight,
        path: path.as_path.clone(),
    };
    let routes = tables.flat_map(|table| &table.routes);
    routes.flat_map(|route| route.paths.iter().map(move |path| row(route.prefix, path))).collect()
}

/// The IPv4 neighbours on an attachment: Azure has no table of the others.
pub fn arp(state: &Snapshot, attachment: &str) -> Vec<Arp> {
    let own = state.mac_of(attachment);
    let is_peering = state.role == Role::Msee && state.vrfs.iter().any(|v| v.name == attachment);
    let rows = state.arp.iter();
    let rows = rows.filter(|row| row.attachment == attachment && row.address.is_ipv4());
    rows.map(|row| Arp {
        age: Duration::from_secs(row.age_s),
        interface: match (is_peering, row.mac == own) {
            (true, true) => MICROSOFT.to_owned(),
            (true, false) => ON_PREM.to_owned(),
            (false, _) => attachment.to_owned(),
        },
        ip_address: row.address,
        mac_address: row.mac.clone(),
    })
    .collect()
}

pub fn session(row: &SessionRow) -> Session {
    let up = row.established_for.filter(|_| row.established).map(|span| {
        let seconds = span.as_secs();
        format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    });
    let received = up.is_some().then(|| row.prefixes_received.to_string());
    Session {
        neighbor: row.peer,
        v: 4,
        asn: row.asn,
        up_down: up.unwrap_or_else(|| "down".to_owned()),
        state_pfx_rcd: received.unwrap_or_else(|| row.state.clone()),
        name: neighbor_base(&row.neighbor).to_owned(),
    }
}

pub fn bfd(state: &Snapshot) -> Vec<Bfd> {
    let row = |row: &crate::router::BfdRow| Bfd {
        neighbor: row.peer,
        state: row.state.clone(),
        detection_ms: row.detection.as_millis(),
        attachment: row.attachment.clone(),
    };
    state.bfd.iter().map(row).collect()
}

impl Bfd {
    pub fn is_on(&self, attachment: &str) -> bool {
        self.attachment == attachment
    }
}

/// Routes a gateway's instance knows, as `Get-AzVirtualNetworkGatewayLearnedRoute` prints them.
pub fn learned(state: &Snapshot) -> Vec<LearnedRoute> {
    let routes = state.vrfs.iter().flat_map(|vrf| &vrf.routes);
    let row = |network, path: &PathRow| LearnedRoute {
        network,
        next_hop: path.next_hop.map(|hop| hop.to_string()).unwrap_or_default(),
        source_peer: path.from.clone(),
        origin: if path.next_hop.is_none() { "Network" } else { "EBgp" },
        as_path: path.as_path.clone(),
        weight: path.weight,
    };
    routes.flat_map(|route| route.paths.iter().map(move |path| row(route.prefix, path))).collect()
}

/// Effective routes of the VNet's VMs: what is used.
pub fn effective(state: &Snapshot) -> Vec<EffectiveRoute> {
    let routes = state.vrfs.iter().flat_map(|vrf| &vrf.routes);
    let row = |address_prefix, path: &PathRow| {
        let (source, next_hop_type) = match path.next_hop {
            None => ("Default", "VnetLocal"),
            Some(_) => ("VirtualNetworkGateway", "VirtualNetworkGateway"),
        };
        EffectiveRoute {
            source,
            state: "Active",
            address_prefix,
            next_hop_type,
            next_hop_ip: path.next_hop.map(|hop| hop.to_string()).unwrap_or_default(),
        }
    };
    let used = |path: &&PathRow| path.best || path.multipath;
    routes
        .flat_map(|route| route.paths.iter().filter(used).map(move |path| row(route.prefix, path)))
        .collect()
}

fn minutes<S: Serializer>(age: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(age.as_secs() / 60)
}

//! The table as a person or a report sees it.

use std::net::IpAddr;
use std::sync::Arc;

use crate::control::policy::Refusal;
use crate::control::rib::entry::{Entry, Path};
use crate::control::rib::export::Cache;
use crate::control::rib::{PeerIndex, Rib, Unusable};
use crate::control::route::{AsPath, Attributes};
use crate::model::Prefix;

/// A prefix of the loc-RIB and the paths to it, best first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocRow {
    pub prefix: Prefix,
    pub local: Option<LocalRoute>,
    /// The own network is announced whatever is learned.
    pub own: bool,
    pub paths: Vec<PathRow>,
    /// Forwarding does not yet do what this row says.
    pub fib_behind: bool,
}

/// What wins over paths in forwarding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LocalRoute {
    Host,
    Connected,
    Static,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathRow {
    pub peer: PeerIndex,
    pub next_hop: IpAddr,
    pub as_path: AsPath,
    pub local_preference: u32,
    pub weight: u16,
    pub best: bool,
    /// Used, alone or with others.
    pub multipath: bool,
}

/// A route as a neighbour announced it, before policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AdjInRow {
    pub peer: PeerIndex,
    pub prefix: Prefix,
    pub path_id: u32,
    pub attributes: Arc<Attributes>,
}

/// Why a route that a neighbour announced is not in the table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefusedRow {
    pub peer: PeerIndex,
    pub prefix: Prefix,
    pub path_id: u32,
    pub reason: Unusable,
}

/// A route of the table towards a neighbour: what it is told, or why nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExportRow {
    pub prefix: Prefix,
    /// Whom it was learned from; `None` for an own network.
    pub from: Option<PeerIndex>,
    pub path_id: u32,
    pub route: Result<Arc<Attributes>, Refusal>,
}

impl Rib {
    pub fn loc_rib(&self) -> Vec<LocRow> {
        let row = |(&prefix, entry): (&Prefix, &Entry)| {
            let usable = entry.paths().iter().filter(|path| path.usable().is_some());
            let chosen = entry.chosen().len();
            LocRow {
                prefix,
                local: local(entry),
                own: entry.own,
                paths: usable.enumerate().map(|(at, path)| path_row(path, at, chosen)).collect(),
                fib_behind: entry.installed.is_behind(),
            }
        };
        let rows = self.table.iter().map(row);
        rows.filter(|row| row.own || row.local.is_some() || !row.paths.is_empty()).collect()
    }

    pub fn adj_in(&self) -> Vec<AdjInRow> {
        let row = |prefix, path: &Path| AdjInRow {
            peer: path.peer,
            prefix,
            path_id: path.id,
            attributes: path.learned.received.clone(),
        };
        self.paths().map(|(prefix, path)| row(prefix, path)).collect()
    }

    pub fn refused(&self) -> Vec<RefusedRow> {
        let row = |(prefix, path): (Prefix, &Path)| {
            let reason = path.learned.verdict.as_ref().err().copied()?;
            Some(RefusedRow { peer: path.peer, prefix, path_id: path.id, reason })
        };
        self.paths().filter_map(row).collect()
    }

    /// Every route of the family of `peer` towards it; empty while its session is down.
    pub fn exports_to(&self, peer: PeerIndex) -> Vec<ExportRow> {
        let up = self.peers.get(&peer).filter(|neighbor| neighbor.up);
        let Some(neighbor) = up else { return Vec::new() };
        let mut cache = Cache::default();
        let mut rows = Vec::new();
        for (&prefix, entry) in &self.table {
            for (path_id, from, route) in self.exports(neighbor, peer, prefix, entry, &mut cache) {
                let from = (!entry.own).then_some(from);
                rows.push(ExportRow { prefix, from, path_id, route });
            }
        }
        rows
    }

    fn paths(&self) -> impl Iterator<Item = (Prefix, &Path)> {
        let of = |(&prefix, entry)| Entry::paths(entry).iter().map(move |path| (prefix, path));
        self.table.iter().flat_map(of)
    }
}

fn local(entry: &Entry) -> Option<LocalRoute> {
    match entry {
        _ if entry.host.is_some() => Some(LocalRoute::Host),
        _ if entry.link().is_some() => Some(LocalRoute::Connected),
        _ if entry.is_static() => Some(LocalRoute::Static),
        _ => None,
    }
}

fn path_row(path: &Path, at: usize, chosen: usize) -> PathRow {
    let usable = path.usable().expect("rows are of usable paths");
    let attributes = &usable.attributes;
    PathRow {
        peer: path.peer,
        next_hop: attributes.next_hop,
        as_path: attributes.as_path.clone(),
        local_preference: attributes.local_preference.unwrap_or_default(),
        weight: usable.weight,
        best: at == 0 && chosen > 0,
        multipath: at < chosen,
    }
}

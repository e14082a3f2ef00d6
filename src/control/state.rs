//! What control knows, as a person or a report sees it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::control::domain::PeerRow;
use crate::control::neighbor;
use crate::control::plane::Control;
use crate::control::rib::{LocRow, LocalRoute};
use crate::model::{Prefix, VrfIndex};

/// A prefix and its paths, best first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RouteRow {
    pub prefix: Prefix,
    pub paths: Vec<PathRow>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PathRow {
    /// The neighbour it came from; `local` for the router's own.
    pub from: String,
    pub next_hop: Option<IpAddr>,
    pub as_path: String,
    pub weight: u16,
    pub local_preference: u32,
    pub best: bool,
    /// Used beside the best one.
    pub multipath: bool,
}

/// All but the routes, which are many.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// See [`Control::is_settled`].
    pub settled: bool,
    pub peers: Vec<(VrfIndex, Vec<PeerRow>)>,
    pub neighbors: Vec<neighbor::Row>,
}

impl State {
    pub fn peers(&self, vrf: VrfIndex) -> Vec<PeerRow> {
        let found = self.peers.iter().find(|(other, _)| *other == vrf);
        found.map(|(_, rows)| rows.clone()).unwrap_or_default()
    }

    /// Whether somebody who waits for the router wants to know of the difference at once.
    pub fn differs_in_kind(&self, other: &Self) -> bool {
        fn up(state: &State) -> impl Iterator<Item = (&str, bool, bool, bool)> {
            let rows = state.peers.iter().flat_map(|(_, rows)| rows);
            rows.map(|row| {
                (row.name.as_str(), row.enabled, row.established_at.is_some(), row.complete)
            })
        }
        self.settled != other.settled || !up(self).eq(up(other))
    }
}

impl Control {
    pub fn state(&self) -> State {
        let vrfs = self.vrfs();
        State {
            settled: self.is_settled(),
            peers: vrfs.map(|vrf| (vrf, self.peers(vrf))).collect(),
            neighbors: self.neighbors(),
        }
    }

    pub fn routes(&self, vrf: VrfIndex) -> Vec<RouteRow> {
        let Some(domain) = self.domain(vrf) else { return Vec::new() };
        let local = |from: &str, best| PathRow {
            from: from.to_owned(),
            next_hop: None,
            as_path: String::new(),
            weight: 0,
            local_preference: 0,
            best,
            multipath: false,
        };
        let row = |row: LocRow| {
            let mut paths = Vec::new();
            if row.own {
                paths.push(local("own", true));
            }
            match row.local {
                Some(LocalRoute::Connected | LocalRoute::Host) => {
                    paths.push(local("connected", !row.own));
                }
                Some(LocalRoute::Static) => paths.push(local("static", !row.own)),
                None => {}
            }
            let is_local = !paths.is_empty();
            paths.extend(row.paths.into_iter().map(|path| PathRow {
                from: domain.peer_name(path.peer).to_owned(),
                next_hop: Some(path.next_hop),
                as_path: path.as_path.to_string(),
                weight: path.weight,
                local_preference: path.local_preference,
                best: path.best && !is_local,
                multipath: path.multipath && !is_local,
            }));
            RouteRow { prefix: row.prefix, paths }
        };
        domain.rib().loc_rib().into_iter().map(row).collect()
    }
}

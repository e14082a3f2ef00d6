//! What forwarding makes of the changes; panics when one comes before what it needs.

use std::collections::BTreeMap;

use crate::model::{Change, GroupIndex, Member, Prefix};

#[derive(Default, Debug)]
pub(super) struct Forwarding {
    groups: BTreeMap<GroupIndex, Vec<Member>>,
    routes: BTreeMap<Prefix, GroupIndex>,
}

impl Forwarding {
    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Group { group, members, .. } if members.is_empty() => {
                assert!(!self.routes.values().any(|each| each == group), "{group:?} is in use");
                assert!(self.groups.remove(group).is_some(), "{group:?} is not there");
            }
            Change::Group { group, members, .. } => {
                assert!(members.len() <= Member::MAX);
                assert!(*group != GroupIndex::NO_ROUTE);
                assert!(self.groups.insert(*group, members.clone()).is_none(), "{group:?} again");
            }
            Change::Route { prefix, group: Some(group), .. } => {
                assert!(self.groups.contains_key(group), "{prefix} before {group:?}");
                self.routes.insert(*prefix, *group);
            }
            Change::Route { prefix, group: None, .. } => {
                assert!(self.routes.remove(prefix).is_some(), "{prefix} is not there");
            }
            other => panic!("not for a table: {other:?}"),
        }
    }

    pub(super) fn way(&self, prefix: Prefix) -> Option<&[Member]> {
        self.routes.get(&prefix).map(|group| &self.groups[group][..])
    }

    pub(super) fn ways(&self) -> BTreeMap<Prefix, Vec<Member>> {
        self.routes.iter().map(|(prefix, group)| (*prefix, self.groups[group].clone())).collect()
    }

    pub(super) fn groups(&self) -> usize {
        self.groups.len()
    }
}

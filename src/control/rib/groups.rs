//! The groups of a VRF: equal sets of next hops share one index.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::model::{GroupIndex, Instant, Member};

/// How long a freed index rests, so that a packet that still carries it meets no other group.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// Most groups of a VRF: a route names its group by 16 bits, of which zero is reserved.
pub(super) const MAX_GROUPS: usize = u16::MAX as usize;

#[derive(Debug)]
pub(super) struct Groups {
    by_members: BTreeMap<Vec<Member>, GroupIndex>,
    /// By index; the first is [`GroupIndex::NO_ROUTE`] and has no members.
    slots: Vec<Slot>,
    /// Indexes at rest and since when, the longest first.
    freed: VecDeque<(Instant, GroupIndex)>,
    /// Indexes that forwarding still uses for routes of an earlier life of control.
    kept: BTreeSet<GroupIndex>,
}

#[derive(Default, Debug)]
struct Slot {
    members: Vec<Member>,
    routes: usize,
}

/// All indexes are in use or at rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Exhausted;

impl Groups {
    pub(super) fn new() -> Self {
        Self::beside(BTreeSet::new())
    }

    /// Groups that leave alone the indexes of `kept`.
    pub(super) fn beside(kept: BTreeSet<GroupIndex>) -> Self {
        let last = kept.last().map_or(0, |last| last.0);
        let slots = (0..=last).map(|_| Slot::default()).collect();
        let free = (1..=last).map(GroupIndex).filter(|index| !kept.contains(index));
        let freed = free.map(|index| (Instant::ZERO, index)).collect();
        Self { by_members: BTreeMap::new(), slots, freed, kept }
    }

    /// Forwarding has forgotten the indexes that were kept; they rest from now on.
    pub(super) fn release_kept(&mut self, now: Instant) {
        self.freed.extend(std::mem::take(&mut self.kept).into_iter().map(|index| (now, index)));
    }

    pub(super) fn members(&self, group: GroupIndex) -> &[Member] {
        &self.slots[group.index()].members
    }

    /// One more route uses these members; whether their group was made for it.
    pub(super) fn acquire(
        &mut self,
        members: &[Member],
        now: Instant,
    ) -> Result<(GroupIndex, bool), Exhausted> {
        if members.is_empty() {
            return Ok((GroupIndex::NO_ROUTE, false));
        }
        if let Some(&group) = self.by_members.get(members) {
            self.slots[group.index()].routes += 1;
            return Ok((group, false));
        }
        let group = self.allocate(now)?;
        self.slots[group.index()] = Slot { members: members.to_vec(), routes: 1 };
        self.by_members.insert(members.to_vec(), group);
        Ok((group, true))
    }

    /// One route less uses `group`; whether it was the last.
    pub(super) fn release(&mut self, group: GroupIndex) -> bool {
        if group == GroupIndex::NO_ROUTE {
            return false;
        }
        let slot = &mut self.slots[group.index()];
        slot.routes -= 1;
        slot.routes == 0
    }

    /// Frees `group` if no route uses it; whether it did.
    pub(super) fn free(&mut self, group: GroupIndex, now: Instant) -> bool {
        let slot = &mut self.slots[group.index()];
        if slot.routes > 0 || slot.members.is_empty() {
            return false;
        }
        let members = std::mem::take(&mut slot.members);
        self.by_members.remove(&members);
        self.freed.push_back((now, group));
        true
    }

    fn allocate(&mut self, now: Instant) -> Result<GroupIndex, Exhausted> {
        let rested = self.freed.front().filter(|(since, _)| *since + GRACE <= now);
        if let Some(&(_, group)) = rested {
            self.freed.pop_front();
            return Ok(group);
        }
        if self.slots.len() > MAX_GROUPS {
            return Err(Exhausted);
        }
        self.slots.push(Slot::default());
        Ok(GroupIndex((self.slots.len() - 1) as u16))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use crate::model::AttachmentIndex;

    use super::*;

    fn member(n: u32) -> [Member; 1] {
        let next_hop = Some(IpAddr::V4(Ipv4Addr::from(n)));
        [Member { attachment: AttachmentIndex(0), next_hop, ordinal: 0 }]
    }

    #[test]
    fn equal_members_share_an_index_until_the_last_route_is_gone() {
        let mut groups = Groups::new();
        let t = Instant::ZERO;
        let (a, made) = groups.acquire(&member(1), t).unwrap();
        assert!(made);
        assert_eq!(groups.acquire(&member(1), t).unwrap(), (a, false));
        assert!(!groups.release(a));
        assert!(!groups.free(a, t));
        assert!(groups.release(a));
        assert!(groups.free(a, t));
        assert!(!groups.free(a, t));
    }

    #[test]
    fn a_freed_index_rests_before_it_is_another_group() {
        let mut groups = Groups::new();
        let t = Instant::from_secs(5);
        let (a, _) = groups.acquire(&member(1), t).unwrap();
        groups.release(a);
        groups.free(a, t);
        let (b, _) = groups.acquire(&member(2), t + GRACE - Duration::from_nanos(1)).unwrap();
        assert_ne!(a, b);
        assert_eq!(groups.acquire(&member(3), t + GRACE).unwrap().0, a);
    }

    #[test]
    fn kept_indexes_are_nobodys_until_they_are_released_and_have_rested() {
        let kept = [2, 4].map(GroupIndex).into();
        let mut groups = Groups::beside(kept);
        let t = Instant::from_secs(5);
        let made: Vec<_> = (0..4).map(|n| groups.acquire(&member(n), t).unwrap().0.0).collect();
        assert_eq!(made, [1, 3, 5, 6]);
        groups.release_kept(t);
        assert_eq!(groups.acquire(&member(9), t).unwrap().0.0, 7);
        assert_eq!(groups.acquire(&member(10), t + GRACE).unwrap().0.0, 2);
    }

    #[test]
    fn the_last_index_is_a_limit_and_not_a_wrap() {
        let mut groups = Groups::new();
        for n in 0..MAX_GROUPS as u32 {
            groups.acquire(&member(n), Instant::ZERO).unwrap();
        }
        let one_more = member(MAX_GROUPS as u32);
        assert_eq!(groups.acquire(&one_more, Instant::ZERO), Err(Exhausted));
        assert!(!groups.acquire(&member(0), Instant::ZERO).unwrap().1);
    }
}

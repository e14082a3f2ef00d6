//! When and how the FIB follows the table.
//!
//! The table changes at once; forwarding is told at a due time. What is due is decided when a
//! prefix changes, from what is installed and what should be:
//!
//! | Change | Due |
//! | --- | --- |
//! | any, after a quiet time | at once |
//! | any, within [`COALESCE`] of the last batch | [`COALESCE`] after that batch |
//! | all next hops lost in order | after the linger |
//! | a next hop lost, in a VNet | after a draw of `onWithdraw` |
//! | next hops only gained, in a VNet | after a draw of `onAnnounce` |
//!
//! A later change of the same prefix replaces an earlier one that is not yet due.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::control::rib::RibConfig;
use crate::control::rib::entry::Entry;
use crate::control::rib::groups::{GRACE, Groups};
use crate::model::{Change, GroupIndex, Instant, Member, Prefix, Random, Spread, VrfIndex};

/// Longest time a change waits for others to go with it (architecture, RIB → FIB).
pub const COALESCE: Duration = Duration::from_millis(2);

/// Why a prefix changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cause {
    /// The router's own configuration or links.
    Local,
    /// What neighbours said, or the end of a session that still forwards.
    Orderly,
    /// The neighbour does not forward any more.
    Failed,
}

/// What forwarding has of a prefix, and what it is about to get.
#[derive(Default, Debug)]
pub(super) struct Installed {
    group: GroupOrNone,
    pending: Option<Box<Pending>>,
}

#[derive(Debug)]
struct GroupOrNone(GroupIndex);

#[derive(Debug)]
struct Pending {
    due: Instant,
    members: Vec<Member>,
}

#[derive(Debug)]
pub(super) struct Fib {
    vrf: VrfIndex,
    groups: Groups,
    due: BTreeSet<(Instant, Prefix)>,
    /// When the last batch was handed out.
    handed: Option<Instant>,
    random: Random,
}

/// Changes on their way out, sorted by what must come first.
#[derive(Default, Debug)]
pub(super) struct Batch {
    groups: Vec<GroupIndex>,
    routes: Vec<(Prefix, GroupIndex)>,
    unused: BTreeSet<GroupIndex>,
}

impl Installed {
    pub(super) fn group(&self) -> GroupIndex {
        self.group.0
    }

    /// Whether forwarding does not yet do what the table says.
    pub(super) fn is_behind(&self) -> bool {
        self.pending.is_some()
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.group.0 == GroupIndex::NO_ROUTE && self.pending.is_none()
    }
}

impl Default for GroupOrNone {
    fn default() -> Self {
        Self(GroupIndex::NO_ROUTE)
    }
}

impl Fib {
    pub(super) fn new(vrf: VrfIndex, seed: u64) -> Self {
        let random = Random::new(seed, "convergence");
        Self { vrf, groups: Groups::new(), due: BTreeSet::new(), handed: None, random }
    }

    /// Leaves these groups to routes of an earlier life of control. Said before any route is there.
    pub(super) fn keep_groups(&mut self, kept: BTreeSet<GroupIndex>) {
        self.groups = Groups::beside(kept);
    }

    pub(super) fn release_kept(&mut self, now: Instant) {
        self.groups.release_kept(now);
    }

    /// Compares what is installed with what `entry` says, and plans the change if there is one.
    pub(super) fn settle(
        &mut self,
        config: &RibConfig,
        prefix: Prefix,
        entry: &mut Entry,
        cause: Cause,
        now: Instant,
    ) {
        let desired = entry.members(prefix.addr(), config.paths());
        let pending = entry.installed.pending.take();
        if let Some(pending) = &pending {
            self.due.remove(&(pending.due, prefix));
        }
        let installed = self.groups.members(entry.installed.group());
        if installed == desired {
            return;
        }
        let lost = installed.iter().any(|member| !desired.contains(member));
        let due = match pending.filter(|pending| pending.members == desired) {
            Some(planned) if cause != Cause::Failed => planned.due,
            Some(planned) => planned.due.min(self.due_at(config, cause, lost, false, now)),
            None => self.due_at(config, cause, lost, desired.is_empty(), now),
        };
        self.due.insert((due, prefix));
        entry.installed.pending = Some(Box::new(Pending { due, members: desired }));
    }

    pub(super) fn next_due(&self) -> Instant {
        self.due.first().map_or(Instant::NEVER, |(due, _)| *due)
    }

    /// The prefixes that are due by `now`, in their order.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Prefix> {
        let mut prefixes = Vec::new();
        while let Some(&(due, prefix)) = self.due.first()
            && due <= now
        {
            self.due.pop_first();
            prefixes.push(prefix);
        }
        prefixes.sort_unstable();
        prefixes
    }

    /// Gives `prefix` the group it should have. Without a free index it keeps what it has, and is
    /// tried again when those at rest may be used.
    pub(super) fn install(
        &mut self,
        prefix: Prefix,
        entry: &mut Entry,
        batch: &mut Batch,
        now: Instant,
    ) {
        let Some(mut pending) = entry.installed.pending.take() else { return };
        let Ok((group, made)) = self.groups.acquire(&pending.members, now) else {
            pending.due = now + GRACE;
            self.due.insert((pending.due, prefix));
            entry.installed.pending = Some(pending);
            return;
        };
        if made {
            batch.groups.push(group);
        }
        let old = std::mem::replace(&mut entry.installed.group.0, group);
        if self.groups.release(old) {
            batch.unused.insert(old);
        }
        batch.routes.push((prefix, group));
    }

    pub(super) fn finish(&mut self, batch: Batch, now: Instant) -> Vec<Change> {
        let vrf = self.vrf;
        if batch.routes.is_empty() {
            return Vec::new();
        }
        self.handed = Some(now);
        let mut changes = Vec::with_capacity(batch.groups.len() + batch.routes.len());
        changes.extend(batch.groups.into_iter().map(|group| {
            let members = self.groups.members(group).to_vec();
            Change::Group { vrf, group, members }
        }));
        changes.extend(batch.routes.into_iter().map(|(prefix, group)| {
            let group = (group != GroupIndex::NO_ROUTE).then_some(group);
            Change::Route { vrf, prefix, group }
        }));
        // One that another route of the batch took up again stays.
        for group in batch.unused {
            if self.groups.free(group, now) {
                changes.push(Change::Group { vrf, group, members: Vec::new() });
            }
        }
        changes
    }

    fn due_at(
        &mut self,
        config: &RibConfig,
        cause: Cause,
        lost: bool,
        all_lost: bool,
        now: Instant,
    ) -> Instant {
        let coalesced = self.handed.map_or(now, |handed| now.max(handed + COALESCE));
        if cause == Cause::Local {
            return coalesced;
        }
        let spread =
            if lost { config.convergence.on_withdraw } else { config.convergence.on_announce };
        let delay = draw(&mut self.random, spread);
        let linger =
            if all_lost && cause == Cause::Orderly { config.linger } else { Duration::ZERO };
        coalesced.max(now + delay.max(linger))
    }
}

/// Half of the draws are spread evenly over min to p50, the other half over p50 to max.
fn draw(random: &mut Random, spread: Spread) -> Duration {
    let p50 = spread.p50.min(spread.max);
    if spread.max.is_zero() {
        return Duration::ZERO;
    }
    let (from, to) = match random.below(2) {
        0 => (spread.min.min(p50), p50),
        _ => (p50, spread.max),
    };
    let nanos = u64::try_from(to.saturating_sub(from).as_nanos()).unwrap_or(u64::MAX);
    from + Duration::from_nanos(random.below(nanos.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_draws_are_below_the_median_and_none_above_the_most() {
        let spread = Spread {
            min: Duration::ZERO,
            p50: Duration::from_secs(3),
            max: Duration::from_mins(1),
        };
        let mut random = Random::new(1, "convergence");
        let draws: Vec<_> = (0..10_000).map(|_| draw(&mut random, spread)).collect();
        let below = draws.iter().filter(|&&each| each <= spread.p50).count();
        assert!((4_800..5_200).contains(&below), "{below}");
        assert!(draws.iter().all(|&each| each <= spread.max));
        assert!(draws.iter().any(|&each| each > Duration::from_secs(50)));
    }

    #[test]
    fn no_spread_is_no_delay() {
        let none = Spread::default();
        assert_eq!(draw(&mut Random::new(1, "convergence"), none), Duration::ZERO);
    }
}

//! The table of one VRF: the writer's side with routes, members and who is alive, and the readers'
//! side with one immutable [`View`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::fib::publish::{Guard, Published};
use crate::fib::{
    AdjacencyIndex, Group, GroupMember, IntervalTree, IntervalTree4, IntervalTree6, Key,
};
use crate::model::{GroupIndex, Prefix};

/// What [`Fib::publish`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Outcome {
    /// Nothing had changed.
    Unchanged,
    /// Readers see all changes.
    Applied,
    /// A family needs more than [`MAX_INTERVALS`](crate::fib::MAX_INTERVALS). Readers see what
    /// they saw before; the changes stay, and the next publication tries again.
    LimitReached,
}

/// The writer of one VRF's table; the only one. Changes of routes and members wait for
/// [`publish`](Self::publish); the loss of an adjacency does not.
pub struct Fib {
    shared: Arc<Published<Tables>>,
    routes4: Routes<u32>,
    routes6: Routes<u128>,
    /// Members as published, by group.
    members: Vec<Vec<GroupMember>>,
    /// Members that wait for publication.
    staged: BTreeMap<GroupIndex, Vec<GroupMember>>,
    dead: BTreeSet<AdjacencyIndex>,
}

impl Fib {
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Published::new(Tables::empty())),
            routes4: Routes::default(),
            routes6: Routes::default(),
            members: Vec::new(),
            staged: BTreeMap::new(),
            dead: BTreeSet::new(),
        }
    }

    /// Where `prefix` leads; `None` takes the route away. Seen after publication.
    pub fn set_route(&mut self, prefix: Prefix, group: Option<GroupIndex>) {
        match prefix {
            IpNet::V4(prefix) => {
                self.routes4.set(prefix.network().to_bits(), prefix.prefix_len(), group);
            }
            IpNet::V6(prefix) => {
                self.routes6.set(prefix.network().to_bits(), prefix.prefix_len(), group);
            }
        }
    }

    /// What a group consists of, at most [`Member::MAX`](crate::model::Member::MAX) next hops;
    /// empty frees the index, which may be used again at once. Seen after publication, together
    /// with the routes.
    pub fn set_group(&mut self, group: GroupIndex, members: Vec<GroupMember>) {
        self.staged.insert(group, members);
    }

    /// Whether packets may leave by an adjacency; each is alive until told otherwise. Seen at
    /// once: the groups it is a member of are rewritten and swapped in, whatever the number of
    /// routes. Returns how many groups those were; none when nothing changed.
    pub fn set_alive(&mut self, adjacency: AdjacencyIndex, alive: bool) -> usize {
        let changed =
            if alive { self.dead.remove(&adjacency) } else { self.dead.insert(adjacency) };
        if !changed {
            return 0;
        }
        let affected: Vec<usize> = (0..self.members.len())
            .filter(|&group| self.members[group].iter().any(|(member, _)| *member == adjacency))
            .collect();
        if !affected.is_empty() {
            let tables = self.current();
            let groups = self.rewritten(&tables.groups, affected.iter().copied());
            self.shared.replace(Tables::new(tables.tree4, tables.tree6, groups));
        }
        affected.len()
    }

    /// Makes all changes visible by one store. Rebuilds the tree of a family whose routes changed.
    pub fn publish(&mut self) -> Outcome {
        if !self.routes4.changed && !self.routes6.changed && self.staged.is_empty() {
            return Outcome::Unchanged;
        }
        let tables = self.current();
        let (Some(tree4), Some(tree6)) =
            (self.routes4.tree(&tables.tree4), self.routes6.tree(&tables.tree6))
        else {
            return Outcome::LimitReached;
        };
        let groups = self.publish_groups(tables.groups);
        self.shared.replace(Tables::new(tree4, tree6, groups));
        self.routes4.changed = false;
        self.routes6.changed = false;
        Outcome::Applied
    }

    /// All routes, IPv4 first, by address and then by length; those that wait for publication
    /// included.
    pub fn routes(&self) -> impl Iterator<Item = (Prefix, GroupIndex)> + '_ {
        let v4 = self.routes4.sorted().map(|(first, len, group)| {
            let prefix = Ipv4Net::new(Ipv4Addr::from_bits(first), len);
            (IpNet::V4(prefix.expect("the length of an IPv4 prefix")), group)
        });
        let v6 = self.routes6.sorted().map(|(first, len, group)| {
            let prefix = Ipv6Net::new(Ipv6Addr::from_bits(first), len);
            (IpNet::V6(prefix.expect("the length of an IPv6 prefix")), group)
        });
        v4.chain(v6)
    }

    /// Another handle for readers; each worker has its own.
    pub fn reader(&self) -> Reader {
        Reader(self.shared.clone())
    }

    /// What readers see.
    pub fn view<'v>(&'v self, guard: &'v Guard) -> View<'v> {
        View(self.shared.load(guard))
    }

    fn current(&self) -> Tables {
        self.shared.load(&crate::fib::pin()).clone()
    }

    fn publish_groups(&mut self, groups: Arc<[Group]>) -> Arc<[Group]> {
        if self.staged.is_empty() {
            return groups;
        }
        let staged = std::mem::take(&mut self.staged);
        let changed: Vec<usize> = staged.keys().map(|group| group.index()).collect();
        for (group, members) in staged {
            if self.members.len() <= group.index() {
                self.members.resize(group.index() + 1, Vec::new());
            }
            self.members[group.index()] = members;
        }
        self.rewritten(&groups, changed.into_iter())
    }

    /// `groups` with the buckets of those in `changed` assigned afresh.
    fn rewritten(&self, groups: &[Group], changed: impl Iterator<Item = usize>) -> Arc<[Group]> {
        let mut groups = groups.to_vec();
        groups.resize(self.members.len(), Group::EMPTY);
        for group in changed {
            let alive = |adjacency| !self.dead.contains(&adjacency);
            groups[group] = Group::assign(&self.members[group], alive);
        }
        groups.into()
    }
}

impl Default for Fib {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Fib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fib")
            .field("routes4", &self.routes4.by_prefix.len())
            .field("routes6", &self.routes6.by_prefix.len())
            .field("groups", &self.members.len())
            .field("dead", &self.dead)
            .finish_non_exhaustive()
    }
}

/// A handle by which a worker reads the table, from any thread.
#[derive(Clone)]
pub struct Reader(Arc<Published<Tables>>);

impl Reader {
    /// The table of this moment, for one batch.
    pub fn view<'v>(&'v self, guard: &'v Guard) -> View<'v> {
        View(self.0.load(guard))
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

/// One state of the table: routes and groups that belong together.
#[derive(Clone, Copy, Debug)]
pub struct View<'v>(&'v Tables);

impl<'v> View<'v> {
    /// The group that each address leads to, [`GroupIndex::NO_ROUTE`] for none. The slices are
    /// equally long.
    pub fn lookup4(self, addresses: &[u32], groups: &mut [GroupIndex]) {
        self.0.tree4.lookup_batch(addresses, groups);
    }

    /// As [`lookup4`](Self::lookup4).
    pub fn lookup6(self, addresses: &[u128], groups: &mut [GroupIndex]) {
        self.0.tree6.lookup_batch(addresses, groups);
    }

    /// One address, where there is no batch.
    pub fn lookup(self, address: IpAddr) -> GroupIndex {
        match address {
            IpAddr::V4(v4) => self.0.tree4.lookup(v4.to_bits()),
            IpAddr::V6(v6) => self.0.tree6.lookup(v6.to_bits()),
        }
    }

    /// For a batch of packets of many VRFs:
    /// [`IntervalTree::lookup_mixed`](crate::fib::IntervalTree::lookup_mixed) takes one an address.
    pub fn tree4(self) -> &'v IntervalTree4 {
        &self.0.tree4
    }

    /// As [`tree4`](Self::tree4).
    pub fn tree6(self) -> &'v IntervalTree6 {
        &self.0.tree6
    }

    /// Where every flow of a group leaves, when all of them leave by one: then no hash is needed.
    #[inline]
    pub fn only(self, group: GroupIndex) -> Option<AdjacencyIndex> {
        *self.0.only.get(group.index())?
    }

    /// Where a flow leaves. `None` when no member of the group is alive, and for
    /// [`GroupIndex::NO_ROUTE`].
    #[inline]
    pub fn bucket(self, group: GroupIndex, hash: u32) -> Option<AdjacencyIndex> {
        self.0.groups.get(group.index())?.bucket(hash)
    }
}

/// What one store swaps.
#[derive(Clone, Debug)]
struct Tables {
    tree4: IntervalTree4,
    tree6: IntervalTree6,
    groups: Arc<[Group]>,
    /// Of each group its [`Group::only`]: it saves nearly every packet the flow's hash.
    only: Arc<[Option<AdjacencyIndex>]>,
}

impl Tables {
    fn new(tree4: IntervalTree4, tree6: IntervalTree6, groups: Arc<[Group]>) -> Self {
        let only = groups.iter().map(Group::only).collect();
        Self { tree4, tree6, groups, only }
    }

    fn empty() -> Self {
        Self::new(IntervalTree::empty(), IntervalTree::empty(), Arc::new([]))
    }
}

/// The routes of one family, by first address and length.
#[derive(Debug)]
struct Routes<K> {
    by_prefix: BTreeMap<(K, u8), GroupIndex>,
    /// Since the last publication.
    changed: bool,
}

impl<K: Key> Routes<K> {
    fn set(&mut self, first: K, len: u8, group: Option<GroupIndex>) {
        let before = match group {
            Some(group) => self.by_prefix.insert((first, len), group),
            None => self.by_prefix.remove(&(first, len)),
        };
        self.changed |= before != group;
    }

    fn sorted(&self) -> impl Iterator<Item = (K, u8, GroupIndex)> + '_ {
        self.by_prefix.iter().map(|((first, len), group)| (*first, *len, *group))
    }

    /// The tree of these routes, or `current` when it is that.
    fn tree<const INNER: usize, const KEYS: usize, const GROUPS: usize>(
        &self,
        current: &IntervalTree<K, INNER, KEYS, GROUPS>,
    ) -> Option<IntervalTree<K, INNER, KEYS, GROUPS>> {
        if self.changed { IntervalTree::build(self.sorted()) } else { Some(current.clone()) }
    }
}

impl<K> Default for Routes<K> {
    fn default() -> Self {
        Self { by_prefix: BTreeMap::new(), changed: false }
    }
}

#[cfg(test)]
mod tests;

//! What each neighbour hears: the adj-RIB-out.
//!
//! A session keeps the prefixes it has to look at again; nothing is computed before the session
//! asks. What it was told is kept with the prefix, so an export that comes out the same is silent.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::control::policy::{self, Refusal, Route, Source};
use crate::control::rib::entry::{Entry, Path};
use crate::control::rib::{Neighbor, PeerIndex, Prefixes, Rib, walk};
use crate::control::route::{AsPath, Attributes, Origin, Update};
use crate::model::Prefix;

/// Most prefixes in one [`Update`]; the session cuts it into messages.
pub const MAX_PREFIXES: usize = 1000;

/// What is on its way to one neighbour.
#[derive(Default, Debug)]
pub(super) struct Outbox {
    pub(super) dirty: Prefixes,
    /// Announcements that wait for the FIB.
    held: Prefixes,
    /// Filled only when empty, from `dirty`.
    ready: VecDeque<Update>,
    owes_end_of_rib: bool,
}

/// A path that a neighbour was told.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) to: PeerIndex,
    pub(super) id: u32,
    pub(super) attributes: Arc<Attributes>,
    /// To be told again whatever it is.
    pub(super) stale: bool,
}

impl Outbox {
    /// A session comes up.
    pub(super) fn begin(&mut self) {
        *self = Self { owes_end_of_rib: true, ..Self::default() };
    }

    /// The FIB has `prefix`.
    pub(super) fn release(&mut self, prefix: Prefix) {
        if self.held.remove(&prefix) {
            self.dirty.insert(prefix);
        }
    }
}

impl Rib {
    /// The next UPDATE for a neighbour; `None` when it knows all there is to know. Withdrawals go
    /// first. An announcement stays back until [`Rib::poll_changes`] has handed out its route.
    pub fn poll_export(&mut self, index: PeerIndex) -> Option<Update> {
        let out = &self.peers.get(&index)?.out;
        if out.ready.is_empty() && !out.dirty.is_empty() {
            self.fill(index);
        }
        let out = &mut self.peers.get_mut(&index)?.out;
        out.ready.pop_front().or_else(|| {
            let done = out.owes_end_of_rib && out.held.is_empty();
            out.owes_end_of_rib &= !done;
            done.then(|| Update { end_of_rib: true, ..Update::default() })
        })
    }

    /// What `entry` means for a neighbour of its family: its paths with their identifiers and
    /// whom they are from, or why none.
    pub(super) fn exports(
        &self,
        neighbor: &Neighbor,
        index: PeerIndex,
        prefix: Prefix,
        entry: &Entry,
        cache: &mut Cache,
    ) -> Vec<(u32, PeerIndex, Result<Arc<Attributes>, Refusal>)> {
        if prefix.addr().is_ipv4() != neighbor.peer.is_ipv4() {
            return Vec::new();
        }
        if entry.own {
            let exported = cache.own.get_or_insert_with(|| self.export_own(neighbor)).clone();
            return vec![(0, index, exported)];
        }
        let several = neighbor.peer.add_path;
        let told = if several { entry.chosen() } else { entry.chosen().get(..1).unwrap_or(&[]) };
        let one = |path: &Path| {
            // The identifier stays with the neighbour that the path is from; 0 is an own network.
            let id = if several { u32::from(path.peer.0) + 1 } else { 0 };
            let key = (path.peer, Arc::as_ptr(&path.learned) as usize);
            let exported = || self.export_path(neighbor, index, path);
            (id, path.peer, cache.learned.entry(key).or_insert_with(exported).clone())
        };
        told.iter().map(one).collect()
    }

    /// Turns the prefixes to look at into updates.
    fn fill(&mut self, index: PeerIndex) {
        let Some(neighbor) = self.peers.get_mut(&index) else { return };
        let dirty: Vec<_> = std::mem::take(&mut neighbor.out.dirty).into_iter().collect();
        let mut held = std::mem::take(&mut neighbor.out.held);
        held.retain(|prefix| dirty.binary_search(prefix).is_err());
        let mut table = std::mem::take(&mut self.table);
        let neighbor = &self.peers[&index];
        let mut cache = Cache::default();
        let mut packer = Packer::default();
        walk(&mut table, &dirty, |prefix, entry| {
            let wanted = self.exports(neighbor, index, prefix, entry, &mut cache);
            let wanted = wanted.into_iter().filter_map(|(id, _, each)| Some((id, each.ok()?)));
            if !tell(index, prefix, entry, wanted.collect(), &mut packer) {
                held.insert(prefix);
            }
        });
        self.table = table;
        if let Some(neighbor) = self.peers.get_mut(&index) {
            neighbor.out.held = held;
            neighbor.out.ready = packer.finish();
        }
    }

    fn export_own(&self, neighbor: &Neighbor) -> Result<Arc<Attributes>, Refusal> {
        let attributes = Attributes {
            origin: Origin::Igp,
            as_path: AsPath::default(),
            next_hop: neighbor.peer.local,
            med: None,
            local_preference: None,
            communities: Vec::new(),
            large_communities: Vec::new(),
        };
        let route = Route { attributes, weight: 0, source: Source::Own };
        policy::export(&neighbor.session(self.maintenance), route).map(Arc::new)
    }

    fn export_path(
        &self,
        neighbor: &Neighbor,
        index: PeerIndex,
        path: &Path,
    ) -> Result<Arc<Attributes>, Refusal> {
        let usable = path.usable().expect("only usable paths are chosen");
        let kind = self.peers[&path.peer].peer.kind;
        let route = Route {
            attributes: Attributes::clone(&usable.attributes),
            weight: usable.weight,
            source: Source::Learned { kind, back: path.peer == index },
        };
        policy::export(&neighbor.session(self.maintenance), route).map(Arc::new)
    }
}

/// Brings what `index` was told of `prefix` to `wanted`; false when an announcement has to wait.
fn tell(
    index: PeerIndex,
    prefix: Prefix,
    entry: &mut Entry,
    wanted: Vec<(u32, Arc<Attributes>)>,
    packer: &mut Packer,
) -> bool {
    entry.sent.retain(|sent| {
        let keep = sent.to != index || wanted.iter().any(|(id, _)| *id == sent.id);
        if !keep {
            packer.withdraw(sent.id, prefix);
        }
        keep
    });
    let mut complete = true;
    for (id, attributes) in wanted {
        let known = entry.sent.iter_mut().find(|sent| sent.to == index && sent.id == id);
        if known.as_ref().is_some_and(|sent| !sent.stale && sent.attributes == attributes) {
            continue;
        }
        if entry.installed.is_behind() {
            complete = false;
            continue;
        }
        packer.announce(id, attributes.clone(), prefix);
        match known {
            Some(sent) => (sent.attributes, sent.stale) = (attributes, false),
            None => entry.sent.push(Sent { to: index, id, attributes, stale: false }),
        }
    }
    complete
}

/// What the policy made of attributes, while they cannot go away: one computation for all the
/// prefixes of an update.
#[derive(Default)]
pub(super) struct Cache {
    own: Option<Result<Arc<Attributes>, Refusal>>,
    learned: BTreeMap<(PeerIndex, usize), Result<Arc<Attributes>, Refusal>>,
}

/// Collects prefixes of equal attributes.
#[derive(Default)]
struct Packer {
    withdrawn: BTreeMap<u32, Vec<Prefix>>,
    announced: BTreeMap<(u32, Arc<Attributes>), Vec<Prefix>>,
}

impl Packer {
    fn withdraw(&mut self, id: u32, prefix: Prefix) {
        self.withdrawn.entry(id).or_default().push(prefix);
    }

    fn announce(&mut self, id: u32, attributes: Arc<Attributes>, prefix: Prefix) {
        self.announced.entry((id, attributes)).or_default().push(prefix);
    }

    fn finish(self) -> VecDeque<Update> {
        let mut updates = VecDeque::new();
        for (path_id, prefixes) in self.withdrawn {
            updates.extend(prefixes.chunks(MAX_PREFIXES).map(|some| Update {
                withdrawn: some.to_vec(),
                path_id,
                ..Update::default()
            }));
        }
        for ((path_id, attributes), prefixes) in self.announced {
            updates.extend(prefixes.chunks(MAX_PREFIXES).map(|some| Update {
                announced: some.to_vec(),
                attributes: Some(attributes.clone()),
                path_id,
                ..Update::default()
            }));
        }
        updates
    }
}

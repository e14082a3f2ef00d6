//! The routes of one VRF: what its neighbours announce, which of it is used, what forwarding is
//! told, and what each neighbour hears.
//!
//! ```text
//! update ──► adj-RIB-in ──► import policy ──► decision ──► loc-RIB ──┬──► poll_changes (FIB)
//!            (Path)         (policy)          (Entry)                └──► poll_export (adj-RIB-out)
//! ```
//!
//! Pure: the caller brings updates and the time, drains [`Rib::poll_changes`], applies them, then
//! drains [`Rib::poll_export`] of every session that has room. In that order a route is in the
//! FIB before a neighbour hears of it, and a withdrawal is out before the FIB loses the route.
//! Sessions, their timers and the bytes of an UPDATE are `control::bgp`'s.

mod entry;
mod export;
mod fib;
mod groups;
mod snapshot;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use crate::control::policy;
use crate::control::route::{Attributes, Update};
use crate::model::{
    Asn, AttachmentIndex, Change, ConvergenceDelay, ExportPolicy, GroupIndex, ImportPolicy,
    Instant, Member, NeighborKind, Prefix, VrfIndex,
};

pub use entry::Unusable;
pub use snapshot::{AdjInRow, ExportRow, LocRow, LocalRoute, PathRow, RefusedRow};

use entry::{Entry, Learned, Path, Rank, Usable};
use export::Outbox;
use fib::{Cause, Fib};

/// What a VRF decides by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RibConfig {
    /// Whose changes these are.
    pub vrf: VrfIndex,
    pub asn: Asn,
    pub router_id: Ipv4Addr,
    /// Most next hops of one route; at most [`Member::MAX`] are used, 1 switches ECMP off.
    pub max_paths: u8,
    pub convergence: ConvergenceDelay,
    /// How long the FIB keeps a route that was lost in order and has no replacement.
    pub linger: Duration,
}

impl RibConfig {
    pub const LINGER: Duration = Duration::from_secs(1);

    fn paths(&self) -> usize {
        usize::from(self.max_paths).clamp(1, Member::MAX)
    }
}

/// A neighbour of a VRF, by its place in the VRF.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PeerIndex(pub u16);

/// One side of one session: one neighbour, one address family.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    pub name: String,
    pub kind: NeighborKind,
    pub attachment: AttachmentIndex,
    pub local: IpAddr,
    pub peer: IpAddr,
    pub local_asn: Asn,
    pub peer_asn: Asn,
    /// Of the next hop that is the neighbour itself.
    pub ordinal: u8,
    pub import: ImportPolicy,
    pub export: ExportPolicy,
    /// Whether the session carries several paths of a prefix, both ways (RFC 7911). Without it a
    /// gateway tells a VNet one of its MSEEs only.
    pub add_path: bool,
}

impl Peer {
    /// The family of the session, and of all it carries.
    fn is_ipv4(&self) -> bool {
        self.peer.is_ipv4()
    }
}

/// How a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// Shutdown, drain, Cease: the neighbour still forwards, so the FIB may linger.
    Orderly,
    /// BFD, carrier, hold timer: it does not.
    Failed,
}

/// Most paths of one prefix that one ADD-PATH neighbour may have; those beyond are not kept.
pub const MAX_PATHS_PER_PEER: usize = Member::MAX;

/// The routing information base of a VRF, both address families.
#[derive(Debug)]
pub struct Rib {
    config: RibConfig,
    now: Instant,
    peers: BTreeMap<PeerIndex, Neighbor>,
    table: BTreeMap<Prefix, Entry>,
    fib: Fib,
    /// Extra own ASNs towards customers and gateways (L-49).
    maintenance: u8,
}

#[derive(Debug)]
struct Neighbor {
    peer: Peer,
    /// Whether the session is up.
    up: bool,
    /// Its BGP identifier while its routes count: while the session is up, and while they are kept
    /// for it.
    router_id: Option<Ipv4Addr>,
    /// Counts the sessions; a path has that of the session it was last announced in.
    life: u32,
    /// Prefixes that it announces, used or not.
    received: u64,
    out: Outbox,
}

impl Rib {
    /// `seed` gives the convergence delays.
    pub fn new(config: RibConfig, seed: u64) -> Self {
        let fib = Fib::new(config.vrf, seed);
        let (peers, table) = (BTreeMap::new(), BTreeMap::new());
        Self { config, now: Instant::ZERO, peers, table, fib, maintenance: 0 }
    }

    /// Uses none of these groups, which forwarding has from an earlier life of control. Said before
    /// anything else.
    pub fn keep_groups(&mut self, kept: BTreeSet<GroupIndex>) {
        self.fib.keep_groups(kept);
    }

    /// Forwarding has forgotten the groups that were kept.
    pub fn release_kept_groups(&mut self, now: Instant) {
        self.advance(now);
        self.fib.release_kept(self.now);
    }

    /// Makes a neighbour known; its routes count from [`Rib::established`] on. A neighbour that
    /// had this index is removed first.
    pub fn add_peer(&mut self, index: PeerIndex, peer: Peer, now: Instant) {
        self.remove_peer(index, now);
        let out = Outbox::default();
        let neighbor = Neighbor { peer, up: false, router_id: None, life: 0, received: 0, out };
        self.peers.insert(index, neighbor);
    }

    pub fn remove_peer(&mut self, index: PeerIndex, now: Instant) {
        self.closed(index, Loss::Orderly, now);
        self.peers.remove(&index);
    }

    /// Puts all routes from and to a neighbour through changed policies; the session stays up.
    pub fn set_policy(
        &mut self,
        index: PeerIndex,
        import: ImportPolicy,
        export: ExportPolicy,
        now: Instant,
    ) {
        self.advance(now);
        let Some(neighbor) = self.peers.get_mut(&index) else { return };
        (neighbor.peer.import, neighbor.peer.export) = (import, export);
        self.import_again(Some(index), Cause::Orderly);
        self.export_again(|at, _| at == index);
    }

    /// Announces `prefix` as an own network, or stops. It needs no way in the FIB, and gives none:
    /// that is what connected and static routes are for.
    pub fn originate(&mut self, prefix: Prefix, present: bool, now: Instant) {
        self.change(prefix, now, |entry| entry.own = present);
    }

    /// Static routes of one prefix and different next hops share the flows.
    pub fn set_static(
        &mut self,
        prefix: Prefix,
        attachment: AttachmentIndex,
        next_hop: IpAddr,
        ordinal: u8,
        present: bool,
        now: Instant,
    ) {
        let member = Member { attachment, next_hop: Some(next_hop), ordinal };
        self.change(prefix, now, |entry| entry.set_static(member, present));
    }

    /// A block that is on the link of `attachment`: wins over everything learned for the same
    /// prefix, and the next hops inside it can be reached there, as number `ordinal` of the VRF.
    pub fn set_connected(
        &mut self,
        prefix: Prefix,
        attachment: AttachmentIndex,
        ordinal: u8,
        present: bool,
        now: Instant,
    ) {
        self.change(prefix, now, |entry| entry.set_connected(attachment, ordinal, present));
        self.import_again(None, Cause::Local);
    }

    /// A neighbour on the link that has a MAC. In the FIB only: never exported, and no next hop is
    /// resolved by it.
    pub fn set_host_route(
        &mut self,
        address: IpAddr,
        attachment: AttachmentIndex,
        present: bool,
        now: Instant,
    ) {
        self.change(Prefix::from(address), now, |entry| match present {
            true => entry.host = Some(attachment),
            false if entry.host == Some(attachment) => entry.host = None,
            false => {}
        });
    }

    /// Puts `prepends` extra own ASNs in front of all that goes to customers and gateways, so
    /// that both directions leave this router before anything is closed (section 15).
    pub fn set_maintenance(&mut self, prepends: Option<u8>, now: Instant) {
        self.advance(now);
        self.maintenance = prepends.unwrap_or(0);
        self.export_again(|_, _| true);
    }

    /// The session is up, with several paths of a prefix or one: its neighbour gets all routes,
    /// then End-of-RIB. Routes that were kept for it stay until [`Rib::forget_stale`].
    pub fn established(
        &mut self,
        index: PeerIndex,
        router_id: Ipv4Addr,
        add_path: bool,
        now: Instant,
    ) {
        let Some(neighbor) = self.peers.get(&index) else { return };
        if neighbor.up || neighbor.peer.add_path != add_path {
            self.closed(index, Loss::Orderly, now);
        }
        let Some(neighbor) = self.peers.get_mut(&index) else { return };
        neighbor.up = true;
        neighbor.router_id = Some(router_id);
        neighbor.peer.add_path = add_path;
        neighbor.life = neighbor.life.wrapping_add(1);
        neighbor.out.begin();
        self.export_again(|at, _| at == index);
    }

    /// What the neighbour announces and withdraws. Ignored unless the session is up, and what is
    /// not of its family is.
    pub fn update(&mut self, index: PeerIndex, update: &Update, now: Instant) {
        self.advance(now);
        let Some(neighbor) = self.peers.get(&index).filter(|each| each.up) else { return };
        let id = if neighbor.peer.add_path { update.path_id } else { 0 };
        let (v4, life) = (neighbor.peer.is_ipv4(), neighbor.life);
        for prefix in &update.withdrawn {
            self.change_learned(index, prefix.trunc(), |entry, paths| {
                entry.forget(index, id, paths)
            });
        }
        let Some(attributes) = &update.attributes else { return };
        let learned = Arc::new(self.learn(index, attributes));
        for prefix in update.announced.iter().filter(|prefix| prefix.addr().is_ipv4() == v4) {
            let path = Path { peer: index, id, life, learned: learned.clone() };
            self.change_learned(index, prefix.trunc(), |entry, paths| entry.learn(path, paths));
        }
    }

    /// The session is down: everything from the neighbour is forgotten, in one step.
    pub fn closed(&mut self, index: PeerIndex, loss: Loss, now: Instant) {
        self.advance(now);
        let Some(neighbor) = self.peers.get_mut(&index) else { return };
        if neighbor.router_id.take().is_none() {
            return;
        }
        neighbor.up = false;
        neighbor.out = Outbox::default();
        neighbor.received = 0;
        self.forget(loss, |entry, paths| {
            entry.sent.retain(|sent| sent.to != index);
            entry.forget_peer(index, paths)
        });
    }

    /// The session is down and its neighbour is to come back: what it announced stays in use, as
    /// stale, until [`Rib::forget_stale`] or [`Rib::closed`].
    pub fn kept(&mut self, index: PeerIndex, now: Instant) {
        self.advance(now);
        let Some(neighbor) = self.peers.get_mut(&index) else { return };
        neighbor.up = false;
        neighbor.out = Outbox::default();
        self.table.retain(|_, entry| {
            entry.sent.retain(|sent| sent.to != index);
            !entry.is_empty()
        });
    }

    /// Forgets what the neighbour has not announced again since its session is up.
    pub fn forget_stale(&mut self, index: PeerIndex, now: Instant) {
        self.advance(now);
        let Some(life) = self.peers.get(&index).map(|neighbor| neighbor.life) else { return };
        self.forget(Loss::Orderly, |entry, paths| entry.forget_stale(index, life, paths));
        let received = self.table.values().filter(|entry| entry.is_from(index)).count();
        if let Some(neighbor) = self.peers.get_mut(&index) {
            neighbor.received = received as u64;
        }
    }

    /// Lets `from` take paths out of every entry; it says whether it did.
    fn forget(&mut self, loss: Loss, from: impl Fn(&mut Entry, usize) -> bool) {
        let cause = match loss {
            Loss::Orderly => Cause::Orderly,
            Loss::Failed => Cause::Failed,
        };
        let paths = self.config.paths();
        let mut changed = Vec::new();
        for (&prefix, entry) in &mut self.table {
            if from(entry, paths) {
                self.fib.settle(&self.config, prefix, entry, cause, self.now);
                changed.push(prefix);
            }
        }
        self.table.retain(|_, entry| !entry.is_empty());
        mark_all(&mut self.peers, &changed);
    }

    /// Sends the neighbour all routes once more (RFC 2918).
    pub fn refresh(&mut self, index: PeerIndex) {
        for entry in self.table.values_mut() {
            entry
                .sent
                .iter_mut()
                .filter(|sent| sent.to == index)
                .for_each(|sent| sent.stale = true);
        }
        self.export_again(|at, _| at == index);
    }

    /// Lets what is due by `now` out of [`Rib::poll_changes`].
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
    }

    /// When [`Rib::handle_timeout`] must next be called; not later than `now` as long as
    /// [`Rib::poll_changes`] has something.
    pub fn poll_timeout(&self) -> Instant {
        self.fib.next_due()
    }

    /// What forwarding must do, in this order: groups come before the routes that use them and go
    /// after the last that did. Bursts come together, at most [`fib::COALESCE`] after the first.
    pub fn poll_changes(&mut self) -> Vec<Change> {
        let mut batch = fib::Batch::default();
        let due = self.fib.take_due(self.now);
        walk(&mut self.table, &due, |prefix, entry| {
            self.fib.install(prefix, entry, &mut batch, self.now);
            self.peers.values_mut().for_each(|neighbor| neighbor.out.release(prefix));
        });
        self.fib.finish(batch, self.now)
    }

    pub fn peer(&self, index: PeerIndex) -> Option<&Peer> {
        self.peers.get(&index).map(|neighbor| &neighbor.peer)
    }

    /// Whether the neighbour's session is up.
    pub fn is_up(&self, index: PeerIndex) -> bool {
        self.peers.get(&index).is_some_and(|neighbor| neighbor.up)
    }

    /// How many prefixes a neighbour announces, before policy.
    pub fn received(&self, index: PeerIndex) -> u64 {
        self.peers.get(&index).map_or(0, |neighbor| neighbor.received)
    }

    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// Changes something of the router's own at `prefix`.
    fn change(&mut self, prefix: Prefix, now: Instant, change: impl FnOnce(&mut Entry)) {
        self.advance(now);
        let prefix = prefix.trunc();
        let entry = self.table.entry(prefix).or_default();
        change(entry);
        entry.choose(self.config.paths());
        self.fib.settle(&self.config, prefix, entry, Cause::Local, self.now);
        mark(&mut self.peers, prefix);
        if entry.is_empty() {
            self.table.remove(&prefix);
        }
    }

    /// Changes what a neighbour announced of `prefix`; `change` says whether it did.
    fn change_learned(
        &mut self,
        from: PeerIndex,
        prefix: Prefix,
        change: impl FnOnce(&mut Entry, usize) -> bool,
    ) {
        let entry = self.table.entry(prefix).or_default();
        let before = entry.is_from(from);
        let changed = change(entry, self.config.paths());
        if let Some(neighbor) = self.peers.get_mut(&from) {
            neighbor.received += u64::from(entry.is_from(from));
            neighbor.received -= u64::from(before);
        }
        if changed {
            self.fib.settle(&self.config, prefix, entry, Cause::Orderly, self.now);
            mark(&mut self.peers, prefix);
        }
        if entry.is_empty() {
            self.table.remove(&prefix);
        }
    }

    /// Judges the paths of one neighbour, or of all, by the policies and links there are.
    fn import_again(&mut self, only: Option<PeerIndex>, cause: Cause) {
        // Paths that came in one update share what was made of them, and still do afterwards.
        let mut judged = BTreeMap::new();
        let mut table = std::mem::take(&mut self.table);
        let links = Links::of(&table);
        let peers = &self.peers;
        let paths = self.config.paths();
        let mut changed = Vec::new();
        for (&prefix, entry) in &mut table {
            let mut again = |path: &Path| {
                let neighbor = peers.get(&path.peer)?;
                only.is_none_or(|only| only == path.peer).then(|| {
                    let key = (path.peer, Arc::as_ptr(&path.learned) as usize);
                    let afresh = || {
                        // The old value stays alive, so that no other can take its address.
                        let old = path.learned.clone();
                        let learned = judge(neighbor, &old.received, &links);
                        (old, Arc::new(learned))
                    };
                    judged.entry(key).or_insert_with(afresh).1.clone()
                })
            };
            if entry.judge_again(&mut again, paths) {
                self.fib.settle(&self.config, prefix, entry, cause, self.now);
                changed.push(prefix);
            }
        }
        self.table = table;
        mark_all(&mut self.peers, &changed);
    }

    /// What the table makes of attributes from a neighbour that is up.
    fn learn(&self, index: PeerIndex, attributes: &Arc<Attributes>) -> Learned {
        judge(&self.peers[&index], attributes, &Links::Table(&self.table))
    }

    fn export_again(&mut self, concerned: impl Fn(PeerIndex, &Peer) -> bool) {
        for (&index, neighbor) in &mut self.peers {
            if neighbor.up && concerned(index, &neighbor.peer) {
                neighbor.out.dirty = self.table.keys().copied().collect();
            }
        }
    }
}

/// Has every session look at `prefix` again.
fn mark(peers: &mut BTreeMap<PeerIndex, Neighbor>, prefix: Prefix) {
    for neighbor in peers.values_mut().filter(|each| each.up) {
        neighbor.out.dirty.insert(prefix);
    }
}

/// [`mark`] for many prefixes, which are in order.
fn mark_all(peers: &mut BTreeMap<PeerIndex, Neighbor>, prefixes: &[Prefix]) {
    for neighbor in peers.values_mut().filter(|each| each.up) {
        neighbor.out.dirty.append(&mut prefixes.iter().copied().collect());
    }
}

/// Calls `visit` for the entries of `prefixes`, which are in order, and drops those that are empty
/// afterwards. Many are met by going through the table once: a look for each of 10,000 costs more
/// than all that is done with them.
fn walk(
    table: &mut BTreeMap<Prefix, Entry>,
    prefixes: &[Prefix],
    mut visit: impl FnMut(Prefix, &mut Entry),
) {
    const MANY: usize = 16;
    if prefixes.len() < table.len() / MANY {
        for prefix in prefixes {
            let Some(entry) = table.get_mut(prefix) else { continue };
            visit(*prefix, entry);
            if entry.is_empty() {
                table.remove(prefix);
            }
        }
        return;
    }
    let mut wanted = prefixes.iter().peekable();
    table.retain(|prefix, entry| {
        while wanted.next_if(|each| *each < prefix).is_some() {}
        if wanted.next_if_eq(&prefix).is_some() {
            visit(*prefix, entry);
        }
        !entry.is_empty()
    });
}

impl Neighbor {
    fn session(&self, maintenance: u8) -> policy::Session<'_> {
        let Peer { kind, local, local_asn, import, export, .. } = &self.peer;
        policy::Session {
            kind: *kind,
            local: *local,
            local_asn: *local_asn,
            import,
            export,
            maintenance,
        }
    }
}

/// Import policy, then the next hop.
fn judge(neighbor: &Neighbor, received: &Arc<Attributes>, links: &Links) -> Learned {
    let verdict = policy::import(&neighbor.session(0), received)
        .map_err(Unusable::Refused)
        .and_then(|route| {
            let way = way(&neighbor.peer, route.attributes.next_hop, links)?;
            let rank = Rank::of(&route, &neighbor.peer, neighbor.router_id);
            Ok(Usable { way, rank, attributes: Arc::new(route.attributes), weight: route.weight })
        });
    Learned { received: received.clone(), verdict }
}

/// Where packets for `next_hop` leave: the neighbour itself where its session is, anyone else
/// where the longest connected block holds the address.
fn way(peer: &Peer, next_hop: IpAddr, links: &Links) -> Result<Member, Unusable> {
    if next_hop == peer.peer {
        let Peer { attachment, ordinal, .. } = *peer;
        return Ok(Member { attachment, next_hop: Some(next_hop), ordinal });
    }
    if next_hop == peer.local {
        return Err(Unusable::NextHopIsSelf(next_hop));
    }
    let (attachment, ordinal) = links.find(next_hop).ok_or(Unusable::NextHop(next_hop))?;
    Ok(Member { attachment, next_hop: Some(next_hop), ordinal })
}

/// The connected blocks: looked up in the table, or collected when the table itself is walked.
enum Links<'a> {
    Table(&'a BTreeMap<Prefix, Entry>),
    Collected(BTreeMap<Prefix, (AttachmentIndex, u8)>),
}

impl Links<'_> {
    fn of(table: &BTreeMap<Prefix, Entry>) -> Self {
        let links = table.iter().filter_map(|(&prefix, entry)| Some((prefix, entry.link()?)));
        Self::Collected(links.collect())
    }

    /// The longest block that holds `address`; one look a prefix length.
    fn find(&self, address: IpAddr) -> Option<(AttachmentIndex, u8)> {
        let host = Prefix::from(address);
        (0..=host.prefix_len()).rev().find_map(|length| {
            let block = Prefix::new(address, length).expect("within the family").trunc();
            match self {
                Self::Table(table) => table.get(&block)?.link(),
                Self::Collected(links) => links.get(&block).copied(),
            }
        })
    }
}

/// Prefixes a session has to look at; one of each, so never more than the table has and had.
type Prefixes = BTreeSet<Prefix>;

#[cfg(test)]
mod tests;

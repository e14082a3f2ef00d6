//! All that a VRF knows of one prefix, and the decision among its paths.

use std::cmp::{Ordering, Reverse};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use thiserror::Error;

use crate::control::policy::{DEFAULT_LOCAL_PREFERENCE, Refusal, Route, is_internal};
use crate::control::rib::export::Sent;
use crate::control::rib::fib::Installed;
use crate::control::rib::{MAX_PATHS_PER_PEER, Peer, PeerIndex};
use crate::control::route::{Attributes, Origin};
use crate::model::{AttachmentIndex, Member};

/// Why a path is kept but not used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Unusable {
    #[error("{0}")]
    Refused(Refusal),
    #[error("next hop {0} is on no connected network")]
    NextHop(IpAddr),
    #[error("next hop {0} is this router")]
    NextHopIsSelf(IpAddr),
}

#[derive(Default, Debug)]
pub(super) struct Entry {
    pub(super) own: bool,
    pub(super) host: Option<AttachmentIndex>,
    connected: Vec<(AttachmentIndex, u8)>,
    statics: Vec<Member>,
    /// Best first, those that cannot be used last.
    paths: Vec<Path>,
    /// How many of the first paths are used together.
    chosen: usize,
    pub(super) installed: Installed,
    /// What of it which neighbour was told.
    pub(super) sent: Vec<Sent>,
}

/// One row of an adj-RIB-in.
#[derive(Clone, Debug)]
pub(super) struct Path {
    pub(super) peer: PeerIndex,
    /// RFC 7911; 0 on other sessions.
    pub(super) id: u32,
    /// Which session of the neighbour it is from; one of an earlier session is stale.
    pub(super) life: u32,
    pub(super) learned: Arc<Learned>,
}

/// Attributes as received and what came of them; shared by the prefixes of an update.
#[derive(Debug)]
pub(super) struct Learned {
    pub(super) received: Arc<Attributes>,
    pub(super) verdict: Result<Usable, Unusable>,
}

#[derive(PartialEq, Debug)]
pub(super) struct Usable {
    pub(super) attributes: Arc<Attributes>,
    pub(super) weight: u16,
    pub(super) way: Member,
    pub(super) rank: Rank,
}

/// The decision (7.3; RFC 4271, 9.1.2.2; section 20), the least wins. MED is left out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Rank {
    /// Paths equal in this are used together; their AS paths need only be of one length.
    equal: Merit,
    router_id: Ipv4Addr,
    peer: IpAddr,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Merit {
    weight: Reverse<u16>,
    local_preference: Reverse<u32>,
    path_length: usize,
    origin: Origin,
    internal: bool,
}

impl Rank {
    pub(super) fn of(route: &Route, peer: &Peer, router_id: Option<Ipv4Addr>) -> Self {
        let Attributes { origin, as_path, local_preference, .. } = &route.attributes;
        let equal = Merit {
            weight: Reverse(route.weight),
            local_preference: Reverse(local_preference.unwrap_or(DEFAULT_LOCAL_PREFERENCE)),
            path_length: as_path.length(),
            origin: *origin,
            internal: is_internal(peer.kind),
        };
        Self { equal, router_id: router_id.unwrap_or(Ipv4Addr::BROADCAST), peer: peer.peer }
    }
}

impl Path {
    pub(super) fn usable(&self) -> Option<&Usable> {
        self.learned.verdict.as_ref().ok()
    }

    fn preferred(&self, other: &Self) -> Ordering {
        let of = |path: &Self| {
            let rank = path.usable().map(|usable| usable.rank);
            (rank.is_none(), rank, path.peer, path.id)
        };
        of(self).cmp(&of(other))
    }
}

impl Entry {
    /// Keeps `path` in place of the one it replaces; whether anything changed.
    pub(super) fn learn(&mut self, path: Path, max_paths: usize) -> bool {
        self.paths.retain(|each| (each.peer, each.id) != (path.peer, path.id));
        let of_peer = self.paths.iter().filter(|each| each.peer == path.peer).count();
        if of_peer >= MAX_PATHS_PER_PEER {
            return false;
        }
        let at = self.paths.partition_point(|each| each.preferred(&path).is_lt());
        self.paths.insert(at, path);
        self.choose(max_paths);
        true
    }

    pub(super) fn forget(&mut self, peer: PeerIndex, id: u32, max_paths: usize) -> bool {
        self.retain(|path| (path.peer, path.id) != (peer, id), max_paths)
    }

    pub(super) fn forget_peer(&mut self, peer: PeerIndex, max_paths: usize) -> bool {
        self.retain(|path| path.peer != peer, max_paths)
    }

    /// Forgets what the neighbour has not announced in this life.
    pub(super) fn forget_stale(&mut self, peer: PeerIndex, life: u32, max_paths: usize) -> bool {
        self.retain(|path| path.peer != peer || path.life == life, max_paths)
    }

    /// Replaces what was made of each path by what `again` makes of it, if anything; whether that
    /// differs.
    pub(super) fn judge_again(
        &mut self,
        again: &mut dyn FnMut(&Path) -> Option<Arc<Learned>>,
        max_paths: usize,
    ) -> bool {
        let mut changed = false;
        for path in &mut self.paths {
            if let Some(learned) = again(path) {
                changed |= learned.verdict != path.learned.verdict;
                path.learned = learned;
            }
        }
        if changed {
            self.paths.sort_by(Path::preferred);
            self.choose(max_paths);
        }
        changed
    }

    pub(super) fn set_static(&mut self, member: Member, present: bool) {
        self.statics.retain(|each| *each != member);
        if present {
            self.statics.push(member);
            self.statics.sort_unstable();
        }
    }

    pub(super) fn set_connected(&mut self, link: AttachmentIndex, ordinal: u8, present: bool) {
        self.connected.retain(|&(each, _)| each != link);
        if present {
            self.connected.push((link, ordinal));
            self.connected.sort_unstable();
        }
    }

    /// Counts the paths that are used together: of equal preference, and of at most `max_paths`
    /// different ways out. An own network is used alone.
    pub(super) fn choose(&mut self, max_paths: usize) {
        let best = self.paths.first().and_then(Path::usable).filter(|_| !self.own);
        self.chosen = best.map_or(0, |best| {
            let mut ways = Vec::with_capacity(max_paths);
            let together = self.paths.iter().take_while(|path| {
                let Some(usable) = path.usable() else { return false };
                let known = ways.contains(&usable.way);
                if usable.rank.equal != best.rank.equal || (!known && ways.len() == max_paths) {
                    return false;
                }
                if !known {
                    ways.push(usable.way);
                }
                true
            });
            together.count()
        });
    }

    /// Best first; empty for an own network.
    pub(super) fn chosen(&self) -> &[Path] {
        &self.paths[..self.chosen]
    }

    pub(super) fn paths(&self) -> &[Path] {
        &self.paths
    }

    /// Whether the neighbour announces the prefix.
    pub(super) fn is_from(&self, peer: PeerIndex) -> bool {
        self.paths.iter().any(|path| path.peer == peer)
    }

    /// The link the block is on; of several, that of the lowest index.
    pub(super) fn link(&self) -> Option<(AttachmentIndex, u8)> {
        self.connected.first().copied()
    }

    pub(super) fn is_static(&self) -> bool {
        !self.statics.is_empty()
    }

    /// What forwarding should do: a resolved neighbour stands for itself in the block it is in,
    /// then connected, then static, then learned.
    pub(super) fn members(&self, host: IpAddr, max_paths: usize) -> Vec<Member> {
        if let Some(attachment) = self.host {
            return vec![Member { attachment, next_hop: Some(host), ordinal: 0 }];
        }
        if let Some((attachment, ordinal)) = self.link() {
            return vec![Member { attachment, next_hop: None, ordinal }];
        }
        if self.is_static() {
            return self.statics.iter().copied().take(max_paths).collect();
        }
        let mut members: Vec<_> =
            self.chosen().iter().filter_map(Path::usable).map(|usable| usable.way).collect();
        members.sort_unstable();
        members.dedup();
        members
    }

    /// Whether nothing is left to remember, neither here nor in forwarding nor at a neighbour.
    pub(super) fn is_empty(&self) -> bool {
        let local = self.own || self.host.is_some() || self.link().is_some() || self.is_static();
        !local && self.paths.is_empty() && self.sent.is_empty() && self.installed.is_nothing()
    }

    fn retain(&mut self, keep: impl FnMut(&Path) -> bool, max_paths: usize) -> bool {
        let before = self.paths.len();
        self.paths.retain(keep);
        let changed = self.paths.len() != before;
        if changed {
            self.choose(max_paths);
        }
        changed
    }
}

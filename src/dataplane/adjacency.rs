//! Next hops as packets use them: by which attachment, to which MAC, and whether they are alive.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::fib::AdjacencyIndex;
use crate::model::AttachmentIndex;
use crate::wire::MacAddr;

/// Most next hops of a router; the FIB reserves the last index.
pub const ADJACENCIES_MAX: usize = u16::MAX as usize;

/// A place that members of groups share. It exists as long as a group uses it.
#[derive(Debug)]
pub struct Adjacency {
    pub attachment: AttachmentIndex,
    /// `None`: the destination itself (glean).
    pub next_hop: Option<IpAddr>,
    pub mac: Option<MacAddr>,
    /// Whether BFD has declared the path dead.
    pub failed: bool,
    /// What the FIB knows: carrier is there and BFD has not declared the path dead.
    pub alive: bool,
    /// Members of groups that are this one.
    references: u32,
}

/// The table of all next hops.
#[derive(Debug, Default)]
pub struct Adjacencies {
    slots: Vec<Adjacency>,
    free: Vec<AdjacencyIndex>,
    by_next_hop: BTreeMap<(AttachmentIndex, Option<IpAddr>), AdjacencyIndex>,
}

impl Adjacencies {
    /// Whether `count` more next hops fit.
    pub fn has_room(&self, count: usize) -> bool {
        self.by_next_hop.len() + count <= ADJACENCIES_MAX
    }

    /// One more user of a next hop. The second value is true when it did not exist; its MAC is not
    /// known then and it counts as alive.
    pub fn reference(
        &mut self,
        attachment: AttachmentIndex,
        next_hop: Option<IpAddr>,
    ) -> (AdjacencyIndex, bool) {
        if let Some(&index) = self.by_next_hop.get(&(attachment, next_hop)) {
            self.at_mut(index).references += 1;
            return (index, false);
        }
        let adjacency = Adjacency {
            attachment,
            next_hop,
            mac: None,
            failed: false,
            alive: true,
            references: 1,
        };
        let index = if let Some(index) = self.free.pop() {
            *self.at_mut(index) = adjacency;
            index
        } else {
            self.slots.push(adjacency);
            AdjacencyIndex(self.slots.len() as u16 - 1)
        };
        self.by_next_hop.insert((attachment, next_hop), index);
        (index, true)
    }

    /// One user less. An unused next hop stays until [`sweep`](Self::sweep).
    pub fn release(&mut self, attachment: AttachmentIndex, next_hop: Option<IpAddr>) {
        if let Some(index) = self.find(attachment, next_hop) {
            self.at_mut(index).references -= 1;
        }
    }

    /// Frees what nothing uses, and calls `freed` with each.
    pub fn sweep(&mut self, mut freed: impl FnMut(AdjacencyIndex, &Adjacency)) {
        let Self { slots, free, by_next_hop } = self;
        by_next_hop.retain(|_, &mut index| {
            let adjacency = &slots[index.index()];
            if adjacency.references == 0 {
                freed(index, adjacency);
                free.push(index);
            }
            adjacency.references > 0
        });
    }

    pub fn find(
        &self,
        attachment: AttachmentIndex,
        next_hop: Option<IpAddr>,
    ) -> Option<AdjacencyIndex> {
        self.by_next_hop.get(&(attachment, next_hop)).copied()
    }

    /// The next hops on one attachment.
    pub fn on(&self, attachment: AttachmentIndex) -> impl Iterator<Item = AdjacencyIndex> + '_ {
        let same = move |((on, _), _): &(&(AttachmentIndex, Option<IpAddr>), _)| *on == attachment;
        self.by_next_hop.range((attachment, None)..).take_while(same).map(|(_, index)| *index)
    }

    pub fn at(&self, index: AdjacencyIndex) -> &Adjacency {
        &self.slots[index.index()]
    }

    pub fn at_mut(&mut self, index: AdjacencyIndex) -> &mut Adjacency {
        &mut self.slots[index.index()]
    }
}

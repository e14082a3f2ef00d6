//! How the tables change: one method a kind of change, each refusing what would lead from one VRF
//! into another (F-05), and [`Tables::publish`] once a batch of changes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::dataplane::attachment::{Attachment, Path};
use crate::dataplane::batch::NOBODY;
use crate::dataplane::port::Port;
use crate::dataplane::tables::{Locals, Tables, Vrf};
use crate::fib::{AdjacencyIndex, GroupMember, Outcome};
use crate::model::{
    AttachmentEntry, AttachmentIndex, GroupIndex, InnerService, Member, PortEntry, PortIndex,
    Prefix, VrfIndex,
};
use crate::wire::MacAddr;

/// What waits for publication.
#[derive(Debug, Default)]
pub struct Staged {
    /// Put into their port's demux table when all that leave it are out.
    attachments: BTreeSet<AttachmentIndex>,
    /// VRFs whose local addresses changed.
    locals: BTreeSet<VrfIndex>,
    /// VRFs whose routes or groups changed.
    fibs: BTreeSet<VrfIndex>,
    released: bool,
}

/// Groups of a VRF that lost or regained a next hop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rewritten {
    pub vrf: VrfIndex,
    pub attachment: AttachmentIndex,
    pub next_hop: Option<IpAddr>,
    pub groups: u16,
    pub alive: bool,
}

impl Tables {
    /// A port that is there has carrier until told otherwise.
    pub fn set_port(&mut self, index: PortIndex, entry: &PortEntry) {
        if self.ports.len() <= index.index() {
            self.ports.resize_with(index.index() + 1, || None);
        }
        let Some(port) = &mut self.ports[index.index()] else {
            self.ports[index.index()] = Some(Port::new(entry.clone()));
            return;
        };
        port.entry = entry.clone();
        port.mac = entry.mac;
        for slot in self.attachments.iter_mut().flatten().filter(|slot| slot.port == index) {
            let service = slot.service;
            *slot = Attachment::new((*slot.entry).clone(), entry.mac);
            slot.service = service;
        }
    }

    /// Whether the entry puts an attachment that is there into another VRF. It is removed first:
    /// nothing of it may stay behind in the VRF it leaves (F-05).
    pub fn moves(&self, index: AttachmentIndex, entry: &AttachmentEntry) -> bool {
        let vrf = match entry.service {
            InnerService::Vrf(vrf) => Some(vrf),
            InnerService::CrossConnect(_) => None,
        };
        self.find_attachment(index).is_some_and(|present| present.vrf() != vrf)
    }

    /// An attachment that [moves](Self::moves) is removed before. False when the port does not
    /// exist.
    #[must_use]
    pub fn set_attachment(&mut self, index: AttachmentIndex, entry: &AttachmentEntry) -> bool {
        let Some(port) = self.port(entry.port).filter(|_| index != NOBODY) else {
            return false;
        };
        let attachment = Attachment::new(entry.clone(), port.mac);
        if self.find_attachment(index).is_some_and(|present| *present.entry == *entry) {
            return true;
        }
        debug_assert!(!self.moves(index, entry));
        self.unplug(index);
        if let Some(vrf) = attachment.vrf() {
            self.open_vrf(vrf);
            self.staged.locals.insert(vrf);
        }
        self.staged.attachments.insert(index);
        if self.attachments.len() <= index.index() {
            self.attachments.resize_with(index.index() + 1, || None);
        }
        self.attachments[index.index()] = Some(attachment);
        true
    }

    /// Takes the attachment out of every group and forgets its neighbours.
    pub fn remove_attachment(&mut self, index: AttachmentIndex) {
        let Some(attachment) = self.find_attachment(index) else { return };
        let vrf = attachment.vrf();
        self.unplug(index);
        if let Some(vrf) = vrf {
            self.staged.locals.insert(vrf);
            self.empty_groups(vrf, index);
        }
        self.neighbors.retain(|(attachment, _), _| *attachment != index);
        self.attachments[index.index()] = None;
        self.staged.attachments.insert(index);
    }

    /// False when the attachment does not exist.
    #[must_use]
    pub fn set_neighbor(
        &mut self,
        attachment: AttachmentIndex,
        address: IpAddr,
        mac: Option<MacAddr>,
    ) -> bool {
        let key = (attachment, address);
        match mac {
            Some(_) if self.find_attachment(attachment).is_none() => return false,
            Some(mac) => self.neighbors.insert(key, mac),
            None => self.neighbors.remove(&key),
        };
        if let Some(adjacency) = self.adjacencies.find(attachment, Some(address)) {
            self.adjacencies.at_mut(adjacency).mac = mac;
        }
        true
    }

    /// False when a member leads out of another VRF, or there are too many.
    #[must_use]
    pub fn set_group(&mut self, vrf: VrfIndex, group: GroupIndex, members: &[Member]) -> bool {
        let in_vrf = |member: &Member| {
            self.find_attachment(member.attachment).is_some_and(|at| at.vrf() == Some(vrf))
        };
        let fine = group != GroupIndex::NO_ROUTE
            && members.len() <= Member::MAX
            && members.iter().all(in_vrf)
            && self.adjacencies.has_room(members.len());
        if !fine {
            return false;
        }
        self.open_vrf(vrf);
        let present = self.vrfs[vrf.index()].groups.get(&group).cloned().unwrap_or_default();
        if present == members {
            return true;
        }
        let places = members.iter().map(|member| (self.refer(member), member.ordinal)).collect();
        self.stage_group(vrf, group, places);
        for member in &present {
            self.adjacencies.release(member.attachment, member.next_hop);
        }
        self.staged.released |= !present.is_empty();
        let groups = &mut self.vrfs[vrf.index()].groups;
        match members {
            [] => groups.remove(&group),
            _ => groups.insert(group, members.to_vec()),
        };
        true
    }

    /// False when the group does not exist in this VRF.
    #[must_use]
    pub fn set_route(&mut self, vrf: VrfIndex, prefix: Prefix, group: Option<GroupIndex>) -> bool {
        self.open_vrf(vrf);
        let table = &mut self.vrfs[vrf.index()];
        if group.is_some_and(|group| !table.groups.contains_key(&group)) {
            return false;
        }
        table.fib.set_route(prefix, group);
        self.staged.fibs.insert(vrf);
        true
    }

    /// Carrier of a port came or went: all next hops behind it live or die by it.
    pub fn set_carrier(&mut self, index: PortIndex, up: bool) -> Vec<Rewritten> {
        let Some(Some(port)) = self.ports.get_mut(index.index()) else { return Vec::new() };
        port.carrier = up;
        let on_port = |(at, slot): (usize, &Option<Attachment>)| {
            let here = slot.as_ref().is_some_and(|attachment| attachment.port == index);
            here.then_some(AttachmentIndex(at as u16))
        };
        let attachments: Vec<_> = self.attachments.iter().enumerate().filter_map(on_port).collect();
        attachments.into_iter().flat_map(|attachment| self.settle(attachment)).collect()
    }

    /// BFD's word on a next hop: dead, or not (any longer).
    ///
    /// The word is kept with the adjacency, so it holds while any group uses the next hop. It is
    /// taken back when BFD is up again, when the session is removed or out of service, and when
    /// control, having heard of the failure, has published a state in which no group uses the next
    /// hop: what it installs after that it has learned over the path anew, and a session that has
    /// not been up since is no failure (RFC 5882, 4.3). So a path that BFD declared dead is not
    /// used, and a peer that never speaks BFD again is not cut off for ever.
    pub fn set_failed(
        &mut self,
        attachment: AttachmentIndex,
        next_hop: IpAddr,
        failed: bool,
    ) -> Option<Rewritten> {
        let index = self.adjacencies.find(attachment, Some(next_hop))?;
        self.adjacencies.at_mut(index).failed = failed;
        self.settle_one(index)
    }

    /// Makes all changes visible. Returns how many cannot be: encapsulations that another
    /// attachment of the port has (F-05), and tables beyond the FIB's limit.
    pub fn publish(&mut self) -> u64 {
        let staged = std::mem::take(&mut self.staged);
        let mut refused = 0;
        for &index in &staged.attachments {
            refused += u64::from(!self.plug(index));
            self.settle(index);
        }
        if !staged.attachments.is_empty() {
            self.join_cross_connects();
        }
        self.collect_locals(&staged.locals);
        let mut complete = true;
        for vrf in &staged.fibs {
            match self.vrfs[vrf.index()].fib.publish() {
                Outcome::Applied | Outcome::Unchanged => {}
                Outcome::LimitReached => {
                    complete = false;
                    refused += 1;
                    self.staged.fibs.insert(*vrf);
                }
            }
        }
        // Readers of a table that was not published may still name any adjacency.
        match complete {
            true if staged.released => self.sweep(),
            true => {}
            false => self.staged.released |= staged.released,
        }
        refused
    }

    fn open_vrf(&mut self, vrf: VrfIndex) {
        if self.vrfs.len() <= vrf.index() {
            self.vrfs.resize_with(vrf.index() + 1, Vrf::default);
        }
    }

    /// The adjacency of a member, made if it is the first to use it.
    fn refer(&mut self, member: &Member) -> AdjacencyIndex {
        let (index, made) = self.adjacencies.reference(member.attachment, member.next_hop);
        if made {
            let mac = member.next_hop.and_then(|hop| self.neighbor(member.attachment, hop));
            self.adjacencies.at_mut(index).mac = mac;
            self.settle_one(index);
        }
        index
    }

    fn stage_group(&mut self, vrf: VrfIndex, group: GroupIndex, places: Vec<GroupMember>) {
        self.vrfs[vrf.index()].fib.set_group(group, places);
        self.staged.fibs.insert(vrf);
    }

    /// Takes an attachment out of all groups of its VRF.
    fn empty_groups(&mut self, vrf: VrfIndex, attachment: AttachmentIndex) {
        let affected: Vec<_> = self.vrfs[vrf.index()]
            .groups
            .iter()
            .filter(|(_, members)| members.iter().any(|member| member.attachment == attachment))
            .map(|(group, members)| (*group, members.clone()))
            .collect();
        for (group, mut members) in affected {
            members.retain(|member| member.attachment != attachment);
            let fine = self.set_group(vrf, group, &members);
            debug_assert!(fine, "fewer members of a group that was fine");
        }
    }

    fn unplug(&mut self, index: AttachmentIndex) {
        let Some(attachment) = self.find_attachment(index) else { return };
        let (port, encapsulation) = (attachment.port, attachment.entry.encapsulation);
        self.staged.locals.extend(attachment.vrf());
        if let Some(Some(port)) = self.ports.get_mut(port.index()) {
            port.demux.remove(encapsulation, index);
        }
    }

    /// True also when the attachment is gone.
    fn plug(&mut self, index: AttachmentIndex) -> bool {
        let Some(attachment) = self.find_attachment(index) else { return true };
        let (port, encapsulation) = (attachment.port, attachment.entry.encapsulation);
        match self.ports.get_mut(port.index()) {
            Some(Some(port)) => port.demux.insert(encapsulation, index),
            _ => false,
        }
    }

    fn join_cross_connects(&mut self) {
        let is_one: Vec<bool> = self
            .attachments
            .iter()
            .map(|slot| slot.as_ref().is_some_and(|attachment| attachment.vrf().is_none()))
            .collect();
        for attachment in self.attachments.iter_mut().flatten() {
            if let InnerService::CrossConnect(other) = attachment.entry.service {
                let joined = is_one.get(other.index()).copied().unwrap_or(false);
                attachment.service = Path::CrossConnect(joined.then_some(other));
            }
        }
    }

    fn collect_locals(&mut self, vrfs: &BTreeSet<VrfIndex>) {
        for vrf in vrfs {
            self.vrfs[vrf.index()].locals = Locals::default();
        }
        for attachment in self.attachments.iter().flatten() {
            let Some(vrf) = attachment.vrf().filter(|vrf| vrfs.contains(vrf)) else { continue };
            let locals = &mut self.vrfs[vrf.index()].locals;
            attachment.entry.addresses.iter().for_each(|address| locals.add(*address));
        }
    }

    /// Frees next hops that nothing uses. The FIB forgets what it knew of them, because the index
    /// becomes another next hop's.
    fn sweep(&mut self) {
        let Self { adjacencies, vrfs, .. } = self;
        adjacencies.sweep(|index, adjacency| {
            if !adjacency.alive {
                for vrf in vrfs.iter_mut() {
                    vrf.fib.set_alive(index, true);
                }
            }
        });
    }

    fn settle(&mut self, attachment: AttachmentIndex) -> Vec<Rewritten> {
        let on_it: Vec<_> = self.adjacencies.on(attachment).collect();
        on_it.into_iter().filter_map(|index| self.settle_one(index)).collect()
    }

    /// Tells the FIB whether a next hop is alive, if that changed. Seen by packets at once.
    fn settle_one(&mut self, index: AdjacencyIndex) -> Option<Rewritten> {
        let adjacency = self.adjacencies.at(index);
        let (attachment, next_hop) = (adjacency.attachment, adjacency.next_hop);
        let on = self.find_attachment(attachment)?;
        let carrier = self.port(on.port).is_some_and(|port| port.carrier);
        let alive = carrier && !adjacency.failed;
        if adjacency.alive == alive {
            return None;
        }
        let vrf = on.vrf()?;
        self.adjacencies.at_mut(index).alive = alive;
        let groups = self.vrfs[vrf.index()].fib.set_alive(index, alive) as u16;
        Some(Rewritten { vrf, attachment, next_hop, groups, alive })
    }
}

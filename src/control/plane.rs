//! The control plane of one router, put together: the neighbour table and one [`Domain`] per VRF.
//!
//! Goes in: what forwarding noticed, the time, desired state, operator's acts. Comes out: the
//! ordered stream of changes, packets to inject, events. It never touches the data path.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::control::domain::{Domain, PeerRow};
use crate::control::neighbor;
use crate::model::{
    AttachmentIndex, Bandwidth, Change, GroupIndex, Injected, Instant, Notice, Prefix, PuntClass,
    Punted, VrfConfig, VrfIndex,
};
use crate::punt::icmp;
use crate::telemetry::{Event, EventKind, EventLog};
use crate::wire::{MacAddr, ethertype};

/// An attachment as control sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attachment {
    pub name: String,
    pub vrf: VrfIndex,
    pub mac: MacAddr,
    pub mtu: u16,
    /// Ours, link-local ones included.
    pub addresses: Vec<IpAddr>,
    /// Whether its port has carrier.
    pub carrier: bool,
    /// What is reachable there without a router; a block of one address is a wanted neighbour.
    pub on_link: Vec<Prefix>,
}

/// The control plane of one router.
#[derive(Debug)]
pub struct Control {
    router: String,
    router_id: Ipv4Addr,
    seed: u64,
    neighbors: neighbor::Table,
    attachments: BTreeMap<AttachmentIndex, Attachment>,
    domains: BTreeMap<VrfIndex, Domain>,
    /// Groups that forwarding has from an earlier life, by VRF.
    kept: BTreeMap<VrfIndex, BTreeSet<GroupIndex>>,
    icmp: BTreeMap<AttachmentIndex, icmp::Responder>,
    /// Domains something happened to since they were last run.
    touched: BTreeSet<VrfIndex>,
    /// Domains that were run since [`Control::take_ran`].
    ran: BTreeSet<VrfIndex>,
    deadlines: BTreeMap<VrfIndex, Instant>,
    changes: Vec<Change>,
    injected: VecDeque<Injected>,
    log: EventLog,
}

impl Control {
    pub fn new(router: &str, router_id: Ipv4Addr, seed: u64) -> Self {
        Self {
            router: router.to_owned(),
            router_id,
            seed,
            neighbors: neighbor::Table::new(seed),
            attachments: BTreeMap::new(),
            domains: BTreeMap::new(),
            kept: BTreeMap::new(),
            icmp: BTreeMap::new(),
            touched: BTreeSet::new(),
            ran: BTreeSet::new(),
            deadlines: BTreeMap::new(),
            changes: Vec::new(),
            injected: VecDeque::new(),
            log: EventLog::default(),
        }
    }

    /// Uses none of these groups, which forwarding has from an earlier life. Said before the VRF is
    /// known.
    pub fn keep_groups(&mut self, vrf: VrfIndex, groups: BTreeSet<GroupIndex>) {
        self.kept.insert(vrf, groups);
    }

    /// Forwarding has forgotten the groups that were kept.
    pub fn release_kept_groups(&mut self, now: Instant) {
        for vrf in std::mem::take(&mut self.kept).into_keys() {
            self.in_domain(vrf, |domain| domain.release_kept_groups(now));
        }
    }

    /// Whether a router that starts tells its links of its addresses (RFC 5227, 2.3; RFC 4861, 7.2.6).
    pub fn set_announces(&mut self, announces: bool) {
        self.neighbors.set_announces(announces);
    }

    /// Makes an attachment of a VRF known. The caller tells forwarding itself.
    pub fn set_attachment(&mut self, index: AttachmentIndex, attachment: Attachment, now: Instant) {
        self.neighbors.set_attachment(
            index,
            attachment.mac,
            attachment.addresses.clone(),
            attachment.on_link.clone(),
            now,
        );
        for block in attachment.on_link.iter().filter(|block| is_host(block)) {
            self.neighbors.want(index, block.addr(), true, now);
        }
        self.icmp.entry(index).or_default();
        if let Some(domain) = self.domains.get_mut(&attachment.vrf) {
            domain.set_attachment(index, &attachment, now);
            self.touched.insert(attachment.vrf);
        }
        self.attachments.insert(index, attachment);
    }

    pub fn remove_attachment(&mut self, index: AttachmentIndex, now: Instant) {
        let Some(attachment) = self.attachments.remove(&index) else { return };
        self.icmp.remove(&index);
        self.neighbors.remove_attachment(index);
        if let Some(domain) = self.domains.get_mut(&attachment.vrf) {
            domain.remove_attachment(index, now);
            self.touched.insert(attachment.vrf);
        }
    }

    /// Makes a VRF what `config` says. Its attachments are known already.
    pub fn set_vrf(
        &mut self,
        index: VrfIndex,
        config: &VrfConfig,
        attachments: &BTreeMap<String, AttachmentIndex>,
        now: Instant,
    ) {
        let (router, id, seed) = (&self.router, self.router_id, self.seed);
        let kept = &mut self.kept;
        let domain = self.domains.entry(index).or_insert_with(|| {
            let mut domain = Domain::new(router, index, config, id, seed);
            if let Some(kept) = kept.get(&index) {
                domain.start_again(kept.clone(), now);
            }
            domain
        });
        for (&attachment_index, attachment) in &self.attachments {
            if attachment.vrf == index && !domain.has_attachment(attachment_index) {
                domain.set_attachment(attachment_index, attachment, now);
            }
        }
        for (attachment, address, wanted) in domain.apply(config, attachments, now) {
            self.neighbors.want(attachment, address, wanted, now);
        }
        self.touched.insert(index);
        self.run(now);
    }

    /// Ends a VRF: its sessions are closed and its routes taken out of forwarding. Its attachments
    /// are gone already.
    pub fn remove_vrf(
        &mut self,
        index: VrfIndex,
        attachments: &BTreeMap<String, AttachmentIndex>,
        now: Instant,
    ) {
        self.in_domain(index, |domain| domain.close(attachments, now));
        self.run(now);
        self.domains.remove(&index);
        self.deadlines.remove(&index);
        self.touched.remove(&index);
    }

    /// Notes that a limiter of a circuit has another rate.
    pub fn note_limiter(&mut self, name: &str, rate: Bandwidth, now: Instant) {
        self.log.record(now, &self.router, EventKind::LimiterChanged, format!("{name}: {rate}"));
    }

    /// Closes a session and lets it come up again.
    pub fn reset(&mut self, vrf: VrfIndex, neighbor: &str, now: Instant) {
        self.in_domain(vrf, |domain| domain.reset(neighbor, now));
    }

    /// Puts `prepends` more of the own ASN on all that the VRF exports (L-49); `None` ends it.
    pub fn drain(&mut self, vrf: VrfIndex, prepends: Option<u8>, now: Instant) {
        self.in_domain(vrf, |domain| domain.drain(prepends, now));
    }

    /// Takes in what forwarding noticed; [`Control::run`] acts on it.
    pub fn handle_notice(&mut self, notice: Notice, now: Instant) {
        match notice {
            Notice::Punted(punted) => self.handle_punted(punted, now),
            Notice::BfdUp { attachment, peer } => {
                let detail = format!("{} {peer}", self.place(attachment));
                self.log.record(now, &self.router, EventKind::BfdUp, detail);
                if let Some(vrf) = self.vrf_of(attachment) {
                    self.in_domain(vrf, |domain| domain.bfd(attachment, peer, true, now));
                }
            }
            Notice::BfdDown { attachment, peer, reason } => {
                let detail = format!("{} {peer}: {}", self.place(attachment), reason.text());
                self.log.record(now, &self.router, EventKind::BfdDown, detail);
                if reason.is_failure()
                    && let Some(vrf) = self.vrf_of(attachment)
                {
                    self.in_domain(vrf, |domain| domain.bfd(attachment, peer, false, now));
                }
            }
            Notice::GroupsRewritten { vrf, attachment, next_hop, groups } => {
                let vrf = self.domains.get(&vrf).map_or("", Domain::name);
                let place = self.place(attachment);
                let detail = format!("{vrf}: {groups} group(s) leave {next_hop} on {place}");
                self.log.record(now, &self.router, EventKind::GroupRewritten, detail);
            }
            Notice::Carrier { .. } => {}
        }
    }

    /// Carrier of a port changed: its attachments' neighbours and sessions go with it.
    pub fn carrier(&mut self, port: &str, attachments: &[AttachmentIndex], up: bool, now: Instant) {
        let kind = if up { EventKind::CarrierUp } else { EventKind::CarrierDown };
        self.log.record(now, &self.router, kind, port);
        for &attachment in attachments {
            let Some(known) = self.attachments.get_mut(&attachment) else { continue };
            known.carrier = up;
            let vrf = known.vrf;
            if up {
                self.neighbors.carrier_restored(attachment, now);
            } else {
                self.neighbors.carrier_lost(attachment, now);
            }
            self.in_domain(vrf, |domain| domain.carrier(attachment, up, now));
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.neighbors.handle_timeout(now);
        for (&vrf, &deadline) in &self.deadlines {
            if deadline <= now {
                self.touched.insert(vrf);
            }
        }
        for vrf in self.touched.clone() {
            if let Some(domain) = self.domains.get_mut(&vrf) {
                domain.handle_timeout(now);
            }
        }
        self.run(now);
    }

    /// Runs every touched domain until nothing moves, and collects what comes out.
    pub fn run(&mut self, now: Instant) {
        while let Some(vrf) = self.touched.pop_first() {
            self.ran.insert(vrf);
            let Some(domain) = self.domains.get_mut(&vrf) else { continue };
            domain.run(now, &mut self.log);
            self.changes.append(&mut domain.take_changes());
            let mut packets = Vec::new();
            while let Some(packet) = domain.poll_transmit() {
                packets.push(packet);
            }
            self.deadlines.insert(vrf, domain.poll_timeout());
            for (attachment, destination, packet) in packets {
                self.send(attachment, destination, packet, now);
            }
        }
        while let Some(change) = self.neighbors.poll_change() {
            self.changes.push(change);
        }
        while let Some(injected) = self.neighbors.poll_transmit() {
            self.injected.push_back(injected);
        }
    }

    pub fn poll_timeout(&self) -> Instant {
        let domains = self.deadlines.values().copied().min().unwrap_or(Instant::NEVER);
        domains.min(self.neighbors.poll_timeout())
    }

    /// Changes since the last call, in order. They are to be applied before anything that
    /// [`Control::poll_inject`] gives leaves: install, then advertise.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    pub fn poll_inject(&mut self) -> Option<Injected> {
        self.injected.pop_front()
    }

    /// The VRFs whose tables may be others than when this was last asked.
    pub fn take_ran(&mut self) -> BTreeSet<VrfIndex> {
        std::mem::take(&mut self.ran)
    }

    pub fn drain_events(&mut self) -> Vec<Event> {
        self.log.drain()
    }

    pub fn neighbors(&self) -> Vec<neighbor::Row> {
        self.neighbors.snapshot()
    }

    pub fn peers(&self, vrf: VrfIndex) -> Vec<PeerRow> {
        self.domains.get(&vrf).map(Domain::peers).unwrap_or_default()
    }

    pub fn vrfs(&self) -> impl Iterator<Item = VrfIndex> {
        self.domains.keys().copied()
    }

    pub fn domain(&self, vrf: VrfIndex) -> Option<&Domain> {
        self.domains.get(&vrf)
    }

    /// True when nothing is under way that a timer of the routing tables would finish.
    pub fn is_settled(&self) -> bool {
        self.touched.is_empty() && self.domains.values().all(Domain::is_settled)
    }

    fn handle_punted(&mut self, punted: Punted, now: Instant) {
        match punted.class {
            PuntClass::Arp => self.neighbors.handle_arp(punted.attachment, &punted.packet, now),
            PuntClass::Ndp => self.neighbors.handle_ndp(punted.attachment, &punted.packet, now),
            PuntClass::Tcp => {
                if let Some(vrf) = self.vrf_of(punted.attachment) {
                    self.in_domain(vrf, |domain| {
                        domain.receive(punted.attachment, &punted.packet, now);
                    });
                }
            }
            PuntClass::Local | PuntClass::TtlExpired | PuntClass::TooLarge { .. } => {
                self.answer_icmp(&punted, now);
            }
            PuntClass::Glean { egress, next_hop } => {
                let kind = ethertype_of(&punted.packet);
                self.neighbors.resolve(egress, next_hop, Some((kind, punted.packet)), now);
            }
        }
    }

    fn answer_icmp(&mut self, punted: &Punted, now: Instant) {
        let Some(attachment) = self.attachments.get(&punted.attachment) else { return };
        let Some(responder) = self.icmp.get_mut(&punted.attachment) else { return };
        if let Some(packet) = responder.answer(punted, &attachment.addresses, now) {
            self.injected.push_back(Injected {
                attachment: punted.attachment,
                destination: punted.source,
                ethertype: ethertype_of(&packet),
                packet,
            });
        }
    }

    fn in_domain(&mut self, vrf: VrfIndex, act: impl FnOnce(&mut Domain)) {
        if let Some(domain) = self.domains.get_mut(&vrf) {
            act(domain);
            self.touched.insert(vrf);
        }
    }

    fn send(&mut self, attachment: AttachmentIndex, to: IpAddr, packet: Vec<u8>, now: Instant) {
        let kind = ethertype_of(&packet);
        if let Some(mac) = self.neighbors.mac(attachment, to) {
            self.injected.push_back(Injected {
                attachment,
                destination: mac,
                ethertype: kind,
                packet,
            });
        } else {
            self.neighbors.resolve(attachment, to, Some((kind, packet)), now);
        }
    }

    fn vrf_of(&self, attachment: AttachmentIndex) -> Option<VrfIndex> {
        self.attachments.get(&attachment).map(|attachment| attachment.vrf)
    }

    fn place(&self, attachment: AttachmentIndex) -> &str {
        self.attachments.get(&attachment).map_or("?", |attachment| attachment.name.as_str())
    }
}

/// A block of one address.
fn is_host(block: &Prefix) -> bool {
    block.prefix_len() == block.max_prefix_len()
}

fn ethertype_of(packet: &[u8]) -> u16 {
    match packet.first().map(|byte| byte >> 4) {
        Some(6) => ethertype::IPV6,
        _ => ethertype::IPV4,
    }
}

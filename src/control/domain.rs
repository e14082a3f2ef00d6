//! One routing domain: the RIB of a VRF, its BGP sessions, and the TCP each of its attachments
//! ends.
//!
//! ```text
//! punted TCP ─► Stack ─► Session ─► Rib ─► changes (FIB first)
//!               Stack ◄─ Session ◄─ Rib ◄─ (then what is advertised)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::control::bgp::{
    Action, ConnectionId, Direction, Family, Graceful, Session, SessionConfig, SessionEvent,
    StopReason,
};
use crate::control::plane::Attachment;
use crate::control::rib::{self, Loss, PeerIndex, Rib, RibConfig};
use crate::model::{
    Asn, AttachmentIndex, BfdConfig, BfdParameters, Change, Effect, Field, GracefulRestart,
    GroupIndex, Instant, NeighborConfig, NeighborKind, Prefix, VrfConfig, VrfIndex, effect,
};
use crate::punt::tcp::{self, Stack};
use crate::telemetry::{EventKind, EventLog};

/// Octets that may wait for a neighbour before the RIB stops feeding its session.
const BACKLOG_MAX: usize = Session::BACKLOG_LIMIT / 2;
/// Between two attempts to connect.
const CONNECT_RETRY: Duration = Duration::from_secs(5);
/// The longest that a domain which starts again waits for its neighbours' routes before it chooses
/// among them (RFC 4724, 4.1: Selection_Deferral_Timer); before the router takes out of forwarding
/// what it has from earlier.
const SELECTION_DEFERRAL: Duration = Duration::from_secs(50);
/// The longest that kept routes of a neighbour that is back wait for its End-of-RIB (RFC 4724, 4.2);
/// as long as FRR waits.
const STALE_PATHS: Duration = Duration::from_mins(6);

/// What a change to a neighbour costs.
pub const NEIGHBOR_FIELDS: &[Field<NeighborConfig>] = &[
    Field { name: "kind", effect: Effect::ResetsSession, same: |a, b| a.kind == b.kind },
    Field {
        name: "attachment",
        effect: Effect::ResetsSession,
        same: |a, b| a.attachment == b.attachment,
    },
    Field { name: "local", effect: Effect::ResetsSession, same: |a, b| a.local == b.local },
    Field { name: "peer", effect: Effect::ResetsSession, same: |a, b| a.peer == b.peer },
    Field {
        name: "peer_asn",
        effect: Effect::ResetsSession,
        same: |a, b| a.peer_asn == b.peer_asn,
    },
    Field { name: "ordinal", effect: Effect::ResetsSession, same: |a, b| a.ordinal == b.ordinal },
    Field { name: "md5", effect: Effect::ResetsSession, same: |a, b| a.md5 == b.md5 },
    Field { name: "ttl", effect: Effect::ResetsSession, same: |a, b| a.ttl == b.ttl },
    Field { name: "hold", effect: Effect::ResetsSession, same: |a, b| a.hold == b.hold },
    Field {
        name: "graceful_restart",
        effect: Effect::ResetsSession,
        same: |a, b| a.graceful_restart == b.graceful_restart,
    },
    Field { name: "enabled", effect: Effect::Live, same: |a, b| a.enabled == b.enabled },
    Field { name: "bfd", effect: Effect::Live, same: |a, b| a.bfd == b.bfd },
    Field { name: "import", effect: Effect::Live, same: |a, b| a.import == b.import },
    Field { name: "export", effect: Effect::Live, same: |a, b| a.export == b.export },
];

/// One routing domain.
#[derive(Debug)]
pub struct Domain {
    router: String,
    index: VrfIndex,
    config: VrfConfig,
    router_id: Ipv4Addr,
    seed: u64,
    rib: Rib,
    stacks: BTreeMap<AttachmentIndex, Stack>,
    on_link: BTreeMap<AttachmentIndex, Vec<Prefix>>,
    peers: BTreeMap<PeerIndex, Peer>,
    transports: BTreeMap<(AttachmentIndex, tcp::ConnectionId), Transport>,
    next_peer: u16,
    changes: Vec<Change>,
    /// While forwarding has what an earlier life of control gave it and this one still learns:
    /// until when, at most. Until then nothing is chosen, installed or announced.
    deferral: Option<Instant>,
}

/// A TCP connection: whose it is, and what its send buffer did not take yet.
#[derive(Debug)]
struct Transport {
    peer: PeerIndex,
    unsent: Vec<u8>,
}

#[derive(Debug)]
struct Peer {
    config: NeighborConfig,
    attachment: AttachmentIndex,
    session: Session,
    /// The connection this end asked for and nobody has answered yet.
    attempt: Option<tcp::ConnectionId>,
    established: bool,
    established_at: Instant,
    flaps: u32,
    /// What the neighbour said of restarts when the session was last established.
    graceful: Option<Graceful>,
    /// Whether it has sent all its routes since the session is established.
    complete: bool,
    /// Until when routes of an earlier session are kept for it; `NEVER` when none are.
    kept_until: Instant,
    /// BFD has found the path to fail and not to work since.
    path_failed: bool,
}

impl Peer {
    /// Whether a domain that starts again waits for its routes (RFC 4724, 4.1).
    fn is_awaited(&self) -> bool {
        let waits = |graceful: Graceful| !graceful.restarted && !self.complete;
        self.config.enabled
            && self.config.graceful_restart == GracefulRestart::Full
            && (!self.established || self.graceful.is_some_and(waits))
    }

    fn has_kept_routes(&self) -> bool {
        self.kept_until != Instant::NEVER
    }
}

/// A row of the session table, as `show bgp` and reports have it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PeerRow {
    pub name: String,
    pub attachment: String,
    pub peer: IpAddr,
    pub asn: u32,
    pub state: String,
    pub established_at: Option<Instant>,
    /// Whether it has marked the end of its routes (RFC 4724, 2), where restarts are agreed on.
    pub complete: bool,
    /// How often the session left Established.
    pub flaps: u32,
    pub enabled: bool,
    /// Prefixes the neighbour announces, before policy.
    pub prefixes_received: u64,
    pub last_error: String,
}

/// A neighbour whose MAC is wanted, or no longer.
pub type Wanted = (AttachmentIndex, IpAddr, bool);

impl Domain {
    pub fn new(
        router: &str,
        index: VrfIndex,
        config: &VrfConfig,
        router_id: Ipv4Addr,
        seed: u64,
    ) -> Self {
        let rib = Rib::new(
            RibConfig {
                asn: config.asn,
                router_id,
                vrf: index,
                max_paths: config.max_paths,
                convergence: config.convergence,
                linger: RibConfig::LINGER,
            },
            seed ^ u64::from(index.0),
        );
        let mut empty = config.clone();
        empty.neighbors.clear();
        empty.originated.clear();
        empty.statics.clear();
        Self {
            router: router.to_owned(),
            index,
            config: empty,
            router_id,
            seed,
            rib,
            stacks: BTreeMap::new(),
            on_link: BTreeMap::new(),
            peers: BTreeMap::new(),
            transports: BTreeMap::new(),
            next_peer: 0,
            changes: Vec::new(),
            deferral: None,
        }
    }

    /// Control starts again over forwarding that went on and has these groups; see
    /// [`Rib::keep_groups`]. Said before the domain is applied.
    pub fn start_again(&mut self, kept: BTreeSet<GroupIndex>, now: Instant) {
        self.rib.keep_groups(kept);
        self.deferral = Some(now + SELECTION_DEFERRAL);
    }

    /// See [`Rib::release_kept_groups`].
    pub fn release_kept_groups(&mut self, now: Instant) {
        self.rib.release_kept_groups(now);
    }

    pub fn name(&self) -> &str {
        &self.config.name
    }

    pub fn has_attachment(&self, index: AttachmentIndex) -> bool {
        self.stacks.contains_key(&index)
    }

    pub fn set_attachment(
        &mut self,
        index: AttachmentIndex,
        attachment: &Attachment,
        now: Instant,
    ) {
        let seed = self.seed ^ (u64::from(index.0) << 16);
        self.stacks
            .entry(index)
            .or_insert_with(|| Stack::new(attachment.addresses.clone(), attachment.mtu, seed));
        self.on_link.insert(index, attachment.on_link.clone());
        self.set_connected(index, attachment.carrier, now);
    }

    pub fn remove_attachment(&mut self, index: AttachmentIndex, now: Instant) {
        self.set_connected(index, false, now);
        let peers: Vec<_> = self.peers_on(index).into_iter().map(|(peer, _)| peer).collect();
        for peer in peers {
            self.lose(peer, Loss::Failed, now);
            self.remove_peer(peer, now);
        }
        self.transports.retain(|&(on, _), _| on != index);
        self.stacks.remove(&index);
        self.on_link.remove(&index);
    }

    /// Closes every session and takes every route of its own away; the attachments are gone.
    pub fn close(&mut self, attachments: &BTreeMap<String, AttachmentIndex>, now: Instant) {
        let nothing = VrfConfig {
            originated: Vec::new(),
            statics: Vec::new(),
            neighbors: Vec::new(),
            ..self.config.clone()
        };
        self.apply(&nothing, attachments, now);
    }

    /// Makes the domain what `config` says; answers which neighbours' MACs are wanted.
    pub fn apply(
        &mut self,
        config: &VrfConfig,
        attachments: &BTreeMap<String, AttachmentIndex>,
        now: Instant,
    ) -> Vec<Wanted> {
        let old = std::mem::replace(&mut self.config, config.clone());
        let mut wanted = Vec::new();
        let prefixes = |config: &VrfConfig| -> BTreeSet<Prefix> {
            config.originated.iter().map(|route| route.prefix).collect()
        };
        let (before, after) = (prefixes(&old), prefixes(config));
        for &gone in before.difference(&after) {
            self.rib.originate(gone, false, now);
        }
        for &added in after.difference(&before) {
            self.rib.originate(added, true, now);
        }
        for (routes, present) in [(&old.statics, false), (&config.statics, true)] {
            let other = if present { &old.statics } else { &config.statics };
            for route in routes.iter().filter(|route| !other.contains(route)) {
                if let Some(&attachment) = attachments.get(&route.attachment) {
                    let ordinal = attachment.0 as u8;
                    let (prefix, next_hop) = (route.prefix, route.next_hop);
                    self.rib.set_static(prefix, attachment, next_hop, ordinal, present, now);
                    wanted.push((attachment, route.next_hop, present));
                }
            }
        }
        let names: Vec<_> =
            self.peers.iter().map(|(&i, peer)| (i, peer.config.name.clone())).collect();
        for (index, name) in names {
            if !config.neighbors.iter().any(|neighbor| neighbor.name == name) {
                wanted.extend(self.remove_peer(index, now));
            }
        }
        for neighbor in &config.neighbors {
            let Some(&attachment) = attachments.get(&neighbor.attachment) else { continue };
            wanted.extend(self.set_peer(neighbor, attachment, now));
        }
        wanted
    }

    /// Takes an IP packet that carries TCP for one of our addresses on `attachment`.
    pub fn receive(&mut self, attachment: AttachmentIndex, packet: &[u8], now: Instant) {
        if let Some(stack) = self.stacks.get_mut(&attachment) {
            stack.receive(packet, now);
        }
    }

    pub fn reset(&mut self, neighbor: &str, now: Instant) {
        let named = self.peers.iter().filter(|(_, peer)| peer.config.name == neighbor);
        for index in named.map(|(&index, _)| index).collect::<Vec<_>>() {
            let peer = self.peers.get_mut(&index).expect("it was just found");
            peer.session.stop(now, StopReason::AdminReset(String::new()));
            self.forget_kept(index, now);
        }
    }

    pub fn drain(&mut self, prepends: Option<u8>, now: Instant) {
        self.rib.set_maintenance(prepends, now);
    }

    /// The path to a neighbour failed, or works.
    pub fn bfd(&mut self, attachment: AttachmentIndex, address: IpAddr, up: bool, now: Instant) {
        let mut lost = Vec::new();
        for (index, peer) in self.peers_on(attachment) {
            if peer.config.peer != address {
                continue;
            }
            peer.path_failed = !up;
            if !up {
                peer.session.stop(now, StopReason::BfdDown);
                lost.push(index);
            }
        }
        for index in lost {
            self.forget_kept(index, now);
        }
    }

    pub fn carrier(&mut self, attachment: AttachmentIndex, up: bool, now: Instant) {
        if !up {
            let peers: Vec<_> =
                self.peers_on(attachment).into_iter().map(|(peer, _)| peer).collect();
            for peer in peers {
                self.lose(peer, Loss::Failed, now);
            }
            self.drop_transports(attachment, now);
        }
        self.set_connected(attachment, up, now);
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        for stack in self.stacks.values_mut().filter(|stack| stack.poll_timeout() <= now) {
            stack.handle_timeout(now);
        }
        for peer in self.peers.values_mut().filter(|peer| peer.session.poll_timeout() <= now) {
            peer.session.handle_timeout(now);
        }
        let due = self.peers.iter().filter(|(_, peer)| peer.kept_until <= now);
        for index in due.map(|(&index, _)| index).collect::<Vec<_>>() {
            self.forget_kept(index, now);
        }
        if self.rib.poll_timeout() <= now {
            self.rib.handle_timeout(now);
        }
    }

    pub fn poll_timeout(&self) -> Instant {
        let stacks = self.stacks.values().map(Stack::poll_timeout);
        let sessions =
            self.peers.values().map(|peer| peer.session.poll_timeout().min(peer.kept_until));
        let tables = self.deferral.unwrap_or(self.rib.poll_timeout());
        stacks.chain(sessions).chain([tables]).min().unwrap_or(Instant::NEVER)
    }

    /// Carries bytes, events and routes between the parts until nothing moves.
    pub fn run(&mut self, now: Instant, log: &mut EventLog) {
        let mut bytes = Vec::new();
        loop {
            let mut moved = self.run_transports(now, &mut bytes);
            moved |= self.run_sessions(now, log);
            moved |= self.run_rib(now, log);
            if !moved {
                return;
            }
        }
    }

    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// The next IP packet of a TCP connection: where it leaves, and to whom.
    pub fn poll_transmit(&mut self) -> Option<(AttachmentIndex, IpAddr, Vec<u8>)> {
        for (&attachment, stack) in &mut self.stacks {
            if let Some(packet) = stack.poll_transmit() {
                let to = destination(&packet).expect("a stack sends whole IP packets");
                return Some((attachment, to, packet));
            }
        }
        None
    }

    pub fn peers(&self) -> Vec<PeerRow> {
        let row = |(&index, peer): (&PeerIndex, &Peer)| PeerRow {
            name: peer.config.name.clone(),
            attachment: peer.config.attachment.clone(),
            peer: peer.config.peer,
            asn: peer.config.peer_asn.get(),
            state: format!("{:?}", peer.session.state()),
            established_at: peer.established.then_some(peer.established_at),
            complete: peer.complete && peer.config.graceful_restart == GracefulRestart::Full,
            flaps: peer.flaps,
            enabled: peer.config.enabled,
            prefixes_received: self.rib.received(index),
            last_error: peer.session.snapshot().last_error,
        };
        self.peers.iter().map(row).collect()
    }

    pub const fn rib(&self) -> &Rib {
        &self.rib
    }

    /// What a neighbour of the RIB is called.
    pub fn peer_name(&self, index: PeerIndex) -> &str {
        self.peers.get(&index).map_or("?", |peer| peer.config.name.as_str())
    }

    /// True when no change of the tables waits for a timer or a neighbour that is up.
    pub fn is_settled(&self) -> bool {
        let waits = |peer: &Peer| peer.established && peer.has_kept_routes();
        self.deferral.is_none()
            && self.rib.poll_timeout() == Instant::NEVER
            && !self.peers.values().any(waits)
    }

    /// Nothing can be said on the attachment any more: its connections are lost (RFC 4271, 8.1.4,
    /// event 18).
    fn drop_transports(&mut self, attachment: AttachmentIndex, now: Instant) {
        let Some(stack) = self.stacks.get_mut(&attachment) else { return };
        self.transports.retain(|&(on, id), transport| {
            if on == attachment {
                stack.abort(id);
                if let Some(peer) = self.peers.get_mut(&transport.peer) {
                    peer.session.handle_closed(ConnectionId(id.0), now);
                }
            }
            on != attachment
        });
    }

    fn set_connected(&mut self, attachment: AttachmentIndex, present: bool, now: Instant) {
        for &block in self.on_link.get(&attachment).into_iter().flatten() {
            self.rib.set_connected(block, attachment, attachment.0 as u8, present, now);
        }
    }

    fn set_peer(
        &mut self,
        config: &NeighborConfig,
        attachment: AttachmentIndex,
        now: Instant,
    ) -> Vec<Wanted> {
        let existing = self.peers.iter().find(|(_, peer)| peer.config.name == config.name);
        let Some((&index, peer)) = existing else {
            return self.add_peer(config, attachment, now);
        };
        let moved = peer.attachment != attachment;
        match effect(NEIGHBOR_FIELDS, &peer.config, config) {
            None if !moved => Vec::new(),
            Some(Effect::Live) if !moved => {
                self.change_peer(index, config, now);
                Vec::new()
            }
            _ => {
                let mut wanted = self.remove_peer(index, now);
                wanted.extend(self.add_peer(config, attachment, now));
                wanted
            }
        }
    }

    fn add_peer(
        &mut self,
        config: &NeighborConfig,
        attachment: AttachmentIndex,
        now: Instant,
    ) -> Vec<Wanted> {
        let index = PeerIndex(self.next_peer);
        self.next_peer = self.next_peer.wrapping_add(1);
        let mut session = Session::new(
            SessionConfig {
                hold: config.hold,
                connect_retry: CONNECT_RETRY,
                add_path: offers_add_path(config.kind),
                graceful_restart: config.graceful_restart,
                ..SessionConfig::new(
                    self.config.asn,
                    config.peer_asn,
                    self.router_id,
                    if config.peer.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 },
                )
            },
            self.seed ^ (u64::from(index.0) << 32) ^ u64::from(self.index.0),
        );
        if let Some(stack) = self.stacks.get_mut(&attachment) {
            stack.set_key(config.peer, config.md5.as_deref());
            stack.set_ttl(config.peer, config.ttl);
            // A session that is shut answers with RST.
            if config.enabled {
                stack.listen(config.local, config.peer);
            }
        }
        session.set_restarting(self.deferral.is_some());
        if config.enabled {
            session.start(now);
        }
        let add_path = offers_add_path(config.kind);
        self.rib.add_peer(index, rib_peer(self.config.asn, config, attachment, add_path), now);
        self.set_bfd(attachment, config, config.bfd);
        let peer = Peer {
            config: config.clone(),
            attachment,
            session,
            attempt: None,
            established: false,
            established_at: now,
            flaps: 0,
            graceful: None,
            complete: false,
            kept_until: Instant::NEVER,
            path_failed: false,
        };
        self.peers.insert(index, peer);
        vec![(attachment, config.peer, true)]
    }

    /// What changes without interrupting the session, or by shutting and opening it.
    fn change_peer(&mut self, index: PeerIndex, config: &NeighborConfig, now: Instant) {
        let Some(peer) = self.peers.get_mut(&index) else { return };
        let old = std::mem::replace(&mut peer.config, config.clone());
        let stack = self.stacks.get_mut(&peer.attachment);
        if old.enabled && !config.enabled {
            peer.session.stop(now, StopReason::AdminShutdown(String::new()));
            if let Some(stack) = stack {
                stack.unlisten(config.peer);
            }
        } else if !old.enabled && config.enabled {
            peer.session.start(now);
            if let Some(stack) = stack {
                stack.listen(config.local, config.peer);
            }
        }
        if old.import != config.import || old.export != config.export {
            self.rib.set_policy(index, config.import.clone(), config.export.clone(), now);
        }
        if old.bfd != config.bfd {
            let attachment = peer.attachment;
            self.set_bfd(attachment, config, config.bfd);
        }
        if !config.enabled {
            self.forget_kept(index, now);
        }
    }

    fn remove_peer(&mut self, index: PeerIndex, now: Instant) -> Vec<Wanted> {
        let Some(peer) = self.peers.get_mut(&index) else { return Vec::new() };
        peer.session.stop(now, StopReason::PeerDeconfigured);
        self.run_actions(index, now);
        self.lose(index, Loss::Orderly, now);
        self.rib.remove_peer(index, now);
        let peer = self.peers.remove(&index).expect("it was there");
        if let Some(stack) = self.stacks.get_mut(&peer.attachment) {
            stack.forget(peer.config.peer);
        }
        self.set_bfd(peer.attachment, &peer.config, None);
        vec![(peer.attachment, peer.config.peer, false)]
    }

    fn set_bfd(
        &mut self,
        attachment: AttachmentIndex,
        neighbor: &NeighborConfig,
        bfd: Option<BfdConfig>,
    ) {
        let session = bfd.map(|bfd| BfdParameters {
            local: neighbor.local,
            desired_min_tx: bfd.desired_min_tx,
            required_min_rx: bfd.required_min_rx,
            detect_mult: bfd.detect_mult,
        });
        self.changes.push(Change::Bfd { attachment, peer: neighbor.peer, session });
    }

    fn run_transports(&mut self, now: Instant, bytes: &mut Vec<u8>) -> bool {
        let mut moved = false;
        for attachment in self.stacks.keys().copied().collect::<Vec<_>>() {
            while let Some(event) = self.next_transport_event(attachment, now) {
                moved = true;
                self.handle_transport_event(attachment, event, bytes, now);
            }
        }
        moved
    }

    fn next_transport_event(
        &mut self,
        attachment: AttachmentIndex,
        now: Instant,
    ) -> Option<tcp::Event> {
        let stack = self.stacks.get_mut(&attachment)?;
        if stack.poll_timeout() <= now {
            stack.handle_timeout(now);
        }
        stack.poll_event()
    }

    fn handle_transport_event(
        &mut self,
        attachment: AttachmentIndex,
        event: tcp::Event,
        bytes: &mut Vec<u8>,
        now: Instant,
    ) {
        let Some(stack) = self.stacks.get_mut(&attachment) else { return };
        match event {
            tcp::Event::Connected { id, peer: address, incoming } => {
                let whose = |(_, peer): &(&PeerIndex, &mut Peer)| {
                    peer.attachment == attachment && peer.config.peer == address
                };
                let Some((&index, peer)) = self.peers.iter_mut().find(whose) else {
                    return stack.abort(id);
                };
                let direction = if incoming { Direction::Incoming } else { Direction::Outgoing };
                let transport = Transport { peer: index, unsent: Vec::new() };
                self.transports.insert((attachment, id), transport);
                peer.attempt = peer.attempt.filter(|attempt| *attempt != id);
                peer.session.handle_connected(ConnectionId(id.0), direction, now);
            }
            tcp::Event::Data(id) => {
                bytes.clear();
                stack.receive_bytes(id, bytes);
                if let Some(peer) = self.peer_of(attachment, id) {
                    peer.session.handle_bytes(ConnectionId(id.0), bytes, now);
                }
            }
            tcp::Event::Writable(id) => {
                if let Some(transport) = self.transports.get_mut(&(attachment, id)) {
                    let taken = stack.send(id, &transport.unsent);
                    transport.unsent.drain(..taken);
                }
            }
            tcp::Event::Closed(id, _) => {
                if let Some(peer) = self.peer_of(attachment, id) {
                    peer.session.handle_closed(ConnectionId(id.0), now);
                }
                self.transports.remove(&(attachment, id));
            }
        }
    }

    fn peer_of(&mut self, attachment: AttachmentIndex, id: tcp::ConnectionId) -> Option<&mut Peer> {
        let transport = self.transports.get(&(attachment, id))?;
        self.peers.get_mut(&transport.peer)
    }

    fn run_sessions(&mut self, now: Instant, log: &mut EventLog) -> bool {
        let mut moved = false;
        for index in self.peers.keys().copied().collect::<Vec<_>>() {
            moved |= self.run_actions(index, now);
            while let Some(event) =
                self.peers.get_mut(&index).and_then(|peer| peer.session.poll_event())
            {
                moved = true;
                self.handle_session_event(index, event, now, log);
            }
        }
        moved
    }

    fn run_actions(&mut self, index: PeerIndex, now: Instant) -> bool {
        let Some(peer) = self.peers.get_mut(&index) else { return false };
        let attachment = peer.attachment;
        let Some(stack) = self.stacks.get_mut(&attachment) else { return false };
        let mut moved = false;
        while let Some(action) = peer.session.poll_action() {
            moved = true;
            match action {
                Action::Connect => {
                    // The one before it is dropped (RFC 4271, 8.2.2, Connect, event 9): unanswered
                    // ones would take all the room there is for this neighbour.
                    if let Some(unanswered) = peer.attempt.take() {
                        stack.abort(unanswered);
                    }
                    match stack.connect(peer.config.local, peer.config.peer) {
                        Ok(id) => peer.attempt = Some(id),
                        Err(_) => peer.session.handle_connect_failed(now),
                    }
                }
                Action::Send(id, bytes) => {
                    let id = tcp::ConnectionId(id.0);
                    if let Some(transport) = self.transports.get_mut(&(attachment, id)) {
                        transport.unsent.extend(bytes);
                        let taken = stack.send(id, &transport.unsent);
                        transport.unsent.drain(..taken);
                    }
                }
                Action::Close(id) => {
                    self.transports.remove(&(attachment, tcp::ConnectionId(id.0)));
                    stack.close(tcp::ConnectionId(id.0));
                }
                Action::Abort(id) => {
                    self.transports.remove(&(attachment, tcp::ConnectionId(id.0)));
                    stack.abort(tcp::ConnectionId(id.0));
                }
            }
        }
        moved
    }

    fn handle_session_event(
        &mut self,
        index: PeerIndex,
        event: SessionEvent,
        now: Instant,
        log: &mut EventLog,
    ) {
        let Some(peer) = self.peers.get_mut(&index) else { return };
        let who = format!("{} {} ({})", self.config.name, peer.config.name, peer.config.peer);
        match event {
            SessionEvent::Established(agreed) => {
                peer.established = true;
                peer.established_at = now;
                peer.graceful = agreed.graceful;
                peer.complete = false;
                let kept = peer.has_kept_routes();
                let preserved = agreed.graceful.is_some_and(|graceful| graceful.preserved);
                if kept && preserved {
                    peer.kept_until = now + STALE_PATHS;
                }
                log.record(now, &self.router, EventKind::BgpUp, who);
                if kept && !preserved {
                    self.forget_kept(index, now);
                }
                // To a neighbour that does not tell paths apart, each would replace the other.
                self.rib.established(index, agreed.peer_id, agreed.add_path.send, now);
            }
            SessionEvent::Update(update) => {
                self.rib.update(index, &update, now);
                if update.end_of_rib {
                    peer.complete = true;
                    self.forget_kept(index, now);
                }
            }
            SessionEvent::Malformed(fault) => {
                log.record(
                    now,
                    &self.router,
                    EventKind::Refused,
                    format!("{who}: {:?}: {}", fault.disposition, fault.why),
                );
            }
            SessionEvent::RefreshRequested => self.rib.refresh(index),
            SessionEvent::RefreshBegins | SessionEvent::RefreshEnds => {}
            SessionEvent::Down(reason) => {
                let keep = reason.keep.filter(|_| peer.established && !peer.path_failed);
                let kept = keep.map(|keep| format!("; its routes are kept for {keep:?}"));
                let detail = format!("{who}: {}{}", reason.text, kept.unwrap_or_default());
                log.record(now, &self.router, EventKind::BgpDown, detail);
                match keep {
                    Some(keep) => self.lose_and_keep(index, keep, now),
                    None if reason.orderly => self.lose(index, Loss::Orderly, now),
                    None => self.lose(index, Loss::Failed, now),
                }
            }
        }
    }

    /// The session is down, and with it goes all that its neighbour announced.
    fn lose(&mut self, index: PeerIndex, loss: Loss, now: Instant) {
        let Some(peer) = self.peers.get_mut(&index) else { return };
        peer.kept_until = Instant::NEVER;
        peer.flaps += u32::from(std::mem::take(&mut peer.established));
        self.rib.closed(index, loss, now);
    }

    /// The session is down, and its neighbour's control starts again while its forwarding goes on
    /// (RFC 4724, 4.2). Routes still kept from the time before that go.
    fn lose_and_keep(&mut self, index: PeerIndex, keep: Duration, now: Instant) {
        self.forget_kept(index, now);
        let Some(peer) = self.peers.get_mut(&index) else { return };
        peer.established = false;
        peer.flaps += 1;
        peer.kept_until = now + keep;
        self.rib.kept(index, now);
    }

    /// Ends the keeping of routes: of a neighbour that is back, those that it has not announced
    /// again go, and of another one all.
    fn forget_kept(&mut self, index: PeerIndex, now: Instant) {
        let Some(peer) = self.peers.get_mut(&index) else { return };
        if !peer.has_kept_routes() {
            return;
        }
        peer.kept_until = Instant::NEVER;
        if peer.established && self.rib.is_up(index) {
            self.rib.forget_stale(index, now);
        } else {
            self.rib.closed(index, Loss::Failed, now);
        }
    }

    /// Whether a domain that starts again still learns. When it has, all that it learned counts at
    /// once.
    fn is_deferring(&mut self, now: Instant) -> bool {
        let Some(until) = self.deferral else { return false };
        if now < until && self.peers.values().any(Peer::is_awaited) {
            return true;
        }
        self.deferral = None;
        self.peers.values_mut().for_each(|peer| peer.session.set_restarting(false));
        self.rib.handle_timeout(now);
        false
    }

    /// FIB changes first, then what may be advertised because of them.
    fn run_rib(&mut self, now: Instant, log: &mut EventLog) -> bool {
        if self.is_deferring(now) {
            return false;
        }
        let changes = self.rib.poll_changes();
        let mut moved = !changes.is_empty();
        self.log_changes(&changes, now, log);
        self.changes.extend(changes);
        for (&index, peer) in self.peers.iter_mut().filter(|(_, peer)| peer.established) {
            let mine = self.transports.values().filter(|transport| transport.peer == index);
            let unsent: usize = mine.map(|transport| transport.unsent.len()).sum();
            let (mut announced, mut withdrawn) = (0, 0);
            while unsent + peer.session.backlog_bytes() < BACKLOG_MAX
                && let Some(update) = self.rib.poll_export(index)
            {
                announced += update.announced.len();
                withdrawn += update.withdrawn.len();
                if let Err(error) = peer.session.send_update(&update, now) {
                    let detail = format!("{}: not sent: {error}", peer.config.name);
                    log.record(now, &self.router, EventKind::Refused, detail);
                }
                moved = true;
            }
            for (count, kind) in
                [(withdrawn, EventKind::RoutesWithdrawn), (announced, EventKind::RoutesAnnounced)]
            {
                if count > 0 {
                    let detail = format!("{}: {count} to {}", self.config.name, peer.config.name);
                    log.record(now, &self.router, kind, detail);
                }
            }
        }
        moved
    }

    fn log_changes(&self, changes: &[Change], now: Instant, log: &mut EventLog) {
        let count = |present: bool| {
            let is = |change: &&Change| matches!(change, Change::Route { group, .. } if group.is_some() == present);
            changes.iter().filter(is).count()
        };
        let (set, removed) = (count(true), count(false));
        if set + removed > 0 {
            let detail = format!("{}: {set} set, {removed} removed", self.config.name);
            log.record(now, &self.router, EventKind::FibUpdated, detail);
        }
    }

    fn peers_on(&mut self, attachment: AttachmentIndex) -> Vec<(PeerIndex, &mut Peer)> {
        let on = |(&index, peer)| (index, peer);
        self.peers.iter_mut().filter(|(_, peer)| peer.attachment == attachment).map(on).collect()
    }
}

/// A gateway tells a VNet the ways over all its MSEEs, so that flows are shared (9.6).
fn offers_add_path(kind: NeighborKind) -> bool {
    kind == NeighborKind::EffectiveRoutes
}

/// A neighbour as the RIB knows it.
fn rib_peer(
    local_asn: Asn,
    config: &NeighborConfig,
    attachment: AttachmentIndex,
    add_path: bool,
) -> rib::Peer {
    rib::Peer {
        name: config.name.clone(),
        kind: config.kind,
        attachment,
        local: config.local,
        peer: config.peer,
        local_asn,
        peer_asn: config.peer_asn,
        ordinal: config.ordinal,
        import: config.import.clone(),
        export: config.export.clone(),
        add_path,
    }
}

/// The destination of an IP packet.
fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => {
            let octets: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            Some(Ipv4Addr::from(octets).into())
        }
        6 => {
            let octets: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;

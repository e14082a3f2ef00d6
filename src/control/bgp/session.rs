//! One BGP session: the state machine of RFC 4271, 8 with its timers and connection collisions.
//!
//! The caller owns the connections. It tells the session what happened to them and hands it their
//! bytes; the session says through [`Session::poll_action`] what to do with them and through
//! [`Session::poll_event`] what the RIB should know. After each call the caller empties both.
//!
//! The state of RFC 4271 is that of the connection that is furthest; with no connection it is the
//! session's own effort to get one. Two connections at once are settled as soon as the peer's
//! identifier is known on either; a connection that opens behind one in OpenConfirm waits in
//! silence (`Parked`). So both ends always keep the same one, in whatever order their events come,
//! which the rule of RFC 4271, 6.8 alone does not ensure.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

use thiserror::Error;

use crate::control::bgp::codec::{self, Context, EncodeError};
use crate::control::bgp::connection::{Connection, ConnectionId, Direction, Phase, admit};
use crate::control::bgp::interner::Interner;
use crate::control::bgp::message::{
    AddPath, Disposition, Family, Fault, GracefulOffer, Kind, Message, Notification, Open,
    RouteRefresh, SAFI_UNICAST, code, subcode,
};
use crate::control::route::Update;
use crate::model::{Asn, GracefulRestart, Instant, Random};

/// What a session is to be. Fixed for its life; another configuration is another session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionConfig {
    pub local_asn: Asn,
    pub peer_asn: Asn,
    pub router_id: Ipv4Addr,
    pub family: Family,
    /// Hold time offered, whole seconds: 0 for none, or 3 and more (L-11).
    pub hold: Duration,
    /// Waits for the peer to connect and never does so itself.
    pub passive: bool,
    /// Between two attempts to connect, shortened at random by up to a quarter.
    pub connect_retry: Duration,
    /// Routes of an external peer have to begin with its AS (RFC 4271, 6.3).
    pub enforce_first_as: bool,
    /// Offers to send and to receive several paths of a prefix (RFC 7911).
    pub add_path: bool,
    pub graceful_restart: GracefulRestart,
}

impl SessionConfig {
    /// Hold time 180 s (F-47), connecting actively every 5 s, first AS enforced, one path of a
    /// prefix, no graceful restart.
    pub fn new(local_asn: Asn, peer_asn: Asn, router_id: Ipv4Addr, family: Family) -> Self {
        Self {
            local_asn,
            peer_asn,
            router_id,
            family,
            hold: Duration::from_mins(3),
            passive: false,
            connect_retry: Duration::from_secs(5),
            enforce_first_as: true,
            add_path: false,
            graceful_restart: GracefulRestart::Off,
        }
    }

    pub fn is_internal(&self) -> bool {
        self.local_asn == self.peer_asn
    }

    const fn add_path_offer(&self) -> AddPath {
        if self.add_path { AddPath::BOTH } else { AddPath::NONE }
    }

    /// What both ends' offers of graceful restart come to.
    fn graceful_with(&self, peer: &Open) -> Option<Graceful> {
        let offer = peer.graceful.as_ref()?;
        let preserved = offer.preserved(self.family);
        let keep = preserved.map(|_| Duration::from_secs(offer.restart_secs.into()));
        (self.graceful_restart != GracefulRestart::Off).then_some(Graceful {
            restarted: offer.restarted,
            preserved: preserved == Some(true),
            keep,
        })
    }
}

/// The states of RFC 4271, 8.2.2.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum State {
    Idle,
    Connect,
    Active,
    OpenSent,
    OpenConfirm,
    Established,
}

/// What a session does to get a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Effort {
    Idle,
    Connect,
    Active,
}

/// Why the router ends a session. What the peer is told is a Cease (RFC 4486, RFC 9003, RFC 9384).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StopReason {
    /// Stays down until [`Session::start`]; the text reaches the peer, cut to 128 octets.
    AdminShutdown(String),
    /// Comes back by itself.
    AdminReset(String),
    /// Stays down until [`Session::start`]: when to try again is the caller's (section 20).
    MaxPrefixes { limit: u32 },
    /// Comes back by itself: whether the path works is found out by connecting. For an established
    /// session; one that is coming up need not be stopped for it.
    BfdDown,
    /// Stays down.
    PeerDeconfigured,
    /// Comes back by itself, unless the caller drops this session for another one.
    ConfigChange,
}

impl StopReason {
    fn notification(&self, family: Family) -> Notification {
        let cease = |subcode| Notification::new(code::CEASE, subcode);
        let saying = |subcode, text: &str| {
            Notification::with_data(code::CEASE, subcode, codec::shutdown_communication(text))
        };
        match self {
            Self::AdminShutdown(text) => saying(subcode::cease::ADMIN_SHUTDOWN, text),
            Self::AdminReset(text) => saying(subcode::cease::ADMIN_RESET, text),
            Self::MaxPrefixes { limit } => {
                // AFI, SAFI and the bound (RFC 4486, 4).
                let mut data = family.afi().to_be_bytes().to_vec();
                data.push(SAFI_UNICAST);
                data.extend(limit.to_be_bytes());
                Notification::with_data(code::CEASE, subcode::cease::MAX_PREFIXES, data)
            }
            Self::BfdDown => cease(subcode::cease::BFD_DOWN),
            Self::PeerDeconfigured => cease(subcode::cease::PEER_DECONFIGURED),
            Self::ConfigChange => cease(subcode::cease::CONFIG_CHANGE),
        }
    }

    fn comes_back(&self) -> bool {
        match self {
            Self::AdminShutdown(_) | Self::MaxPrefixes { .. } | Self::PeerDeconfigured => false,
            Self::AdminReset(_) | Self::BfdDown | Self::ConfigChange => true,
        }
    }
}

/// What the caller is to do with connections, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Open a connection to the peer, giving up an attempt that is still under way; then
    /// [`Session::handle_connected`] or [`Session::handle_connect_failed`].
    Connect,
    /// Whole messages.
    Send(ConnectionId, Vec<u8>),
    /// Close after what was sent has left. The session has forgotten the connection.
    Close(ConnectionId),
    /// Close at once. The session has forgotten the connection.
    Abort(ConnectionId),
}

/// What the RIB should know, in order. `Established` and `Down` alternate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SessionEvent {
    Established(Established),
    Update(Update),
    /// The peer wants everything again: send it and finish with `end_of_rib`.
    RefreshRequested,
    /// The peer begins to send everything again (RFC 7313).
    RefreshBegins,
    /// What was not sent since the last `RefreshBegins` is gone (RFC 7313).
    RefreshEnds,
    /// An UPDATE was malformed and the session goes on (RFC 7606). What is left of it follows as
    /// `Update`; of treat-as-withdraw that is withdrawals.
    Malformed(Fault),
    Down(DownReason),
}

/// What was agreed with the peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Established {
    pub peer_id: Ipv4Addr,
    /// The lower of both offers; zero for none.
    pub hold: Duration,
    /// A third of `hold`.
    pub keepalive: Duration,
    pub four_octet: bool,
    pub route_refresh: bool,
    pub enhanced_refresh: bool,
    /// Where prefixes have path identifiers. Several paths of a prefix may be sent only if they
    /// have them in that direction.
    pub add_path: AddPath,
    /// What the peer says of restarts, when both ends do.
    pub graceful: Option<Graceful>,
}

/// The peer's part in graceful restart, for the session's family (RFC 4724).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Graceful {
    /// It has started again and does not send End-of-RIB before it has got one.
    pub restarted: bool,
    /// Its forwarding has what it had before: routes kept for it may stay until it has sent
    /// End-of-RIB.
    pub preserved: bool,
    /// How long its routes are to be kept when it is gone; `None` when they are not.
    pub keep: Option<Duration>,
}

/// Why an established session ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DownReason {
    /// One end ended it on purpose: routes may stay in use while it lingers. A loss by BFD, by the
    /// hold timer or of the connection is not orderly.
    pub orderly: bool,
    /// How long the peer's routes may stay in use, because its forwarding does and it comes back
    /// (RFC 4724, 4.2). Only of a lost connection: a NOTIFICATION ends it, in either direction.
    pub keep: Option<Duration>,
    pub cause: Cause,
    pub text: String,
}

/// Who ended it and with what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    Sent { code: u8, subcode: u8 },
    Received { code: u8, subcode: u8 },
    ConnectionLost,
}

impl Cause {
    fn is_collision(self) -> bool {
        self.cease() == Some(subcode::cease::COLLISION)
    }

    /// Administrative shutdown, reset, and removal from the configuration, by either end.
    fn is_orderly(self) -> bool {
        let orderly = [
            subcode::cease::ADMIN_SHUTDOWN,
            subcode::cease::PEER_DECONFIGURED,
            subcode::cease::ADMIN_RESET,
        ];
        self.cease().is_some_and(|subcode| orderly.contains(&subcode))
    }

    /// The subcode of a Cease (RFC 4486), of either end.
    const fn cease(self) -> Option<u8> {
        match self {
            Self::Sent { code: code::CEASE, subcode }
            | Self::Received { code: code::CEASE, subcode } => Some(subcode),
            Self::Sent { .. } | Self::Received { .. } | Self::ConnectionLost => None,
        }
    }
}

/// Why an update was not taken. Nothing of it was sent.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum SendError {
    #[error("the session is not established")]
    NotEstablished,
    #[error("{0} octets wait to be sent already")]
    Backlog(usize),
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// What is shown of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    pub state: State,
    /// When it became established, while it is.
    pub established_at: Option<Instant>,
    /// What was agreed, while it is established.
    pub agreed: Option<Established>,
    pub messages_in: u64,
    pub messages_out: u64,
    pub updates_in: u64,
    /// How often it was established.
    pub times_established: u64,
    /// The last thing that went wrong; empty when nothing has.
    pub last_error: String,
}

/// One neighbour.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    random: Random,
    interner: Interner,
    effort: Effort,
    /// When Idle ends; `NEVER` when only [`Session::start`] ends it.
    idle_until: Instant,
    retry_at: Instant,
    /// Protocol errors in a row; each doubles the pause after it.
    failures: u32,
    /// At most two, at most one of them ahead of `OpenSent`.
    connections: Vec<Connection>,
    actions: VecDeque<Action>,
    events: VecDeque<SessionEvent>,
    /// Encoded for the established connection.
    updates: Vec<u8>,
    /// The R bit of the next OPEN.
    restarting: bool,
    /// The F bit of the next OPEN.
    preserved: bool,
    /// Whether the End-of-RIB marker after establishment has been sent.
    marker_sent: bool,
    /// Requests of the peer that the RIB has not finished answering.
    refreshes_owed: u32,
    established_at: Option<Instant>,
    agreed: Option<Established>,
    messages_in: u64,
    messages_out: u64,
    updates_in: u64,
    times_established: u64,
    last_error: String,
}

impl Session {
    /// Octets waiting to be sent above which [`Session::send_update`] refuses more.
    pub const BACKLOG_LIMIT: usize = 256 * 1024;
    /// Events nobody has taken, above which the session ends itself (out of resources).
    pub const EVENT_LIMIT: usize = 65_536;

    /// How long after a session came up the peer may still open a connection that it began before.
    const COLLISIONS: Duration = Duration::from_secs(5);
    /// How long an own restart may take, as it is offered (an assumption; the usual default).
    const RESTART_SECS: u16 = 120;
    /// Longest wait for the peer's OPEN (RFC 4271, 8.2.2: a large value, 4 minutes).
    const OPEN_WAIT: Duration = Duration::from_mins(4);
    /// The first attempt comes within this time, so that two ends seldom try at the same moment.
    const INITIAL_DELAY: Duration = Duration::from_secs(1);
    /// Pause after a loss, and after the first of several errors.
    const IDLE_HOLD: Duration = Duration::from_secs(1);
    const MAX_IDLE_HOLD: Duration = Duration::from_mins(1);
    /// An established session this old has recovered from earlier errors.
    const STABLE_AFTER: Duration = Duration::from_mins(1);
    const MAX_CONNECTIONS: usize = 2;

    /// A session that is not started. Equal seeds give equal timers, so each neighbour has its own.
    pub fn new(config: SessionConfig, seed: u64) -> Self {
        let name = format!("bgp {} {:?} {}", config.router_id, config.family, config.peer_asn);
        Self {
            random: Random::new(seed, &name),
            config,
            interner: Interner::new(),
            effort: Effort::Idle,
            idle_until: Instant::NEVER,
            retry_at: Instant::NEVER,
            failures: 0,
            connections: Vec::new(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            updates: Vec::new(),
            restarting: false,
            preserved: false,
            marker_sent: false,
            refreshes_owed: 0,
            established_at: None,
            agreed: None,
            messages_in: 0,
            messages_out: 0,
            updates_in: 0,
            times_established: 0,
            last_error: String::new(),
        }
    }

    /// Leaves Idle; nothing when it has been left.
    pub fn start(&mut self, now: Instant) {
        if self.effort == Effort::Idle {
            self.failures = 0;
            self.seek(now, Self::INITIAL_DELAY, 0);
        }
    }

    /// Says in the next OPEN whether this router's control has started again over forwarding that
    /// went on, and still waits for its neighbours' routes.
    pub const fn set_restarting(&mut self, restarting: bool) {
        self.restarting = restarting;
        self.preserved |= restarting;
    }

    /// Ends every connection with a Cease and goes to Idle; whether it leaves Idle again by itself
    /// is the reason's.
    pub fn stop(&mut self, now: Instant, reason: StopReason) {
        let was_started = self.effort != Effort::Idle || self.idle_until != Instant::NEVER;
        let notification = reason.notification(self.config.family);
        while let Some(connection) = self.connections.first() {
            let id = connection.id;
            self.end_with(id, notification.clone(), now);
        }
        self.rest(Instant::NEVER);
        if reason.comes_back() && was_started {
            self.rest_for(now, Self::IDLE_HOLD);
        }
    }

    /// A connection to or from the peer is open.
    pub fn handle_connected(&mut self, id: ConnectionId, direction: Direction, now: Instant) {
        let ahead = self.connections.iter().any(Connection::is_ahead);
        let late = direction == Direction::Outgoing
            && (self.config.passive || self.state() == State::Established);
        if self.effort == Effort::Idle || late {
            self.actions.push_back(Action::Abort(id));
            return;
        }
        // The peer has one attempt under way at a time, so an older one that is not ahead is dead
        // at its end.
        while let Some(older) = self.connections.iter().position(|each| {
            !each.is_ahead()
                && (each.direction == direction || self.connections.len() >= Self::MAX_CONNECTIONS)
        }) {
            let older = self.connections.remove(older);
            self.actions.push_back(Action::Abort(older.id));
        }
        if direction == Direction::Outgoing {
            self.effort = Effort::Active;
            self.retry_at = Instant::NEVER;
        }
        self.connections.push(Connection {
            id,
            direction,
            since: now,
            phase: Phase::Parked,
            input: Vec::new(),
            hold: Duration::ZERO,
            hold_at: now + Self::OPEN_WAIT,
            keepalive_at: Instant::NEVER,
            peer: None,
            context: Context {
                family: self.config.family,
                four_octet: true,
                internal: self.config.is_internal(),
                add_path: AddPath::NONE,
            },
        });
        if !ahead {
            self.open(id, now);
        }
    }

    /// The attempt that [`Action::Connect`] asked for came to nothing.
    pub fn handle_connect_failed(&mut self, now: Instant) {
        match self.effort {
            Effort::Connect => self.seek(now, self.config.connect_retry, 75),
            // Of an attempt that was given up.
            Effort::Idle | Effort::Active => {}
        }
    }

    /// The connection is gone, by the peer's doing or the network's.
    pub fn handle_closed(&mut self, id: ConnectionId, now: Instant) {
        let Some(connection) = self.take(id) else { return };
        match connection.phase {
            Phase::Parked | Phase::OpenSent => self.seek_again(now),
            Phase::OpenConfirm | Phase::Established => {
                let text = "connection lost".to_owned();
                self.finish(&connection, Cause::ConnectionLost, text, now);
            }
        }
    }

    /// Bytes of the connection's stream, in order; messages may be split anywhere.
    pub fn handle_bytes(&mut self, id: ConnectionId, bytes: &[u8], now: Instant) {
        let Some(connection) = self.connection(id) else { return };
        let mut input = std::mem::take(&mut connection.input);
        input.extend_from_slice(bytes);
        let mut rest = &input[..];
        while let Some(connection) = self.connection(id) {
            match codec::frame(rest) {
                Ok(Some((length, kind))) if length <= rest.len() => {
                    let (message, later) = rest.split_at(length);
                    rest = later;
                    self.receive(id, kind, message, now);
                }
                Ok(_) => {
                    connection.input = rest.to_vec();
                    return;
                }
                Err(notification) => self.end_with(id, notification, now),
            }
        }
    }

    /// Runs what is due; a call before [`Session::poll_timeout`] does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.effort == Effort::Idle && self.idle_until <= now {
            self.seek(now, Duration::ZERO, 0);
        }
        if self.retry_at <= now {
            self.effort = Effort::Connect;
            self.retry_at = self.jittered_retry(now);
            self.actions.push_back(Action::Connect);
        }
        for id in self.ids() {
            let expired = self.connection(id).is_some_and(|connection| connection.hold_at <= now);
            if expired {
                self.end_with(id, Notification::new(code::HOLD_TIMER_EXPIRED, 0), now);
            }
        }
        for id in self.ids() {
            let due = self.connection(id).is_some_and(|each| each.keepalive_at <= now);
            if due {
                self.send(id, &Message::Keepalive);
                self.restart_keepalive(id, now);
            }
        }
    }

    /// When [`Session::handle_timeout`] must next be called.
    pub fn poll_timeout(&self) -> Instant {
        let idle = if self.effort == Effort::Idle { self.idle_until } else { Instant::NEVER };
        let connections = self.connections.iter().map(|each| each.hold_at.min(each.keepalive_at));
        connections.chain([idle, self.retry_at]).min().expect("two are always there")
    }

    /// The next thing to do. Updates come after everything else that is to be done.
    pub fn poll_action(&mut self) -> Option<Action> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        if self.updates.is_empty() {
            return None;
        }
        let id = self.established()?.id;
        Some(Action::Send(id, std::mem::take(&mut self.updates)))
    }

    pub fn poll_event(&mut self) -> Option<SessionEvent> {
        self.events.pop_front()
    }

    /// Encodes and queues an update, with as many prefixes to a message as fit. An update with
    /// `end_of_rib` ends the first table after establishment, or the answer to a
    /// `RefreshRequested`; each of those is to be ended by one.
    pub fn send_update(&mut self, update: &Update, now: Instant) -> Result<(), SendError> {
        let connection = self.established().ok_or(SendError::NotEstablished)?;
        let (id, context) = (connection.id, connection.context);
        if self.updates.len() > Self::BACKLOG_LIMIT {
            return Err(SendError::Backlog(self.updates.len()));
        }
        let is_answer = update.end_of_rib && self.marker_sent && self.refreshes_owed > 0;
        let before = self.updates.len();
        if is_answer {
            let routes = Update { end_of_rib: false, ..update.clone() };
            codec::encode_update(&routes, context, &mut self.updates)?;
            self.end_refresh();
        } else {
            codec::encode_update(update, context, &mut self.updates)?;
            self.marker_sent |= update.end_of_rib;
        }
        self.messages_out += messages_in(&self.updates[before..]);
        if self.updates.len() > before {
            self.restart_keepalive(id, now);
        }
        Ok(())
    }

    /// Asks the peer for its table again. Whether it can be asked.
    pub fn request_refresh(&mut self) -> bool {
        let can = self.agreed.as_ref().is_some_and(|agreed| agreed.route_refresh);
        if can {
            self.queue_refresh(RouteRefresh::Request(self.config.family));
        }
        can
    }

    /// Octets of updates not yet taken by [`Session::poll_action`]; feed no more above
    /// [`Session::BACKLOG_LIMIT`], counting what the caller itself holds back.
    pub fn backlog_bytes(&self) -> usize {
        self.updates.len()
    }

    pub fn state(&self) -> State {
        let furthest = self.connections.iter().map(|each| each.phase).max();
        match furthest {
            None | Some(Phase::Parked) => match self.effort {
                Effort::Idle => State::Idle,
                Effort::Connect => State::Connect,
                Effort::Active => State::Active,
            },
            Some(Phase::OpenSent) => State::OpenSent,
            Some(Phase::OpenConfirm) => State::OpenConfirm,
            Some(Phase::Established) => State::Established,
        }
    }

    pub fn config(&self) -> &SessionConfig {
        &self.config
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            state: self.state(),
            established_at: self.established_at,
            agreed: self.agreed.clone(),
            messages_in: self.messages_in,
            messages_out: self.messages_out,
            updates_in: self.updates_in,
            times_established: self.times_established,
            last_error: self.last_error.clone(),
        }
    }

    // Messages.

    fn receive(&mut self, id: ConnectionId, kind: Kind, message: &[u8], now: Instant) {
        self.messages_in += 1;
        let Some(connection) = self.connection(id) else { return };
        let decoded = admit(connection.phase, kind)
            .and_then(|()| codec::decode(message, kind, connection.context));
        match decoded {
            Err(notification) => self.end_with(id, notification, now),
            Ok((Message::Open(open), _)) => self.receive_open(id, open, now),
            Ok((Message::Keepalive, _)) => self.receive_keepalive(id, now),
            Ok((Message::Update(updates), fault)) => self.receive_update(id, updates, fault, now),
            Ok((Message::RouteRefresh(refresh), _)) => self.receive_refresh(refresh),
            Ok((Message::Notification(received), _)) => {
                self.receive_notification(id, &received, now);
            }
        }
        if self.events.len() > Self::EVENT_LIMIT {
            let resources = Notification::new(code::CEASE, subcode::cease::OUT_OF_RESOURCES);
            self.end_with(id, resources, now);
        }
    }

    fn receive_open(&mut self, id: ConnectionId, open: Open, now: Instant) {
        if let Err(notification) = self.check_open(&open) {
            self.end_with(id, notification, now);
            return;
        }
        if !self.survives_collision(id, &open, now) {
            return;
        }
        if self.connection(id).is_some_and(|each| each.phase == Phase::Parked) {
            self.open(id, now);
        }
        self.send(id, &Message::Keepalive);
        self.effort = Effort::Active;
        self.retry_at = Instant::NEVER;
        let hold = self.config.hold.min(Duration::from_secs(open.hold.into()));
        let peer_offer = open.add_path_of(self.config.family);
        let add_path = self.config.add_path_offer().agreed(peer_offer);
        let connection = self.connection(id).expect("it survived");
        connection.phase = Phase::OpenConfirm;
        connection.context.four_octet = open.four_octet;
        connection.context.add_path = add_path;
        connection.peer = Some(open);
        connection.hold = hold;
        connection.hold_at = after(now, hold);
        self.restart_keepalive(id, now);
    }

    /// RFC 4271, 6.2; RFC 6286, 2.2; RFC 7607, 2; RFC 5492, 5.
    fn check_open(&self, open: &Open) -> Result<(), Notification> {
        let refuse = |subcode| Err(Notification::new(code::OPEN, subcode));
        if open.asn != self.config.peer_asn.get() {
            return refuse(subcode::open::BAD_PEER_AS);
        }
        let own = self.config.is_internal() && open.id == self.config.router_id;
        if open.id.is_unspecified() || own {
            return refuse(subcode::open::BAD_IDENTIFIER);
        }
        if matches!(open.hold, 1 | 2) {
            return refuse(subcode::open::UNACCEPTABLE_HOLD_TIME);
        }
        if !open.families.contains(&self.config.family) {
            // The capability that is missed, as it would have been offered.
            let [high, low] = self.config.family.afi().to_be_bytes();
            return Err(Notification::with_data(
                code::OPEN,
                subcode::open::UNSUPPORTED_CAPABILITY,
                [1, 4, high, low, 0, SAFI_UNICAST],
            ));
        }
        Ok(())
    }

    /// Settles which of two connections stays (RFC 4271, 6.8): an established one, else the one
    /// opened by the end with the higher identifier, between equal ones by the one with the higher
    /// AS (RFC 6286, 2.3). False when it is not `id`, which has then been ended.
    fn survives_collision(&mut self, id: ConnectionId, open: &Open, now: Instant) -> bool {
        let Some(other) = self.connections.iter().find(|each| each.id != id) else { return true };
        let other_id = other.id;
        if self.is_of_a_restart(id) {
            // The peer knows nothing of the other one (RFC 4724, 5).
            let other = self.take(other_id).expect("it was just found");
            self.actions.push_back(Action::Abort(other_id));
            let text = "the peer has started again".to_owned();
            self.finish(&other, Cause::ConnectionLost, text, now);
            return true;
        }
        let local = (self.config.router_id, self.config.local_asn.get());
        let preferred =
            if local > (open.id, open.asn) { Direction::Outgoing } else { Direction::Incoming };
        let stays = other.phase != Phase::Established && other.direction != preferred;
        let loser = if stays { other_id } else { id };
        self.end_with(loser, Notification::new(code::CEASE, subcode::cease::COLLISION), now);
        stays
    }

    /// Whether a connection is of a peer that has started again, while its session is believed to
    /// be up. One that comes soon after that is of a collision.
    fn is_of_a_restart(&self, id: ConnectionId) -> bool {
        let Some(established_at) = self.established_at else { return false };
        let connection = self.connections.iter().find(|each| each.id == id);
        let late = |connection: &Connection| connection.since >= established_at + Self::COLLISIONS;
        self.keep().is_some() && connection.is_some_and(late)
    }

    fn receive_keepalive(&mut self, id: ConnectionId, now: Instant) {
        let Some(connection) = self.connection(id) else { return };
        connection.hold_at = after(now, connection.hold);
        if connection.phase == Phase::OpenConfirm {
            self.establish(id, now);
        }
    }

    fn establish(&mut self, id: ConnectionId, now: Instant) {
        let config = self.config.clone();
        let Some(connection) = self.connection(id) else { return };
        connection.phase = Phase::Established;
        let peer = connection.peer.as_ref().expect("it is known from OpenConfirm on");
        let agreed = Established {
            peer_id: peer.id,
            hold: connection.hold,
            keepalive: connection.hold / 3,
            four_octet: peer.four_octet,
            route_refresh: peer.route_refresh,
            enhanced_refresh: peer.enhanced_refresh,
            add_path: connection.context.add_path,
            graceful: config.graceful_with(peer),
        };
        for other in self.ids().into_iter().filter(|&other| other != id) {
            self.take(other);
            self.actions.push_back(Action::Close(other));
        }
        self.established_at = Some(now);
        self.times_established += 1;
        self.preserved = true;
        self.marker_sent = false;
        self.refreshes_owed = 0;
        self.agreed = Some(agreed.clone());
        self.events.push_back(SessionEvent::Established(agreed));
    }

    fn receive_update(
        &mut self,
        id: ConnectionId,
        mut updates: Vec<Update>,
        fault: Option<Fault>,
        now: Instant,
    ) {
        self.updates_in += 1;
        if let Some(connection) = self.connection(id) {
            connection.hold_at = after(now, connection.hold);
        }
        // Attributes are there only while no fault is as strong as this one.
        if let Some(fault) = self.check_first_as(&updates).or(fault) {
            if fault.disposition == Disposition::TreatAsWithdraw {
                updates.iter_mut().for_each(codec::treat_as_withdraw);
            }
            self.last_error = format!("UPDATE {}/{}: {}", code::UPDATE, fault.subcode, fault.why);
            self.events.push_back(SessionEvent::Malformed(fault));
        }
        for mut update in updates {
            update.attributes = update.attributes.map(|found| self.interner.intern(found));
            self.events.push_back(SessionEvent::Update(update));
        }
    }

    /// The updates of one message have the same attributes, where they have any.
    fn check_first_as(&self, updates: &[Update]) -> Option<Fault> {
        let attributes = updates.iter().find_map(|update| update.attributes.as_ref())?;
        let first = attributes.as_path.first();
        let exempt = self.config.is_internal() || !self.config.enforce_first_as;
        if exempt || first == Some(self.config.peer_asn) {
            return None;
        }
        Some(Fault {
            disposition: Disposition::TreatAsWithdraw,
            subcode: subcode::update::MALFORMED_AS_PATH,
            why: format!(
                "the path {:?} does not begin with the peer's AS {}",
                attributes.as_path.to_string(),
                self.config.peer_asn
            ),
        })
    }

    fn receive_refresh(&mut self, refresh: RouteRefresh) {
        let enhanced = self.agreed.as_ref().is_some_and(|agreed| agreed.enhanced_refresh);
        let own = self.config.family;
        match refresh {
            RouteRefresh::Request(family) if family == own => {
                self.refreshes_owed = self.refreshes_owed.saturating_add(1);
                if enhanced {
                    self.queue_refresh(RouteRefresh::Begin(family));
                }
                self.events.push_back(SessionEvent::RefreshRequested);
            }
            RouteRefresh::Begin(family) if family == own && enhanced => {
                self.events.push_back(SessionEvent::RefreshBegins);
            }
            RouteRefresh::End(family) if family == own && enhanced => {
                self.events.push_back(SessionEvent::RefreshEnds);
            }
            RouteRefresh::Request(_)
            | RouteRefresh::Begin(_)
            | RouteRefresh::End(_)
            | RouteRefresh::Unknown => {}
        }
    }

    fn receive_notification(&mut self, id: ConnectionId, received: &Notification, now: Instant) {
        let Some(connection) = self.take(id) else { return };
        self.actions.push_back(Action::Close(id));
        let text = format!("received {}", codec::describe(received));
        let cause = Cause::Received { code: received.code, subcode: received.subcode };
        self.finish(&connection, cause, text, now);
    }

    /// Sends the NOTIFICATION and closes.
    fn end_with(&mut self, id: ConnectionId, notification: Notification, now: Instant) {
        let text = format!("sent {}", codec::describe(&notification));
        let cause = Cause::Sent { code: notification.code, subcode: notification.subcode };
        self.send(id, &Message::Notification(notification));
        let Some(connection) = self.take(id) else { return };
        self.actions.push_back(Action::Close(id));
        self.finish(&connection, cause, text, now);
    }

    /// What an ended connection means for the session.
    fn finish(&mut self, ended: &Connection, cause: Cause, text: String, now: Instant) {
        if ended.phase == Phase::Established {
            self.recover(now);
            self.went_down(cause, text);
        } else if !cause.is_collision() {
            self.last_error = text;
        }
        let pause = self.pause_after(cause);
        self.pause(now, pause);
    }

    /// Errors of the protocol would come again at once, so each doubles the pause; a peer that was
    /// shut down is not pressed either.
    fn pause_after(&mut self, cause: Cause) -> Duration {
        match cause {
            Cause::ConnectionLost => Self::IDLE_HOLD,
            _ if cause.is_collision() => Self::IDLE_HOLD,
            Cause::Sent { code: code::HOLD_TIMER_EXPIRED, .. }
            | Cause::Received { code: code::HOLD_TIMER_EXPIRED, .. } => Self::IDLE_HOLD,
            Cause::Sent { code: code::CEASE, .. } | Cause::Received { code: code::CEASE, .. } => {
                self.config.connect_retry
            }
            Cause::Sent { .. } | Cause::Received { .. } => {
                let doubled = Self::IDLE_HOLD.saturating_mul(1 << self.failures.min(6));
                self.failures = self.failures.saturating_add(1);
                doubled.min(Self::MAX_IDLE_HOLD)
            }
        }
    }

    fn recover(&mut self, now: Instant) {
        let stable = self.established_at.is_some_and(|at| now - at >= Self::STABLE_AFTER);
        if stable {
            self.failures = 0;
        }
    }

    /// How long the peer's routes are to be kept if it is gone without a word.
    fn keep(&self) -> Option<Duration> {
        self.agreed.as_ref()?.graceful?.keep
    }

    fn went_down(&mut self, cause: Cause, text: String) {
        let keep = self.keep().filter(|_| cause == Cause::ConnectionLost);
        self.established_at = None;
        self.agreed = None;
        self.updates.clear();
        self.last_error.clone_from(&text);
        let orderly = cause.is_orderly();
        self.events.push_back(SessionEvent::Down(DownReason { orderly, keep, cause, text }));
    }

    // Effort.

    /// Looks for a connection, actively after a random part of `delay`, at least `low` percent.
    fn seek(&mut self, now: Instant, delay: Duration, low: u64) {
        self.effort = Effort::Active;
        self.retry_at = if self.config.passive {
            Instant::NEVER
        } else {
            now + self.random.jittered(delay, low, 100)
        };
    }

    /// After a connection was lost before the peer had said anything (RFC 4271, 8.2.2, OpenSent).
    fn seek_again(&mut self, now: Instant) {
        self.wake_parked(now);
        let outgoing = self.connections.iter().any(|each| each.direction == Direction::Outgoing);
        let ahead = self.connections.iter().any(Connection::is_ahead);
        if !outgoing && !ahead && self.effort == Effort::Active && self.retry_at == Instant::NEVER {
            self.seek(now, self.config.connect_retry, 75);
        }
    }

    /// After a connection has failed: Idle for a while, unless another one is there.
    fn pause(&mut self, now: Instant, pause: Duration) {
        self.wake_parked(now);
        if self.connections.is_empty() {
            self.rest_for(now, pause);
        }
    }

    fn rest_for(&mut self, now: Instant, pause: Duration) {
        let until = now + self.random.jittered(pause, 75, 100);
        self.rest(until);
    }

    fn rest(&mut self, until: Instant) {
        self.effort = Effort::Idle;
        self.idle_until = until;
        self.retry_at = Instant::NEVER;
    }

    /// The connection that waited goes on when none is ahead of it.
    fn wake_parked(&mut self, now: Instant) {
        if self.connections.iter().any(Connection::is_ahead) {
            return;
        }
        let parked = self.connections.iter().find(|each| each.phase == Phase::Parked);
        if let Some(id) = parked.map(|each| each.id) {
            self.open(id, now);
        }
    }

    // Connections.

    /// Sends the OPEN.
    fn open(&mut self, id: ConnectionId, now: Instant) {
        let open = Open {
            asn: self.config.local_asn.get(),
            hold: u16::try_from(self.config.hold.as_secs()).unwrap_or(u16::MAX),
            id: self.config.router_id,
            families: vec![self.config.family],
            four_octet: true,
            route_refresh: true,
            enhanced_refresh: true,
            add_path: match self.config.add_path_offer() {
                AddPath::NONE => Vec::new(),
                offer => vec![(self.config.family, offer)],
            },
            graceful: self.graceful_offer(),
        };
        self.send(id, &Message::Open(open));
        if let Some(connection) = self.connection(id) {
            connection.phase = Phase::OpenSent;
            connection.hold_at = now + Self::OPEN_WAIT;
        }
    }

    fn graceful_offer(&self) -> Option<GracefulOffer> {
        let families = match self.config.graceful_restart {
            GracefulRestart::Off => return None,
            GracefulRestart::Helper => Vec::new(),
            GracefulRestart::Full => vec![(self.config.family, self.preserved)],
        };
        let restart_secs = Self::RESTART_SECS;
        Some(GracefulOffer { restarted: self.restarting, restart_secs, families })
    }

    fn send(&mut self, id: ConnectionId, message: &Message) {
        let Some(connection) = self.connection(id) else { return };
        let mut bytes = Vec::new();
        codec::encode(message, connection.context, &mut bytes)
            .expect("only updates can fail to encode");
        self.messages_out += 1;
        self.actions.push_back(Action::Send(id, bytes));
    }

    /// Queued among the updates, whose order it marks.
    fn queue_refresh(&mut self, refresh: RouteRefresh) {
        let Some(connection) = self.established() else { return };
        let context = connection.context;
        codec::encode(&Message::RouteRefresh(refresh), context, &mut self.updates)
            .expect("only updates can fail to encode");
        self.messages_out += 1;
    }

    fn end_refresh(&mut self) {
        self.refreshes_owed -= 1;
        let enhanced = self.agreed.as_ref().is_some_and(|agreed| agreed.enhanced_refresh);
        if enhanced && self.refreshes_owed == 0 {
            self.queue_refresh(RouteRefresh::End(self.config.family));
        }
    }

    fn restart_keepalive(&mut self, id: ConnectionId, now: Instant) {
        let Some(hold) = self.connection(id).map(|each| each.hold) else { return };
        let interval = self.random.jittered(hold / 3, 75, 100);
        self.connection(id).expect("it was there").keepalive_at = after(now, interval);
    }

    fn jittered_retry(&mut self, now: Instant) -> Instant {
        now + self.random.jittered(self.config.connect_retry, 75, 100)
    }

    fn ids(&self) -> Vec<ConnectionId> {
        self.connections.iter().map(|each| each.id).collect()
    }

    fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|each| each.id == id)
    }

    fn established(&self) -> Option<&Connection> {
        self.connections.iter().find(|each| each.phase == Phase::Established)
    }

    fn take(&mut self, id: ConnectionId) -> Option<Connection> {
        let at = self.connections.iter().position(|each| each.id == id)?;
        Some(self.connections.remove(at))
    }
}

/// A deadline; a span of zero is none (RFC 4271, 4.2).
fn after(now: Instant, span: Duration) -> Instant {
    if span.is_zero() { Instant::NEVER } else { now + span }
}

fn messages_in(mut stream: &[u8]) -> u64 {
    let mut count = 0;
    while let Ok(Some((length, _))) = codec::frame(stream) {
        stream = &stream[length..];
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests;

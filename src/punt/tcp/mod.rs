//! TCP in user space for one attachment: one [`Stack`] over smoltcp, so that overlapping addresses
//! of different attachments need no kernel and virtual time is exact. The only module that names
//! smoltcp.
//!
//! For BGP alone: connections go to and come to port 179, and only from peers the stack was told
//! of. A packet from anybody else is dropped and counted, without an answer; one of a known peer
//! that belongs to no connection is answered with RST, as a router answers for a session that is
//! shut down. Segments of peers with a key are signed and verified (TCP-MD5, RFC 2385).
//!
//! ```text
//!   receive ─► segment::parse ─► md5::verify ─► smoltcp ─► segment::dress ─► poll_transmit
//!              (known peer?)                       │        (md5::sign)
//!                                             poll_event
//! ```
//!
//! Packets leave with the TTL of their peer, and those that arrive with less than the peer's least
//! are dropped (RFC 5082). DSCP is CS6.

mod device;
mod md5;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::time::Instant as SmolInstant;
use smoltcp::wire::{HardwareAddress, IpEndpoint, IpListenEndpoint};
use thiserror::Error;

use crate::model::{Instant, Random, SessionTtl};
use crate::punt::tcp::device::Device;
use crate::punt::tcp::md5::Verdict;
use crate::punt::tcp::segment::Segment;

/// BGP's port.
pub const PORT: u16 = 179;

/// Octets a connection buffers in each direction. With 65,536 or more in the receive buffer a peer
/// can make smoltcp 0.14.0 panic on a passive open.
const BUFFER_BYTES: usize = 65_535;
const _: () = assert!(BUFFER_BYTES <= 65_535);

/// Most connections with one peer, those that are closing included. BGP needs two, in a collision.
const CONNECTIONS_PER_PEER: usize = 8;

/// How long a peer may take to finish the handshake it began.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection that control has closed may take to end in order before it is reset.
const LINGER: Duration = Duration::from_secs(30);

/// Next poll when smoltcp says "at once" after a poll that left nothing to do.
const POLL_AGAIN: Duration = Duration::from_millis(1);

/// First of the ports that connections are made from (RFC 6335, 6).
const EPHEMERAL_PORT_MIN: u16 = 49_152;

/// Names a connection; never used twice in the life of a stack.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ConnectionId(pub u32);

/// What happened to a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The handshake is done. The first word of an incoming connection.
    Connected { id: ConnectionId, peer: IpAddr, incoming: bool },
    /// There are octets to take by [`Stack::receive_bytes`]. Said once until they are taken.
    Data(ConnectionId),
    /// There is room again after a [`Stack::send`] that took less than it was given.
    Writable(ConnectionId),
    /// The connection is over and its id forgotten; all it brought has been read.
    Closed(ConnectionId, CloseReason),
}

/// Why a connection is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseReason {
    /// RST before the connection was made.
    Refused,
    /// RST, or the local address was taken away.
    Reset,
    /// The peer closed in order (FIN).
    Finished,
}

/// Why a connection cannot be tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ConnectError {
    #[error("{0} is not an address of this attachment")]
    NotOurs(IpAddr),
    #[error("{peer} is not of the address family of {local}")]
    Family { local: IpAddr, peer: IpAddr },
    #[error("{CONNECTIONS_PER_PEER} connections with {0} already")]
    NoRoom(IpAddr),
}

/// Segments that went no further, by reason.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counters {
    /// No TCP segment, a fragment, or a checksum that is wrong.
    pub malformed: u64,
    /// From an address that is nobody's peer here.
    pub unknown_peer: u64,
    /// To an address that is not ours.
    pub not_ours: u64,
    /// The peer has a key, and the segment no signature.
    pub md5_missing: u64,
    /// The peer has no key, and the segment a signature.
    pub md5_unexpected: u64,
    /// Signed with another key.
    pub md5_wrong: u64,
    /// The TTL is below the least the peer may send with.
    pub ttl_low: u64,
    /// A connection attempt beyond the bound on connections with one peer.
    pub no_room: u64,
    /// An answer that found the transmit queue full, or its peer forgotten.
    pub unsent: u64,
}

/// TCP of one attachment. Sans-IO: packets and instants in, packets, events and a deadline out.
///
/// [`send`](Self::send), [`close`](Self::close) and the others that are given no time take effect
/// at the next [`handle_timeout`](Self::handle_timeout), which is then due at once.
pub struct Stack {
    addresses: Vec<IpAddr>,
    interface: Interface,
    device: Device,
    sockets: SocketSet<'static>,
    peers: BTreeMap<IpAddr, Peer>,
    connections: BTreeMap<ConnectionId, Connection>,
    next_id: u32,
    next_port: u16,
    now: Instant,
    deadline: Instant,
    counters: Counters,
}

struct Peer {
    key: Option<String>,
    ttl: SessionTtl,
    /// Our address that the peer may connect to.
    listening: Option<IpAddr>,
}

struct Connection {
    handle: SocketHandle,
    peer: IpAddr,
    local: IpAddr,
    peer_port: u16,
    local_port: u16,
    incoming: bool,
    phase: Phase,
    /// When the phase has taken too long.
    deadline: Instant,
    data_told: bool,
    send_blocked: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Control does not know of it as a connection.
    Opening,
    /// Control was told [`Event::Connected`].
    Open,
    /// Control has closed it or was told of its end.
    Leaving,
}

impl Stack {
    /// A stack for `addresses`, whose packets have at most `ip_mtu` bytes. `seed` decides initial
    /// sequence numbers and ports.
    pub fn new(addresses: Vec<IpAddr>, ip_mtu: u16, seed: u64) -> Self {
        let mut random = Random::new(seed, "tcp");
        let mut device = Device::new(ip_mtu);
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = random.next_u64();
        let mut interface = Interface::new(config, &mut device, SmolInstant::ZERO);
        // smoltcp holds two addresses; which are ours is checked here before it sees a packet.
        interface.set_any_ip(true);
        let ports = u64::from(u16::MAX - EPHEMERAL_PORT_MIN);
        Self {
            addresses,
            interface,
            device,
            sockets: SocketSet::new(Vec::new()),
            peers: BTreeMap::new(),
            connections: BTreeMap::new(),
            next_id: 0,
            next_port: EPHEMERAL_PORT_MIN + random.below(ports) as u16,
            now: Instant::ZERO,
            deadline: Instant::NEVER,
            counters: Counters::default(),
        }
    }

    /// Replaces our addresses. Connections of an address that is gone are reset.
    pub fn set_addresses(&mut self, addresses: Vec<IpAddr>) {
        self.addresses = addresses;
        for connection in self.connections.values() {
            if !self.addresses.contains(&connection.local) {
                self.sockets.get_mut::<Socket>(connection.handle).abort();
                self.deadline = Instant::ZERO;
            }
        }
    }

    /// Makes `peer` known, and signs and verifies its segments with `key` from here on; `None`
    /// takes the key away. A connection does not survive a change of key.
    pub fn set_key(&mut self, peer: IpAddr, key: Option<&str>) {
        self.peers.entry(peer).or_default().key = key.map(str::to_owned);
    }

    /// Makes `peer` known, and sends to it and accepts from it with this TTL.
    pub fn set_ttl(&mut self, peer: IpAddr, ttl: SessionTtl) {
        self.peers.entry(peer).or_default().ttl = ttl;
    }

    /// Accepts connections from `peer` to `local`, port 179.
    pub fn listen(&mut self, local: IpAddr, peer: IpAddr) {
        self.peers.entry(peer).or_default().listening = Some(local);
    }

    /// Refuses further connections from `peer`, with RST. Those there are stay.
    pub fn unlisten(&mut self, peer: IpAddr) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.listening = None;
        }
    }

    /// Forgets `peer`, its key and its connections; nothing is sent to it any more.
    pub fn forget(&mut self, peer: IpAddr) {
        self.peers.remove(&peer);
        let gone: Vec<_> = self.with(peer).map(|(id, _)| id).collect();
        for id in gone {
            self.remove(id);
        }
    }

    /// Tries to connect from `local` to port 179 of `peer`. The attempt goes on until it is
    /// answered or given up by [`abort`](Self::abort).
    pub fn connect(&mut self, local: IpAddr, peer: IpAddr) -> Result<ConnectionId, ConnectError> {
        if !self.addresses.contains(&local) {
            return Err(ConnectError::NotOurs(local));
        }
        if local.is_ipv4() != peer.is_ipv4() || peer.is_unspecified() {
            return Err(ConnectError::Family { local, peer });
        }
        if !self.make_room(peer) {
            return Err(ConnectError::NoRoom(peer));
        }
        self.peers.entry(peer).or_default();
        let port = self.take_port();
        let mut socket = new_socket();
        let to = IpEndpoint::new(peer.into(), PORT);
        socket
            .connect(self.interface.context(), to, IpEndpoint::new(local.into(), port))
            .expect("a closed socket, ports and addresses checked");
        let handle = self.sockets.add(socket);
        self.deadline = Instant::ZERO;
        Ok(self.add(Connection::new(handle, (local, port), (peer, PORT), false)))
    }

    /// Takes an IP packet that came for us.
    pub fn receive(&mut self, packet: &[u8], now: Instant) {
        self.now = self.now.max(now);
        let Some((segment, mut packet)) = self.admit(packet) else { return };
        md5::strip(&mut packet, &segment);
        if segment.opens() && !self.prepare(&segment) {
            self.counters.no_room += 1;
            return;
        }
        self.device.incoming = Some(packet);
        self.poll(now);
    }

    /// Does what is due: transmissions, retransmissions, connections that take too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now >= self.deadline {
            self.poll(now);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) must next be called.
    pub fn poll_timeout(&self) -> Instant {
        self.deadline
    }

    /// The next IP packet to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        loop {
            let mut packet = self.device.pop()?;
            if self.device.drained_after_stall() {
                self.deadline = Instant::ZERO;
            }
            let segment = Segment::locate(&packet).expect("smoltcp sends whole segments");
            let Some(peer) = self.peers.get(&segment.destination) else {
                self.counters.unsent += 1;
                continue;
            };
            segment::dress(&mut packet, &segment, peer.key.as_deref(), peer.ttl.sent);
            return Some(packet);
        }
    }

    /// What has happened to a connection.
    pub fn poll_event(&mut self) -> Option<Event> {
        for (id, connection) in &mut self.connections {
            let socket = self.sockets.get_mut::<Socket>(connection.handle);
            let Some(event) = connection.poll_event(*id, socket) else { continue };
            if matches!(event, Event::Closed(..)) {
                connection.leave();
                self.deadline = Instant::ZERO;
            }
            return Some(event);
        }
        None
    }

    /// Queues octets for the peer and returns how many were taken. After fewer than offered,
    /// [`Event::Writable`] follows.
    pub fn send(&mut self, id: ConnectionId, octets: &[u8]) -> usize {
        let Some(connection) = self.connections.get_mut(&id) else { return 0 };
        let socket = self.sockets.get_mut::<Socket>(connection.handle);
        let taken = socket.send_slice(octets).unwrap_or(0);
        connection.send_blocked |= taken < octets.len();
        self.deadline = Instant::ZERO;
        taken
    }

    /// Appends all octets that have come to `octets` and returns how many.
    pub fn receive_bytes(&mut self, id: ConnectionId, octets: &mut Vec<u8>) -> usize {
        let Some(connection) = self.connections.get_mut(&id) else { return 0 };
        let socket = self.sockets.get_mut::<Socket>(connection.handle);
        let before = octets.len();
        while socket.can_recv() {
            let taken = socket.recv(|part| {
                octets.extend_from_slice(part);
                (part.len(), part.len())
            });
            if !taken.is_ok_and(|length| length > 0) {
                break;
            }
        }
        connection.data_told = false;
        self.deadline = Instant::ZERO;
        octets.len() - before
    }

    /// Ends the connection in order, after what was queued has been sent. No event names it again.
    pub fn close(&mut self, id: ConnectionId) {
        self.leave(id, Socket::close);
    }

    /// Resets the connection; one that nobody has answered is forgotten without a word (RFC 9293,
    /// 3.10.5). No event names it again.
    pub fn abort(&mut self, id: ConnectionId) {
        let state = |connection: &Connection| self.sockets.get::<Socket>(connection.handle).state();
        if self.connections.get(&id).map(state) == Some(State::SynSent) {
            self.remove(id);
        } else {
            self.leave(id, Socket::abort);
        }
    }

    pub fn counters(&self) -> Counters {
        Counters { unsent: self.counters.unsent + self.device.refused(), ..self.counters }
    }

    /// Connections there are, those that open or close included.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// The segment, when it is one that may reach a connection.
    fn admit(&mut self, packet: &[u8]) -> Option<(Segment, Vec<u8>)> {
        let Some(segment) = Segment::parse(packet) else {
            self.counters.malformed += 1;
            return None;
        };
        let Some(peer) = self.peers.get(&segment.source) else {
            self.counters.unknown_peer += 1;
            return None;
        };
        if !self.addresses.contains(&segment.destination) {
            self.counters.not_ours += 1;
            return None;
        }
        if segment.ttl < peer.ttl.least {
            self.counters.ttl_low += 1;
            return None;
        }
        let packet = &packet[..segment.end];
        let counter = match md5::verify(packet, &segment, peer.key.as_deref()) {
            Verdict::Right => return Some((segment, packet.to_vec())),
            Verdict::Missing => &mut self.counters.md5_missing,
            Verdict::Unexpected => &mut self.counters.md5_unexpected,
            Verdict::Wrong => &mut self.counters.md5_wrong,
        };
        *counter += 1;
        None
    }

    /// Puts a listening socket before smoltcp for a SYN that may open a connection. smoltcp has no
    /// backlog and its listeners take any peer, so one is made for each attempt. False: no room.
    fn prepare(&mut self, segment: &Segment) -> bool {
        let peer = segment.source;
        let listening = self.peers.get(&peer).and_then(|peer| peer.listening);
        let wanted = listening == Some(segment.destination) && segment.destination_port == PORT;
        if !wanted || self.with(peer).any(|(_, connection)| connection.is_of(segment)) {
            return true;
        }
        if !self.make_room(peer) {
            return false;
        }
        let mut socket = new_socket();
        let at = IpListenEndpoint { addr: Some(segment.destination.into()), port: PORT };
        socket.listen(at).expect("a closed socket and a port that is not zero");
        let handle = self.sockets.add(socket);
        let local = (segment.destination, PORT);
        let mut connection =
            Connection::new(handle, local, (segment.source, segment.source_port), true);
        connection.deadline = self.now + HANDSHAKE_TIMEOUT;
        self.add(connection);
        true
    }

    fn add(&mut self, connection: Connection) -> ConnectionId {
        let id = ConnectionId(self.next_id);
        self.next_id += 1;
        self.connections.insert(id, connection);
        id
    }

    fn remove(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.remove(&id) {
            self.sockets.remove(connection.handle);
        }
    }

    fn leave(&mut self, id: ConnectionId, how: fn(&mut Socket<'static>)) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        how(self.sockets.get_mut::<Socket>(connection.handle));
        connection.leave();
        self.deadline = Instant::ZERO;
    }

    /// Room for one more connection with `peer`, if need be instead of one that control does not
    /// know (any more).
    fn make_room(&mut self, peer: IpAddr) -> bool {
        if self.with(peer).count() < CONNECTIONS_PER_PEER {
            return true;
        }
        let victim = self.with(peer).find(|(_, connection)| connection.is_unknown());
        let Some((id, _)) = victim else { return false };
        self.remove(id);
        true
    }

    fn with(&self, peer: IpAddr) -> impl Iterator<Item = (ConnectionId, &Connection)> {
        let with = move |(_, connection): &(&ConnectionId, &Connection)| connection.peer == peer;
        self.connections.iter().filter(with).map(|(id, connection)| (*id, connection))
    }

    fn take_port(&mut self) -> u16 {
        loop {
            let port = self.next_port;
            self.next_port = port.checked_add(1).unwrap_or(EPHEMERAL_PORT_MIN);
            if self.connections.values().all(|connection| connection.local_port != port) {
                return port;
            }
        }
    }

    fn poll(&mut self, now: Instant) {
        self.now = self.now.max(now);
        for connection in self.connections.values_mut() {
            if connection.deadline <= self.now {
                self.sockets.get_mut::<Socket>(connection.handle).abort();
                connection.leave();
            }
            if connection.phase == Phase::Leaving && connection.deadline == Instant::NEVER {
                connection.deadline = self.now + LINGER;
            }
        }
        self.interface.poll(to_smol(self.now), &mut self.device, &mut self.sockets);
        self.sweep();
        self.rearm();
    }

    /// Removes connections that are over and that control does not have to hear of.
    fn sweep(&mut self) {
        let sockets = &self.sockets;
        let over = |(_, connection): &(&ConnectionId, &Connection)| {
            connection.is_unknown() && is_over(sockets.get::<Socket>(connection.handle))
        };
        let gone: Vec<_> = self.connections.iter().filter(over).map(|(id, _)| *id).collect();
        for id in gone {
            self.remove(id);
        }
    }

    fn rearm(&mut self) {
        let due = self.interface.poll_at(to_smol(self.now), &self.sockets).map(from_smol);
        // A poll ends when there is nothing more to send, or no room to queue it: then taking from
        // the queue makes the next one due.
        let due = due.map_or(Instant::NEVER, |due| due.max(self.now + POLL_AGAIN));
        let slow = self.connections.values().map(|connection| connection.deadline).min();
        self.deadline = due.min(slow.unwrap_or(Instant::NEVER));
    }
}

impl Default for Peer {
    fn default() -> Self {
        Self { key: None, ttl: SessionTtl::SINGLE_HOP, listening: None }
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("addresses", &self.addresses)
            .field("connections", &self.connections.len())
            .field("deadline", &self.deadline)
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

impl Connection {
    fn new(
        handle: SocketHandle,
        (local, local_port): (IpAddr, u16),
        (peer, peer_port): (IpAddr, u16),
        incoming: bool,
    ) -> Self {
        Self {
            handle,
            peer,
            local,
            peer_port,
            local_port,
            incoming,
            phase: Phase::Opening,
            deadline: Instant::NEVER,
            data_told: false,
            send_blocked: false,
        }
    }

    /// What control has to be told next.
    fn poll_event(&mut self, id: ConnectionId, socket: &mut Socket<'static>) -> Option<Event> {
        match (self.phase, socket.state()) {
            (Phase::Leaving, _) => None,

            (Phase::Opening, State::Established | State::CloseWait) => {
                self.phase = Phase::Open;
                self.deadline = Instant::NEVER;
                Some(Event::Connected { id, peer: self.peer, incoming: self.incoming })
            }
            (Phase::Opening, State::Closed) if !self.incoming => {
                Some(Event::Closed(id, CloseReason::Refused))
            }
            (Phase::Opening, _) => None,

            (Phase::Open, _) if socket.can_recv() => {
                let told = std::mem::replace(&mut self.data_told, true);
                (!told).then_some(Event::Data(id))
            }
            (Phase::Open, State::Established) => {
                let room = socket.send_queue() <= BUFFER_BYTES / 2;
                let writable = self.send_blocked && room;
                self.send_blocked &= !writable;
                writable.then_some(Event::Writable(id))
            }
            (Phase::Open, State::CloseWait) => {
                socket.close();
                Some(Event::Closed(id, CloseReason::Finished))
            }
            (Phase::Open, _) => Some(Event::Closed(id, CloseReason::Reset)),
        }
    }

    /// The next poll, which knows the time, sets how long that may take.
    fn leave(&mut self) {
        self.phase = Phase::Leaving;
        self.deadline = Instant::NEVER;
    }

    fn is_of(&self, segment: &Segment) -> bool {
        (self.peer, self.peer_port) == (segment.source, segment.source_port)
            && (self.local, self.local_port) == (segment.destination, segment.destination_port)
    }

    /// Control does not know of it, or not any more, and need not hear of its end.
    fn is_unknown(&self) -> bool {
        match self.phase {
            Phase::Opening => self.incoming,
            Phase::Open => false,
            Phase::Leaving => true,
        }
    }
}

/// Nothing will come of the socket, and its RST, if any, is on its way.
fn is_over(socket: &Socket<'_>) -> bool {
    matches!(socket.state(), State::Closed | State::Listen) && socket.remote_endpoint().is_none()
}

fn new_socket() -> Socket<'static> {
    let buffer = || SocketBuffer::new(vec![0; BUFFER_BYTES]);
    let mut socket = Socket::new(buffer(), buffer());
    // A BGP speaker writes whole messages; the last one of a burst must not wait for an answer.
    socket.set_nagle_enabled(false);
    // These links lose next to nothing, and what limits them is not a queue that TCP should find.
    socket.set_congestion_control(CongestionControl::None);
    socket
}

fn to_smol(at: Instant) -> SmolInstant {
    SmolInstant::from_micros((at.as_nanos() / 1_000) as i64)
}

fn from_smol(at: SmolInstant) -> Instant {
    Instant::from_nanos(u64::try_from(at.total_micros()).unwrap_or(0).saturating_mul(1_000))
}

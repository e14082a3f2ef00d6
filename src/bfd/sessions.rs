//! The sessions of one worker: who a packet is for, whose deadline is next, what leaves.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use thiserror::Error;

use crate::bfd::{Session, Transition};
use crate::model::{AttachmentIndex, BfdDownReason, BfdParameters, Instant, Random};
use crate::wire;
use crate::wire::bfd::{Repr, State, View};

/// TTL or hop limit of every single-hop packet (RFC 5881, 5).
const TTL: u8 = 255;
/// Source ports of sessions, 49152–65535 (RFC 5881, 4); beyond as many sessions they repeat.
const SOURCE_PORT_FIRST: u16 = 49_152;
const SOURCE_PORTS: u16 = 16_384;
/// Events that wait for the owner. Full, packets are refused, so that a flapping peer cannot make
/// it grow.
const EVENTS_MAX: usize = 4_096;
/// Last packets of ended sessions that wait for the owner; of more, the oldest is not sent.
const FAREWELLS_MAX: usize = 4_096;

/// A session is between two addresses on one attachment; link-local peers repeat across them.
type Key = (AttachmentIndex, IpAddr);

/// A session came up or failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    Up { attachment: AttachmentIndex, peer: IpAddr },
    Down { attachment: AttachmentIndex, peer: IpAddr, reason: BfdDownReason },
}

/// A packet to send to UDP port 3784 with TTL or hop limit 255.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outgoing {
    pub attachment: AttachmentIndex,
    pub local: IpAddr,
    pub peer: IpAddr,
    /// The same for all packets of a session, another for each session (RFC 5881, 4).
    pub source_port: u16,
    pub repr: Repr,
}

/// Why a received packet changed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Refused {
    #[error("TTL {0} where single-hop BFD has 255 (RFC 5881, 5)")]
    Ttl(u8),
    #[error("not a BFD control packet: {0}")]
    Malformed(wire::Error),
    #[error("no session has discriminator {0:#010x}")]
    UnknownDiscriminator(u32),
    #[error("the session of the discriminator is on attachment {}", .expected.0)]
    WrongAttachment { expected: AttachmentIndex },
    #[error("the peer of the session is {expected}")]
    WrongSource { expected: IpAddr },
    #[error("no session with this address on this attachment")]
    NoSession,
    #[error("too many events wait to be taken")]
    Busy,
}

/// What can be seen of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    pub attachment: AttachmentIndex,
    pub peer: IpAddr,
    pub local: IpAddr,
    pub state: State,
    /// RFC 5880, 4.1.
    pub diagnostic: u8,
    pub discriminator: u32,
    /// Zero while the peer is unknown.
    pub remote_discriminator: u32,
    /// As negotiated, before jitter; zero while the peer wants no periodic packets.
    pub transmit_interval: Duration,
    pub receive_interval: Duration,
    /// Zero while the peer is unknown.
    pub detection_time: Duration,
    pub up_since: Option<Instant>,
    /// Changes of state so far.
    pub transitions: u64,
}

/// The sessions of the attachments that one worker owns.
///
/// After each call that takes `now`, the owner drains [`Sessions::poll_transmit`] and
/// [`Sessions::poll_event`].
#[derive(Debug)]
pub struct Sessions {
    seed: u64,
    /// Sessions begun so far: a session that is ended and begun again has another discriminator.
    begun: u64,
    entries: BTreeMap<Key, Entry>,
    by_discriminator: BTreeMap<u32, Key>,
    deadlines: BTreeSet<(Instant, Key)>,
    /// Sessions with something to send, each once.
    ready: VecDeque<Key>,
    farewells: VecDeque<Outgoing>,
    events: VecDeque<Event>,
}

#[derive(Debug)]
struct Entry {
    session: Session,
    local: IpAddr,
    source_port: u16,
    /// Its row in `deadlines`.
    deadline: Instant,
    /// Whether it is in `ready`.
    ready: bool,
}

impl Sessions {
    /// `seed` decides discriminators and jitter.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            begun: 0,
            entries: BTreeMap::new(),
            by_discriminator: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            ready: VecDeque::new(),
            farewells: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Begins, changes or ends (`None`) the session with `peer`. Equal parameters change nothing;
    /// other intervals are negotiated without loss of state; another local address is another
    /// session. A session that ends tells its peer AdminDown, which is no failure of the path
    /// (RFC 5882, 4.2), and gives no event.
    pub fn set(
        &mut self,
        attachment: AttachmentIndex,
        peer: IpAddr,
        parameters: Option<BfdParameters>,
        now: Instant,
    ) {
        let key = (attachment, peer);
        let Some(parameters) = parameters else { return self.end(key, now) };
        match self.entries.get_mut(&key) {
            Some(entry) if entry.local == parameters.local => {
                entry.session.set_parameters(&parameters, now);
                self.refresh(key);
            }
            Some(_) | None => {
                self.end(key, now);
                self.begin(key, &parameters, now);
            }
        }
    }

    /// Takes a session out of service or puts it back. Without such a session nothing happens.
    pub fn set_admin_down(
        &mut self,
        attachment: AttachmentIndex,
        peer: IpAddr,
        down: bool,
        now: Instant,
    ) {
        let key = (attachment, peer);
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.session.set_admin_down(down, now);
            self.refresh(key);
        }
    }

    /// Takes the UDP payload of a packet to port 3784. It reaches a session only on the
    /// attachment, from the address and with the TTL of that session, whatever discriminator it
    /// names: no packet of one circuit moves a session of another (F-05).
    pub fn handle_packet(
        &mut self,
        attachment: AttachmentIndex,
        source: IpAddr,
        ttl: u8,
        payload: &[u8],
        now: Instant,
    ) -> Result<(), Refused> {
        if ttl != TTL {
            return Err(Refused::Ttl(ttl));
        }
        if self.events.len() >= EVENTS_MAX {
            return Err(Refused::Busy);
        }
        let packet = View::new(payload).and_then(|view| Repr::parse(&view));
        let packet = packet.map_err(Refused::Malformed)?;
        let key = self.select((attachment, source), &packet)?;
        let entry = self.entries.get_mut(&key).ok_or(Refused::NoSession)?;
        entry.session.handle_packet(&packet, now);
        self.refresh(key);
        Ok(())
    }

    /// Lets every session act whose deadline has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((deadline, key)) = self.deadlines.first().copied()
            && deadline <= now
        {
            let entry = self.entries.get_mut(&key).expect("a deadline belongs to a session");
            entry.session.handle_timeout(now);
            self.refresh(key);
        }
    }

    /// The next packet to send.
    pub fn poll_transmit(&mut self) -> Option<Outgoing> {
        if let Some(farewell) = self.farewells.pop_front() {
            return Some(farewell);
        }
        while let Some(key) = self.ready.front().copied() {
            if let Some(entry) = self.entries.get_mut(&key) {
                if let Some(repr) = entry.session.poll_transmit() {
                    return Some(entry.outgoing(key, repr));
                }
                entry.ready = false;
            }
            self.ready.pop_front();
        }
        None
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Sessions::handle_timeout`] must next be called.
    pub fn poll_timeout(&self) -> Instant {
        self.deadlines.first().map_or(Instant::NEVER, |(deadline, _)| *deadline)
    }

    /// All sessions, by attachment and peer.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        self.entries.iter().map(|(key, entry)| entry.row(*key))
    }

    /// The session a packet is for (RFC 5880, 6.8.6; F-05).
    fn select(&self, from: Key, packet: &Repr) -> Result<Key, Refused> {
        if packet.your_discriminator == 0 {
            // `Repr::parse` let only Down and AdminDown pass.
            return Ok(from);
        }
        let named = self.by_discriminator.get(&packet.your_discriminator);
        let &key = named.ok_or(Refused::UnknownDiscriminator(packet.your_discriminator))?;
        if key.0 != from.0 {
            return Err(Refused::WrongAttachment { expected: key.0 });
        }
        if key.1 != from.1 {
            return Err(Refused::WrongSource { expected: key.1 });
        }
        Ok(key)
    }

    fn begin(&mut self, key: Key, parameters: &BfdParameters, now: Instant) {
        let name = format!("bfd {} {} {}", key.0.0, key.1, self.begun);
        let mut random = Random::new(self.seed, &name);
        let mut discriminator = random.next_u32();
        while discriminator == 0 || self.by_discriminator.contains_key(&discriminator) {
            discriminator = random.next_u32();
        }
        let place = (self.begun % u64::from(SOURCE_PORTS)) as u16;
        let session = Session::new(parameters, discriminator, random, now);
        let deadline = session.poll_timeout();
        let entry = Entry {
            session,
            local: parameters.local,
            source_port: SOURCE_PORT_FIRST + place,
            deadline,
            ready: false,
        };
        self.begun += 1;
        self.by_discriminator.insert(discriminator, key);
        self.deadlines.insert((deadline, key));
        self.entries.insert(key, entry);
    }

    fn end(&mut self, key: Key, now: Instant) {
        let Some(mut entry) = self.entries.remove(&key) else { return };
        self.by_discriminator.remove(&entry.session.discriminator());
        self.deadlines.remove(&(entry.deadline, key));
        self.ready.retain(|ready| *ready != key);
        entry.session.set_admin_down(true, now);
        while let Some(repr) = entry.session.poll_transmit() {
            self.farewells.push_back(entry.outgoing(key, repr));
        }
        while self.farewells.len() > FAREWELLS_MAX {
            self.farewells.pop_front();
        }
    }

    /// Takes over what a session has to say after it was touched.
    fn refresh(&mut self, key: Key) {
        let entry = self.entries.get_mut(&key).expect("the session was just touched");
        let deadline = entry.session.poll_timeout();
        if deadline != entry.deadline {
            self.deadlines.remove(&(entry.deadline, key));
            self.deadlines.insert((deadline, key));
            entry.deadline = deadline;
        }
        if entry.session.wants_transmit() && !entry.ready {
            entry.ready = true;
            self.ready.push_back(key);
        }
        let (attachment, peer) = key;
        self.events.extend(entry.session.poll_event().map(|transition| match transition {
            Transition::Up => Event::Up { attachment, peer },
            Transition::Down(reason) => Event::Down { attachment, peer, reason },
        }));
    }
}

impl Entry {
    fn outgoing(&self, key: Key, repr: Repr) -> Outgoing {
        Outgoing {
            attachment: key.0,
            local: self.local,
            peer: key.1,
            source_port: self.source_port,
            repr,
        }
    }

    fn row(&self, key: Key) -> Row {
        let session = &self.session;
        Row {
            attachment: key.0,
            peer: key.1,
            local: self.local,
            state: session.state(),
            diagnostic: session.diagnostic(),
            discriminator: session.discriminator(),
            remote_discriminator: session.remote_discriminator(),
            transmit_interval: session.transmit_interval(),
            receive_interval: session.receive_interval(),
            detection_time: session.detection_time(),
            up_since: session.up_since(),
            transitions: session.transitions(),
        }
    }
}

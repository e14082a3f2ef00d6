//! The neighbour table of a router: which MAC address has which IP address behind an attachment.
//!
//! ARP (RFC 826) and neighbour discovery (RFC 4861) are one state machine here; only the
//! [messages](message) differ. Everything is keyed by attachment, since link-local addresses and
//! customers' addresses repeat (F-45). There are no router advertisements and no redirects.
//!
//! ```text
//!              ask, 1 s apart                 lifetime nearly over
//!   Incomplete ─────────────────► Reachable ─────────────────────► Probe
//!    │  ▲  3 asks: packets dropped     ▲                            │ │
//!    │  └──────────────────────────────┼──────── wanted, no answer ─┘ │
//!    ▼                                 └─────────── answer ───────────┘
//!   gone, unless wanted                             (no answer, not wanted: gone)
//! ```
//!
//! An entry is *wanted* when something of the router's depends on it (a BGP peer, a static next
//! hop): it is asked for in the background for ever, so that the data path has its MAC before the
//! first packet. All others come from packets that found no MAC (glean) or from their own
//! questions to us, and are confirmed by a unicast question before they expire.

mod message;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{AttachmentIndex, Change, Injected, Instant, Prefix, Random};
use crate::wire::{MacAddr, arp, ndp};

/// How long a neighbour that is not heard of again keeps its entry (section 20).
pub const LIFETIME: Duration = Duration::from_hours(4);

/// Questions without an answer before a neighbour counts as not there.
const ASKS: u8 = 3;

/// Time between questions (RFC 4861, 10: RETRANS_TIMER).
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// Time between questions about a wanted neighbour that has not answered for long.
const ASK_INTERVAL_MAX: Duration = Duration::from_secs(5);

/// How long another host may object to an IPv6 address of ours (RFC 4862, 5.4: one question).
const DAD_TIME: Duration = Duration::from_secs(1);

/// Most packets that wait for one neighbour's MAC; the oldest gives way (RFC 1122, 2.3.2.2).
const WAITING_MAX: usize = 3;

/// Most neighbours of one attachment that nobody wants.
const ENTRIES_MAX: usize = 4096;

/// Most packets that wait to be taken by [`Table::poll_transmit`].
const TRANSMIT_MAX: usize = 4096;

/// The neighbours of one router.
#[derive(Clone, Debug)]
pub struct Table {
    lifetime: Duration,
    /// Whether others are told of our addresses without having asked.
    announces: bool,
    random: Random,
    attachments: BTreeMap<AttachmentIndex, Attachment>,
    wanted: BTreeSet<(AttachmentIndex, IpAddr)>,
    transmit: VecDeque<Injected>,
    /// Whose MAC may differ from what forwarding was told. Bounded by the entries.
    changed: BTreeSet<(AttachmentIndex, IpAddr)>,
    /// No later than the first deadline of any entry.
    next: Instant,
    counters: Counters,
}

/// What came to nothing, by reason.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counters {
    /// Packets that waited for a MAC in vain, or found no room to wait.
    pub dropped_waiting: u64,
    /// Messages that are malformed or from where no neighbour is.
    pub ignored: u64,
    /// Messages of others that claim an address of ours.
    pub conflicts: u64,
    /// Messages of ours that found the transmit queue full.
    pub unsent: u64,
}

/// One line of the table, as Azure shows it (F-45).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Row {
    pub attachment: AttachmentIndex,
    pub address: IpAddr,
    /// `None`: asked for, without an answer ("Incomplete").
    pub mac: Option<MacAddr>,
    /// When the MAC was confirmed, or first asked for; none for our own.
    pub since: Option<Instant>,
    /// Our own address ("Microsoft" on an MSEE), not a neighbour's.
    pub own: bool,
}

#[derive(Clone, Debug)]
struct Attachment {
    mac: MacAddr,
    own: Vec<Own>,
    on_link: Vec<Prefix>,
    entries: BTreeMap<IpAddr, Entry>,
}

/// An address of ours.
#[derive(Clone, Copy, Debug)]
struct Own {
    address: IpAddr,
    /// Until then another host may object (RFC 4429); `None` when it is ours for good.
    tentative_until: Option<Instant>,
    /// Another host has it; we do not answer for it.
    duplicate: bool,
}

#[derive(Clone, Debug)]
struct Entry {
    state: State,
    since: Instant,
    deadline: Instant,
    /// EtherType and packet.
    waiting: VecDeque<(u16, Vec<u8>)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Incomplete { asks: u8 },
    Reachable { mac: MacAddr },
    Probe { mac: MacAddr, asks: u8 },
}

impl Table {
    pub fn new(seed: u64) -> Self {
        Self::with_lifetime(seed, LIFETIME)
    }

    /// A table whose entries live for `lifetime` without confirmation, and up to three seconds
    /// more while the neighbour is asked.
    pub fn with_lifetime(seed: u64, lifetime: Duration) -> Self {
        Self {
            lifetime,
            announces: true,
            random: Random::new(seed, "neighbor"),
            attachments: BTreeMap::new(),
            wanted: BTreeSet::new(),
            transmit: VecDeque::new(),
            changed: BTreeSet::new(),
            next: Instant::NEVER,
            counters: Counters::default(),
        }
    }

    /// Whether our addresses are announced when an attachment gets them: by gratuitous ARP and by
    /// unsolicited advertisements. Duplicates of IPv6 addresses are looked for in any case.
    pub fn set_announces(&mut self, announces: bool) {
        self.announces = announces;
    }

    /// Makes an attachment what it should be: our MAC and addresses there, and the blocks that are
    /// reached without a router. Announces what is different from before; neighbours outside the
    /// blocks are forgotten.
    pub fn set_attachment(
        &mut self,
        attachment: AttachmentIndex,
        mac: MacAddr,
        addresses: Vec<IpAddr>,
        on_link: Vec<Prefix>,
        now: Instant,
    ) {
        let before = self.attachments.remove(&attachment);
        let mut known = before.unwrap_or_else(|| Attachment::new(mac));
        let fresh: Vec<_> = addresses
            .iter()
            .filter(|address| known.mac != mac || known.find_own(**address).is_none())
            .copied()
            .collect();
        known.mac = mac;
        known.own.retain(|own| addresses.contains(&own.address) && !fresh.contains(&own.address));
        known.own.extend(fresh.iter().map(|address| Own::new(*address, now)));
        known.own.sort_by_key(|own| addresses.iter().position(|address| *address == own.address));
        known.on_link = on_link;
        self.attachments.insert(attachment, known);
        self.forget_unless(attachment, Attachment::reaches);
        for address in fresh {
            self.announce(attachment, address);
        }
        self.wake_at(now + DAD_TIME);
        self.ask_for_wanted(attachment, now);
    }

    /// Forgets the attachment and its neighbours.
    pub fn remove_attachment(&mut self, attachment: AttachmentIndex) {
        self.forget_unless(attachment, |_, _| false);
        self.attachments.remove(&attachment);
    }

    /// Takes an ARP packet (without its Ethernet header).
    pub fn handle_arp(&mut self, attachment: AttachmentIndex, packet: &[u8], now: Instant) {
        let parsed = arp::View::new(packet).and_then(|view| arp::Repr::parse(&view));
        let (Ok(arp), Some(here)) = (parsed, self.attachments.get(&attachment)) else {
            self.counters.ignored += 1;
            return;
        };
        let (sender, target) = (IpAddr::V4(arp.sender), IpAddr::V4(arp.target));
        if here.find_own(sender).is_some() {
            self.counters.conflicts += u64::from(arp.sender_mac != here.mac);
            return;
        }
        // A sender of 0.0.0.0 asks whether somebody has the address it would like (RFC 5227).
        let probes = arp.sender.is_unspecified();
        if !is_single(arp.sender_mac) || !(probes || here.reaches(sender)) {
            self.counters.ignored += 1;
            return;
        }
        let asks_us = arp.operation == arp::Operation::Request && here.answers_for(target);
        let reply = asks_us.then(|| message::arp_reply(&arp, here.mac));
        // RFC 826: whoever speaks updates an entry there is; who asks us gets one.
        if !probes && (asks_us || here.entries.contains_key(&sender)) {
            self.learn(attachment, sender, arp.sender_mac, now);
        }
        if let Some(reply) = reply {
            self.transmit(attachment, reply);
        }
    }

    /// Takes a neighbour discovery packet, with its IPv6 header. What is not a valid solicitation
    /// or advertisement is ignored (RFC 4861, 7.1).
    pub fn handle_ndp(&mut self, attachment: AttachmentIndex, packet: &[u8], now: Instant) {
        let known = self.attachments.contains_key(&attachment);
        let Some(received) = message::parse_ndp(packet).filter(|_| known) else {
            self.counters.ignored += 1;
            return;
        };
        let message::Ndp { source, destination, message } = received;
        match message {
            ndp::Repr::NeighborSolicit { target, source_link } if source.is_unspecified() => {
                let valid = source_link.is_none() && destination == ndp::solicited_node(target);
                self.handle_dad(attachment, target, valid, now);
            }
            ndp::Repr::NeighborSolicit { target, source_link } => {
                self.handle_solicit(attachment, source, target, source_link, now);
            }
            ndp::Repr::NeighborAdvert { target, target_link, solicited, overriding, .. } => {
                let valid = !(solicited && destination.is_multicast());
                let certain = solicited || overriding;
                self.handle_advert(attachment, target, target_link.filter(|_| valid), certain, now);
            }
        }
    }

    /// The MAC of a neighbour, or `None` while it is being asked for. `waiting` (EtherType and
    /// packet) is sent once the MAC is known, at once if it is; it is dropped and counted when the
    /// neighbour does not answer, or is none.
    pub fn resolve(
        &mut self,
        attachment: AttachmentIndex,
        address: IpAddr,
        waiting: Option<(u16, Vec<u8>)>,
        now: Instant,
    ) -> Option<MacAddr> {
        self.begin(attachment, address, now);
        let here = self.attachments.get_mut(&attachment);
        let Some(entry) = here.and_then(|here| here.entries.get_mut(&address)) else {
            self.counters.dropped_waiting += u64::from(waiting.is_some());
            return None;
        };
        let mac = entry.state.mac();
        match (mac, waiting) {
            (_, None) => {}
            (None, Some(packet)) => {
                if entry.waiting.len() == WAITING_MAX {
                    entry.waiting.pop_front();
                    self.counters.dropped_waiting += 1;
                }
                entry.waiting.push_back(packet);
            }
            (Some(mac), Some(packet)) => self.release(attachment, mac, packet),
        }
        mac
    }

    /// Keeps a neighbour resolved from here on, or no longer. May be said before the attachment is
    /// there.
    pub fn want(
        &mut self,
        attachment: AttachmentIndex,
        address: IpAddr,
        wanted: bool,
        now: Instant,
    ) {
        if wanted {
            self.wanted.insert((attachment, address));
            self.begin(attachment, address, now);
        } else {
            self.wanted.remove(&(attachment, address));
        }
    }

    /// Nothing is known of who is behind a link that was cut: all entries go. Wanted neighbours
    /// are asked for again.
    pub fn carrier_lost(&mut self, attachment: AttachmentIndex, now: Instant) {
        self.forget_unless(attachment, |_, _| false);
        self.ask_for_wanted(attachment, now);
    }

    /// The link is there (again): announces our addresses and asks for wanted neighbours at once.
    pub fn carrier_restored(&mut self, attachment: AttachmentIndex, now: Instant) {
        let Some(here) = self.attachments.get(&attachment) else { return };
        let own: Vec<_> = here.own.iter().map(|own| own.address).collect();
        for address in own {
            self.announce(attachment, address);
        }
        self.forget_unless(attachment, |here, address| {
            here.entries.get(&address).is_some_and(|entry| entry.state.mac().is_some())
        });
        self.ask_for_wanted(attachment, now);
    }

    /// Asks again, gives up, and confirms what nears its end.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now < self.next {
            return;
        }
        let mut due = Vec::new();
        for (attachment, here) in &self.attachments {
            let late = here.entries.iter().filter(|(_, entry)| entry.deadline <= now);
            due.extend(late.map(|(address, _)| (*attachment, *address)));
        }
        for (attachment, address) in due {
            self.expire(attachment, address, now);
        }
        self.end_dad(now);
        self.next = self.attachments.values().map(Attachment::next).min().unwrap_or(Instant::NEVER);
    }

    /// When [`handle_timeout`](Self::handle_timeout) must next be called.
    pub fn poll_timeout(&self) -> Instant {
        self.next
    }

    /// The next packet to send.
    pub fn poll_transmit(&mut self) -> Option<Injected> {
        self.transmit.pop_front()
    }

    /// The next [`Change::Neighbor`] for forwarding.
    pub fn poll_change(&mut self) -> Option<Change> {
        let (attachment, address) = self.changed.pop_first()?;
        Some(Change::Neighbor { attachment, address, mac: self.mac(attachment, address) })
    }

    /// The MAC of a neighbour, if it is known. Asks nobody.
    pub fn mac(&self, attachment: AttachmentIndex, address: IpAddr) -> Option<MacAddr> {
        self.attachments.get(&attachment)?.entries.get(&address)?.state.mac()
    }

    /// The table, our own addresses first on each attachment (F-45).
    pub fn snapshot(&self) -> Vec<Row> {
        let rows = self.attachments.iter().flat_map(|(attachment, here)| {
            let attachment = *attachment;
            let own = here.own.iter().map(move |own| Row {
                attachment,
                address: own.address,
                mac: Some(here.mac),
                since: None,
                own: true,
            });
            let others = here.entries.iter().map(move |(address, entry)| Row {
                attachment,
                address: *address,
                mac: entry.state.mac(),
                since: Some(entry.since),
                own: false,
            });
            own.chain(others)
        });
        rows.collect()
    }

    /// Packets that waited for a MAC in vain, or found no room to wait.
    pub fn dropped_waiting(&self) -> u64 {
        self.counters.dropped_waiting
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Our addresses on an attachment that another host claims; we do not answer for them.
    pub fn duplicates(&self, attachment: AttachmentIndex) -> Vec<IpAddr> {
        let own = self.attachments.get(&attachment).map_or(&[][..], |here| &here.own);
        own.iter().filter(|own| own.duplicate).map(|own| own.address).collect()
    }

    /// Somebody else asks whether `target` is free (RFC 4862, 5.4.3).
    fn handle_dad(
        &mut self,
        attachment: AttachmentIndex,
        target: Ipv6Addr,
        valid: bool,
        now: Instant,
    ) {
        if !valid {
            self.counters.ignored += 1;
        } else if !self.object(attachment, target, now) {
            self.advertise(attachment, target, message::ALL_NODES, false);
        }
    }

    fn handle_solicit(
        &mut self,
        attachment: AttachmentIndex,
        source: Ipv6Addr,
        target: Ipv6Addr,
        source_link: Option<MacAddr>,
        now: Instant,
    ) {
        let here = &self.attachments[&attachment];
        let sender = IpAddr::V6(source);
        let acceptable = source_link.is_none_or(is_single) && here.find_own(sender).is_none();
        if !acceptable || !here.reaches(sender) {
            self.counters.ignored += 1;
            return;
        }
        let asks_us = here.answers_for(target.into());
        if let Some(mac) = source_link
            && (asks_us || here.entries.contains_key(&sender))
        {
            self.learn(attachment, sender, mac, now);
        }
        if asks_us {
            let advert = self.advert(attachment, target, source, true);
            self.resolve(attachment, sender, advert, now);
        }
    }

    /// RFC 4861, 7.2.5. An advertisement that is neither asked for nor overriding may fill an
    /// incomplete entry, but not change one.
    fn handle_advert(
        &mut self,
        attachment: AttachmentIndex,
        target: Ipv6Addr,
        target_link: Option<MacAddr>,
        certain: bool,
        now: Instant,
    ) {
        let address = IpAddr::V6(target);
        if self.attachments[&attachment].find_own(address).is_some() {
            self.counters.conflicts += 1;
            self.object(attachment, target, now);
            return;
        }
        let Some(entry) = self.attachments[&attachment].entries.get(&address) else { return };
        let known = entry.state.mac();
        match target_link.or(known).filter(|mac| is_single(*mac)) {
            Some(mac) if certain || known.is_none() => self.learn(attachment, address, mac, now),
            Some(_) => {}
            None => self.counters.ignored += 1,
        }
    }

    /// Another host has spoken for `target`: a duplicate, if it is an address that we have begun to
    /// use only just. True if so.
    fn object(&mut self, attachment: AttachmentIndex, target: Ipv6Addr, now: Instant) -> bool {
        let here = self.attachments.get_mut(&attachment);
        let own = here.and_then(|here| here.own.iter_mut().find(|own| own.address == target));
        let Some(own) = own else { return false };
        let tentative = own.tentative_until.is_some_and(|until| now < until);
        own.duplicate |= tentative;
        tentative
    }

    fn end_dad(&mut self, now: Instant) {
        let mut settled = Vec::new();
        for (attachment, here) in &mut self.attachments {
            for own in &mut here.own {
                if own.tentative_until.is_some_and(|until| until <= now) {
                    own.tentative_until = None;
                    settled.push((*attachment, own.address));
                }
            }
        }
        for (attachment, address) in settled {
            if let IpAddr::V6(address) = address
                && self.announces
            {
                self.advertise(attachment, address, message::ALL_NODES, false);
            }
        }
    }

    /// Tells the link of an address of ours: gratuitous ARP (RFC 5227, 2.3), or the question
    /// whether somebody else has the IPv6 address.
    fn announce(&mut self, attachment: AttachmentIndex, address: IpAddr) {
        let Some(here) = self.attachments.get(&attachment) else { return };
        let announcement = match address {
            IpAddr::V4(_) if !self.announces => return,
            IpAddr::V4(address) => message::arp_request(here.mac, address, address, None),
            IpAddr::V6(address) => message::solicit(here.mac, None, address, None),
        };
        self.transmit(attachment, announcement);
    }

    fn advertise(
        &mut self,
        attachment: AttachmentIndex,
        target: Ipv6Addr,
        to: Ipv6Addr,
        solicited: bool,
    ) {
        if let Some((ethertype, packet)) = self.advert(attachment, target, to, solicited) {
            let destination = ndp::multicast_mac(to);
            self.transmit(attachment, message::Outgoing { destination, ethertype, packet });
        }
    }

    /// An advertisement of our address `target`, if we answer for it.
    fn advert(
        &self,
        attachment: AttachmentIndex,
        target: Ipv6Addr,
        to: Ipv6Addr,
        solicited: bool,
    ) -> Option<(u16, Vec<u8>)> {
        let here = self.attachments.get(&attachment)?;
        let own = here.find_own(target.into()).filter(|own| !own.duplicate)?;
        // RFC 4429, 3.3: while somebody may object, others keep what they know.
        let overriding = own.tentative_until.is_none();
        Some(message::advert(here.mac, target, to, solicited, overriding))
    }

    /// Makes an entry and asks, if the address can be a neighbour and has no entry.
    fn begin(&mut self, attachment: AttachmentIndex, address: IpAddr, now: Instant) {
        if self.admit(attachment, address) {
            self.insert(attachment, address, State::Incomplete { asks: 0 }, now);
            self.ask_again(attachment, address, now);
        }
    }

    /// Whether there may be an entry, and there is none.
    fn admit(&self, attachment: AttachmentIndex, address: IpAddr) -> bool {
        let Some(here) = self.attachments.get(&attachment) else { return false };
        let room = here.entries.len() < ENTRIES_MAX || self.wanted.contains(&(attachment, address));
        room && !here.entries.contains_key(&address)
            && here.reaches(address)
            && here.find_own(address).is_none()
    }

    fn insert(&mut self, attachment: AttachmentIndex, address: IpAddr, state: State, now: Instant) {
        let entry = Entry { state, since: now, deadline: now, waiting: VecDeque::new() };
        if let Some(here) = self.attachments.get_mut(&attachment) {
            here.entries.insert(address, entry);
        }
    }

    /// A neighbour has told its MAC.
    fn learn(&mut self, attachment: AttachmentIndex, address: IpAddr, mac: MacAddr, now: Instant) {
        if self.admit(attachment, address) {
            self.insert(attachment, address, State::Incomplete { asks: 0 }, now);
        }
        // Spread, so that what was learned together is not asked for together.
        let deadline = now + self.random.jittered(self.lifetime, 75, 90);
        let here = self.attachments.get_mut(&attachment);
        let Some(entry) = here.and_then(|here| here.entries.get_mut(&address)) else { return };
        let before = entry.state.mac();
        entry.state = State::Reachable { mac };
        entry.since = now;
        entry.deadline = deadline;
        let waiting = std::mem::take(&mut entry.waiting);
        self.wake_at(deadline);
        if before != Some(mac) {
            self.changed.insert((attachment, address));
        }
        for packet in waiting {
            self.release(attachment, mac, packet);
        }
    }

    /// An entry's deadline has come.
    fn expire(&mut self, attachment: AttachmentIndex, address: IpAddr, now: Instant) {
        let wanted = self.wanted.contains(&(attachment, address));
        let here = self.attachments.get_mut(&attachment);
        let Some(entry) = here.and_then(|here| here.entries.get_mut(&address)) else { return };
        match entry.state {
            State::Reachable { mac } => entry.state = State::Probe { mac, asks: 0 },
            State::Probe { asks, .. } if asks < ASKS => {}
            State::Incomplete { asks } if asks < ASKS => {}
            State::Incomplete { .. } if wanted => {
                self.counters.dropped_waiting += entry.waiting.len() as u64;
                entry.waiting.clear();
            }
            State::Incomplete { .. } => return self.forget(attachment, address),
            State::Probe { .. } => {
                self.forget(attachment, address);
                if wanted {
                    self.begin(attachment, address, now);
                }
                return;
            }
        }
        self.ask_again(attachment, address, now);
    }

    /// Asks about an entry and sets when to do so again.
    fn ask_again(&mut self, attachment: AttachmentIndex, address: IpAddr, now: Instant) {
        let Some(here) = self.attachments.get_mut(&attachment) else { return };
        let question = here.question(address);
        let Some(entry) = here.entries.get_mut(&address) else { return };
        entry.deadline = now + entry.state.count_ask();
        let deadline = entry.deadline;
        self.wake_at(deadline);
        if let Some(question) = question {
            self.transmit(attachment, question);
        }
    }

    fn ask_for_wanted(&mut self, attachment: AttachmentIndex, now: Instant) {
        for address in self.wanted_on(attachment) {
            self.begin(attachment, address, now);
        }
    }

    fn wanted_on(&self, attachment: AttachmentIndex) -> Vec<IpAddr> {
        let first = (attachment, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let here = self.wanted.range(first..).take_while(|(at, _)| *at == attachment);
        here.map(|(_, address)| *address).collect()
    }

    fn forget_unless(
        &mut self,
        attachment: AttachmentIndex,
        keep: impl Fn(&Attachment, IpAddr) -> bool,
    ) {
        let Some(here) = self.attachments.get(&attachment) else { return };
        let gone = here.entries.keys().filter(|address| !keep(here, **address));
        let gone: Vec<_> = gone.copied().collect();
        for address in gone {
            self.forget(attachment, address);
        }
    }

    fn forget(&mut self, attachment: AttachmentIndex, address: IpAddr) {
        let here = self.attachments.get_mut(&attachment);
        let Some(entry) = here.and_then(|here| here.entries.remove(&address)) else { return };
        self.counters.dropped_waiting += entry.waiting.len() as u64;
        if entry.state.mac().is_some() {
            self.changed.insert((attachment, address));
        }
    }

    fn release(&mut self, attachment: AttachmentIndex, mac: MacAddr, waited: (u16, Vec<u8>)) {
        let (ethertype, packet) = waited;
        if self.transmit.len() == TRANSMIT_MAX {
            self.counters.dropped_waiting += 1;
            return;
        }
        self.transmit.push_back(Injected { attachment, destination: mac, ethertype, packet });
    }

    fn transmit(&mut self, attachment: AttachmentIndex, outgoing: message::Outgoing) {
        if self.transmit.len() == TRANSMIT_MAX {
            self.counters.unsent += 1;
            return;
        }
        let message::Outgoing { destination, ethertype, packet } = outgoing;
        self.transmit.push_back(Injected { attachment, destination, ethertype, packet });
    }

    fn wake_at(&mut self, at: Instant) {
        self.next = self.next.min(at);
    }
}

impl Attachment {
    fn new(mac: MacAddr) -> Self {
        Self { mac, own: Vec::new(), on_link: Vec::new(), entries: BTreeMap::new() }
    }

    fn find_own(&self, address: IpAddr) -> Option<&Own> {
        self.own.iter().find(|own| own.address == address)
    }

    fn answers_for(&self, address: IpAddr) -> bool {
        self.find_own(address).is_some_and(|own| !own.duplicate)
    }

    /// Whether a neighbour may have the address. Link-local ones are on every link.
    fn reaches(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => {
                !v4.is_unspecified()
                    && !v4.is_multicast()
                    && !v4.is_broadcast()
                    && self.on_link.iter().any(|block| block.contains(&address))
            }
            IpAddr::V6(v6) => {
                v6.is_unicast_link_local()
                    || !v6.is_unspecified()
                        && !v6.is_multicast()
                        && self.on_link.iter().any(|block| block.contains(&address))
            }
        }
    }

    /// What to ask about a neighbour: unicast when its MAC is known.
    fn question(&self, address: IpAddr) -> Option<message::Outgoing> {
        let to = self.entries.get(&address)?.state.mac();
        Some(match (address, self.speaker(address)?) {
            (IpAddr::V4(target), IpAddr::V4(own)) => {
                message::arp_request(self.mac, own, target, to)
            }
            (IpAddr::V6(target), IpAddr::V6(own)) => {
                message::solicit(self.mac, Some(own), target, to)
            }
            _ => return None,
        })
    }

    /// Our address to ask from: one the neighbour has on its link, or any of the family.
    fn speaker(&self, neighbor: IpAddr) -> Option<IpAddr> {
        let usable = || {
            let usable = |own: &&Own| !own.duplicate && own.address.is_ipv4() == neighbor.is_ipv4();
            self.own.iter().filter(usable).map(|own| own.address)
        };
        let shares_link = |own: &IpAddr| {
            is_link_local(*own) && is_link_local(neighbor)
                || self.on_link.iter().any(|block| block.contains(own) && block.contains(&neighbor))
        };
        let global = || usable().find(|own| !is_link_local(*own));
        usable().find(shares_link).or_else(global).or_else(|| usable().next())
    }

    fn next(&self) -> Instant {
        let entries = self.entries.values().map(|entry| entry.deadline);
        let own = self.own.iter().filter_map(|own| own.tentative_until);
        entries.chain(own).min().unwrap_or(Instant::NEVER)
    }
}

impl Own {
    fn new(address: IpAddr, now: Instant) -> Self {
        let tentative_until = address.is_ipv6().then(|| now + DAD_TIME);
        Self { address, tentative_until, duplicate: false }
    }
}

impl State {
    fn mac(self) -> Option<MacAddr> {
        match self {
            Self::Incomplete { .. } => None,
            Self::Reachable { mac } | Self::Probe { mac, .. } => Some(mac),
        }
    }

    /// Counts a question and returns how long to wait for the answer: longer and longer for one
    /// that has not come to many.
    fn count_ask(&mut self) -> Duration {
        match self {
            Self::Incomplete { asks } | Self::Probe { asks, .. } => {
                *asks = asks.saturating_add(1);
                let patience = u32::from(asks.saturating_sub(ASKS - 1)).max(1);
                (ASK_INTERVAL * patience).min(ASK_INTERVAL_MAX)
            }
            Self::Reachable { .. } => ASK_INTERVAL,
        }
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// A MAC that one host can have.
fn is_single(mac: MacAddr) -> bool {
    !mac.is_multicast() && mac != MacAddr::default()
}

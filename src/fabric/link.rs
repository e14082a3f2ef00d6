//! A link: two channels with rate, delay, jitter and loss, carrier, and the faults put on it. Whatever
//! happens to a frame between two nodes happens here, on every wire.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use crate::io::gso::{self, Layout};
use crate::io::{Frame, Frames};
use crate::model::{Bandwidth, Instant, Random};
use crate::router::{DropReason, Ledger};
use crate::wire::{bfd, ethertype, ipv4, ipv6, protocol, tcp, udp, vlan};

/// Bytes a channel holds back for its rate before it drops, when nothing else is said: 4 MiB.
const QUEUE_BYTES: u64 = 4 << 20;

/// Where BGP listens (RFC 4271, 8.2.1).
const BGP: u16 = 179;

/// How long a frame waits for one to overtake it.
const OVERTAKEN_WITHIN: Duration = Duration::from_millis(100);

/// What a frame costs on Ethernet beside its bytes: preamble, FCS and gap.
const FRAME_OVERHEAD: u64 = 24;

/// Bits of an index for the place of a link or node at its worker, whose number is above them.
pub(super) const PLACE_BITS: u32 = 22;

/// A link of a fabric.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LinkIndex(pub usize);

impl LinkIndex {
    pub(super) const fn new(worker: usize, at: usize) -> Self {
        Self(worker << PLACE_BITS | at)
    }

    pub const fn worker(self) -> usize {
        self.0 >> PLACE_BITS
    }

    pub(super) const fn at(self) -> usize {
        self.0 & ((1 << PLACE_BITS) - 1)
    }
}

/// Which way along a link: from its first end to its second, or back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Direction {
    Forward,
    Backward,
}

impl Direction {
    pub const BOTH: [Self; 2] = [Self::Forward, Self::Backward];

    #[must_use]
    pub const fn back(self) -> Self {
        match self {
            Self::Forward => Self::Backward,
            Self::Backward => Self::Forward,
        }
    }
}

/// What a link is when nothing is wrong with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkConfig {
    /// As in reports: `ams/primary:nni (ce1)`.
    pub name: String,
    /// Bits a second on the wire, overhead included; none means as fast as asked.
    pub rate: Option<Bandwidth>,
    pub delay: Duration,
    pub jitter: Duration,
    pub loss_ppm: u32,
    /// Whether each end sees that carrier is lost; the ends of a tunnel do not.
    pub shows_carrier: [bool; 2],
    /// Links whose loss of carrier this one shows too (`carrierFollows`).
    pub follows: Vec<LinkIndex>,
}

impl LinkConfig {
    /// A link that carries everything at once.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            rate: None,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss_ppm: 0,
            shows_carrier: [true; 2],
            follows: Vec::new(),
        }
    }
}

/// Something broken on a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Carrier is lost at both ends, and with it what is on the way.
    Cut,
    /// Frames vanish; carrier stays.
    Blackhole(FaultScope),
    Impair(Impairment),
}

/// Which frames a black hole swallows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultScope {
    All,
    /// All but ARP, ND, BFD and BGP.
    Data,
    /// ARP, ND, BFD and BGP only.
    Control,
}

/// Added to what the link has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Impairment {
    pub loss_ppm: u32,
    /// One bit behind the Ethernet header and the tags is another, as where a device on the way spoils a
    /// frame and makes its check sequence anew.
    pub corrupt_ppm: u32,
    /// The end is missing; the Ethernet header and the tags stay.
    pub truncate_ppm: u32,
    /// It comes twice.
    pub duplicate_ppm: u32,
    /// The next frame overtakes it, if one comes within 100 ms.
    pub reorder_ppm: u32,
    pub delay: Duration,
    pub jitter: Duration,
    /// The slower of this and the link's own.
    pub rate: Option<Bandwidth>,
}

/// What a link did to frames that it did not lose, in packets.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Altered {
    pub corrupted: u64,
    pub truncated: u64,
    pub duplicated: u64,
    pub reordered: u64,
}

/// A link with its two channels.
#[derive(Debug)]
pub(super) struct Link {
    pub config: LinkConfig,
    pub channels: [Channel; 2],
    /// False while cut, or while a node at its end is down.
    pub carrier: bool,
}

/// One direction of a link.
#[derive(Debug)]
pub(super) struct Channel {
    /// Frames on the way, in order of arrival.
    in_flight: VecDeque<InFlight>,
    /// Frames held back for one of those to overtake, in order of arrival too.
    overtaken: VecDeque<InFlight>,
    /// When the last bit accepted so far will have left.
    free_at: Instant,
    /// No frame overtakes another, but those that a fault holds back.
    last_arrival: Instant,
    /// Each with who put it there, so that circuits that share a link mend their own.
    pub faults: Vec<(String, Fault)>,
    pub ledger: Ledger,
    pub altered: Altered,
    /// What is lost is kept for a capture to take; none where nobody captures.
    lost: Option<Vec<Lost>>,
    random: Random,
}

/// A frame that a link has lost, and why.
pub(super) type Lost = (Frame, DropReason);

/// A frame on the way.
#[derive(Debug)]
struct InFlight {
    arrival: Instant,
    frame: Frame,
    /// What it is on the wire.
    bytes: u64,
}

/// What a channel does to a frame that is not lost whole: its configuration and its faults.
#[derive(Clone, Copy)]
struct Passage {
    loss_ppm: u32,
    corrupt_ppm: u32,
    truncate_ppm: u32,
    duplicate_ppm: u32,
    reorder_ppm: u32,
    rate: Option<Bandwidth>,
    delay: Duration,
    jitter: Duration,
}

impl Link {
    pub fn new(config: LinkConfig, seed: u64) -> Self {
        let channel = |way: &str| Channel {
            in_flight: VecDeque::new(),
            overtaken: VecDeque::new(),
            free_at: Instant::ZERO,
            last_arrival: Instant::ZERO,
            faults: Vec::new(),
            ledger: Ledger::default(),
            altered: Altered::default(),
            lost: None,
            random: Random::new(seed, &format!("{} {way}", config.name)),
        };
        Self { channels: [channel("forward"), channel("backward")], config, carrier: true }
    }

    pub fn is_cut(&self) -> bool {
        let is_cut = |(_, fault): &(String, Fault)| *fault == Fault::Cut;
        self.channels.iter().any(|channel| channel.faults.iter().any(is_cut))
    }

    /// Takes off every fault of an owner. What waited for the end of one goes on as the link itself
    /// carries it.
    pub fn mend(&mut self, owner: &str, now: Instant) {
        for channel in &mut self.channels {
            channel.faults.retain(|(other, _)| other != owner);
            channel.hurry(&self.config, now);
        }
    }

    /// Carrier comes or goes; with it goes what is on the way.
    pub fn set_carrier(&mut self, carrier: bool, frames: &mut Frames, now: Instant) {
        self.carrier = carrier;
        if !carrier {
            self.channels.iter_mut().for_each(|channel| channel.lose(frames, now));
        }
    }

    /// Takes a frame at its near end. `Some` is the arrival of the channel's first frame, when
    /// that has changed.
    pub fn accept(
        &mut self,
        direction: Direction,
        frame: Frame,
        frames: &mut Frames,
        now: Instant,
    ) -> Option<Instant> {
        let channel = &mut self.channels[direction as usize];
        channel.ledger.received += frame.meta.wire_packets();
        let before = channel.next_arrival();
        match channel.passage(&self.config, self.carrier, frames.bytes(&frame)) {
            Ok(passage) if frame.meta.is_super_frame() => {
                channel.pass_super_frame(&passage, frame, frames, now);
            }
            Ok(passage) => channel.pass(&passage, frame, frames, now),
            Err(reason) => channel.drop(frame, reason, frames),
        }
        let next = channel.next_arrival();
        (next != before).then_some(next)
    }

    /// The frames that have arrived by `now`, in order.
    pub fn deliver(&mut self, direction: Direction, now: Instant) -> impl Iterator<Item = Frame> {
        let Channel { in_flight, overtaken, ledger, .. } = &mut self.channels[direction as usize];
        std::iter::from_fn(move || {
            let is_late = comes_first(overtaken.front(), in_flight.front());
            let queue = if is_late { &mut *overtaken } else { &mut *in_flight };
            let frame = queue.pop_front_if(|first| first.arrival <= now)?.frame;
            let packets = frame.meta.wire_packets();
            ledger.queued -= packets;
            ledger.transmitted += packets;
            Some(frame)
        })
    }

    /// What [`Link::deliver`] will give.
    pub fn arriving(&self, direction: Direction, now: Instant) -> impl Iterator<Item = &Frame> {
        let Channel { in_flight, overtaken, .. } = &self.channels[direction as usize];
        let (mut in_order, mut late) = (in_flight.iter().peekable(), overtaken.iter().peekable());
        std::iter::from_fn(move || {
            let is_late = comes_first(late.peek().copied(), in_order.peek().copied());
            let queue = if is_late { &mut late } else { &mut in_order };
            queue.next_if(|first| first.arrival <= now).map(|first| &first.frame)
        })
    }

    /// How many frames are on the way, in order and held back.
    pub fn in_flight(&self, direction: Direction) -> [usize; 2] {
        let Channel { in_flight, overtaken, .. } = &self.channels[direction as usize];
        [in_flight.len(), overtaken.len()]
    }

    /// What is on the way behind the first so many frames.
    pub fn sent_after(
        &self,
        direction: Direction,
        [in_order, held_back]: [usize; 2],
    ) -> impl Iterator<Item = &Frame> {
        let Channel { in_flight, overtaken, .. } = &self.channels[direction as usize];
        in_flight.range(in_order..).chain(overtaken.range(held_back..)).map(|sent| &sent.frame)
    }

    /// From now on somebody takes what is lost.
    pub fn keep_lost(&mut self) {
        for channel in &mut self.channels {
            channel.lost.get_or_insert_default();
        }
    }

    /// Nobody takes it any more.
    pub fn forget_lost(&mut self) {
        self.channels.iter_mut().for_each(|channel| channel.lost = None);
    }

    /// What was lost since this was last asked, to be freed.
    pub fn take_lost(&mut self, direction: Direction) -> Vec<Lost> {
        self.channels[direction as usize].lost.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// When the last frame taken so far arrives, or did, of those that were not held back.
    pub const fn last_arrival(&self, direction: Direction) -> Instant {
        self.channels[direction as usize].last_arrival
    }

    /// When the channel's first frame arrives.
    pub fn next_arrival(&self, direction: Direction) -> Instant {
        self.channels[direction as usize].next_arrival()
    }
}

/// Whether what was held back arrives before what was not; at the same time it is overtaken.
fn comes_first(late: Option<&InFlight>, in_order: Option<&InFlight>) -> bool {
    late.is_some_and(|late| in_order.is_none_or(|first| late.arrival < first.arrival))
}

impl Channel {
    fn next_arrival(&self) -> Instant {
        let arrival = |queue: &VecDeque<InFlight>| queue.front().map(|first| first.arrival);
        let first = arrival(&self.in_flight).unwrap_or(Instant::NEVER);
        arrival(&self.overtaken).map_or(first, |late| late.min(first))
    }

    /// What a frame meets, or why it is lost whole.
    fn passage(
        &self,
        config: &LinkConfig,
        carrier: bool,
        bytes: &[u8],
    ) -> Result<Passage, DropReason> {
        if !carrier {
            return Err(DropReason::LinkDown);
        }
        let mut passage = Passage {
            loss_ppm: config.loss_ppm,
            corrupt_ppm: 0,
            truncate_ppm: 0,
            duplicate_ppm: 0,
            reorder_ppm: 0,
            rate: config.rate,
            delay: config.delay,
            jitter: config.jitter,
        };
        for (_, fault) in &self.faults {
            match fault {
                Fault::Cut => return Err(DropReason::LinkDown),
                Fault::Blackhole(scope) if scope.covers(bytes) => return Err(DropReason::LinkDown),
                Fault::Blackhole(_) => {}
                Fault::Impair(impairment) => passage.impair(impairment),
            }
        }
        Ok(passage)
    }

    /// Loss, jitter and what alters frames are for each segment to meet. Else the frame goes whole,
    /// without what the queue has no room for.
    fn pass_super_frame(
        &mut self,
        passage: &Passage,
        mut frame: Frame,
        frames: &mut Frames,
        now: Instant,
    ) {
        if passage.is_free() {
            // Its bytes on the wire cost no time, so that nobody asks for them.
            let bytes = frame.len() as u64;
            return self.depart(passage, frame, bytes, now);
        }
        let Some(layout) = Layout::of(frames.bytes(&frame), frame.meta) else {
            return self.drop(frame, DropReason::Malformed, frames);
        };
        if passage.loss_ppm > 0 || !passage.jitter.is_zero() || passage.alters() {
            let segmented = layout.segment(frame, frames);
            self.ledger.drop(DropReason::NoBuffer, segmented.missing);
            for segment in segmented.frames {
                self.pass(passage, segment, frames, now);
            }
            return;
        }
        let room = match passage.rate {
            Some(rate) => self.room(rate, &layout, now),
            None => layout.segments(),
        };
        if room == 0 {
            return self.drop(frame, DropReason::LinkFull, frames);
        }
        let mut bytes = layout.frame_bytes();
        if room < layout.segments() {
            self.ledger.drop(DropReason::LinkFull, layout.segments() - room);
            if let Some(lost) = &mut self.lost {
                let rest = layout.part(&frame, room..layout.segments(), frames);
                lost.extend(rest.map(|rest| (rest, DropReason::LinkFull)));
            }
            layout.keep(&mut frame, 0..room, frames);
            bytes = room * layout.full_frame_bytes();
        }
        self.depart(passage, frame, bytes, now);
    }

    /// An ordinary frame.
    fn pass(&mut self, passage: &Passage, frame: Frame, frames: &mut Frames, now: Instant) {
        if passage.loss_ppm > 0 && self.random.one_in_million(passage.loss_ppm) {
            return self.drop(frame, DropReason::LinkLoss, frames);
        }
        if passage.rate.is_some_and(|rate| self.backlog(now) > queue_time(rate)) {
            return self.drop(frame, DropReason::LinkFull, frames);
        }
        if passage.alters() {
            return self.pass_altered(passage, frame, frames, now);
        }
        let bytes = frame.len() as u64;
        self.depart(passage, frame, bytes, now);
    }

    /// A frame that is not lost, and may not be the same at the far end.
    fn pass_altered(
        &mut self,
        passage: &Passage,
        mut frame: Frame,
        frames: &mut Frames,
        now: Instant,
    ) {
        let content = content_of(frames.bytes(&frame));
        if self.is_hit(passage.corrupt_ppm) && !content.is_empty() {
            // Else whoever completes the checksum would make it fit what was spoilt.
            gso::complete_checksum(&mut frame, frames);
            let bit = self.random.below(content.len() as u64 * 8) as usize;
            frames.bytes_mut(&frame)[content.start + bit / 8] ^= 1 << (bit % 8);
            self.altered.corrupted += 1;
        }
        if self.is_hit(passage.truncate_ppm) && !content.is_empty() {
            gso::complete_checksum(&mut frame, frames);
            let left = self.random.below(content.len() as u64) as usize;
            frame.truncate(content.start + left);
            self.altered.truncated += 1;
        }
        let copy = self.is_hit(passage.duplicate_ppm).then(|| frames.duplicate(&frame));
        let bytes = frame.len() as u64;
        if self.is_hit(passage.reorder_ppm) {
            self.altered.reordered += 1;
            self.hold_back(passage, frame, bytes, now);
        } else {
            self.depart(passage, frame, bytes, now);
        }
        if let Some(copy) = copy {
            // It is the link that makes it.
            self.ledger.originated += 1;
            match copy {
                Some(copy) => {
                    self.altered.duplicated += 1;
                    self.depart(passage, copy, bytes, now);
                }
                None => self.ledger.drop(DropReason::NoBuffer, 1),
            }
        }
    }

    /// A share of nothing draws nothing: a run without the fault is what it was.
    fn is_hit(&mut self, parts: u32) -> bool {
        parts > 0 && self.random.one_in_million(parts)
    }

    /// Puts a frame on the way for which there is room. Frames that were held back are behind it.
    fn depart(&mut self, passage: &Passage, frame: Frame, bytes: u64, now: Instant) {
        let (arrival, bytes) = self.leave(passage, &frame, bytes, now);
        self.last_arrival = self.last_arrival.max(arrival);
        let arrival = self.last_arrival;
        self.overtaken.iter_mut().for_each(|late| late.arrival = late.arrival.min(arrival));
        self.in_flight.push_back(InFlight { arrival, frame, bytes });
    }

    /// Puts a frame on the way that the next one overtakes.
    fn hold_back(&mut self, passage: &Passage, frame: Frame, bytes: u64, now: Instant) {
        let (arrival, bytes) = self.leave(passage, &frame, bytes, now);
        let arrival = arrival.max(self.last_arrival) + OVERTAKEN_WITHIN;
        let arrival = self.overtaken.back().map_or(arrival, |last| arrival.max(last.arrival));
        self.overtaken.push_back(InFlight { arrival, frame, bytes });
    }

    /// When a frame that leaves now would arrive, and what it is on the wire.
    fn leave(
        &mut self,
        passage: &Passage,
        frame: &Frame,
        bytes: u64,
        now: Instant,
    ) -> (Instant, u64) {
        let packets = frame.meta.wire_packets();
        let bytes = bytes + FRAME_OVERHEAD * packets;
        let leaves = match passage.rate {
            Some(rate) => {
                self.free_at = self.free_at.max(now) + bits_time(rate, bytes * 8);
                self.free_at
            }
            None => now,
        };
        let wobble = match passage.jitter {
            Duration::ZERO => Duration::ZERO,
            jitter => self.random.jittered(jitter, 0, 100),
        };
        self.ledger.queued += packets;
        (leaves + passage.delay + wobble, bytes)
    }

    fn drop(&mut self, frame: Frame, reason: DropReason, frames: &mut Frames) {
        self.ledger.drop(reason, frame.meta.wire_packets());
        match &mut self.lost {
            Some(lost) => lost.push((frame, reason)),
            None => frames.free(frame),
        }
    }

    /// No frame arrives later than it would if the link, as it is configured, took it now.
    fn hurry(&mut self, config: &LinkConfig, now: Instant) {
        (self.free_at, self.last_arrival) = (now, now);
        self.in_flight.append(&mut self.overtaken);
        for InFlight { arrival, bytes, .. } in &mut self.in_flight {
            if let Some(rate) = config.rate {
                self.free_at += bits_time(rate, *bytes * 8);
            }
            *arrival = (*arrival).min(self.free_at + config.delay).max(self.last_arrival);
            self.last_arrival = *arrival;
        }
    }

    fn lose(&mut self, frames: &mut Frames, now: Instant) {
        self.in_flight.append(&mut self.overtaken);
        for InFlight { frame, .. } in std::mem::take(&mut self.in_flight) {
            self.ledger.queued -= frame.meta.wire_packets();
            self.drop(frame, DropReason::LinkDown, frames);
        }
        (self.free_at, self.last_arrival) = (now, now);
    }

    /// How many segments find the queue not full, one after the other.
    fn room(&self, rate: Bandwidth, layout: &Layout, now: Instant) -> u64 {
        let Some(left) = queue_time(rate).checked_sub(self.backlog(now)) else { return 0 };
        let each = bits_time(rate, (layout.full_frame_bytes() + FRAME_OVERHEAD) * 8);
        let behind_the_first = left.as_nanos().checked_div(each.as_nanos());
        let room = behind_the_first.map_or(u64::MAX, |behind| behind as u64 + 1);
        room.min(layout.segments())
    }

    /// For how long what was accepted so far keeps the link busy.
    fn backlog(&self, now: Instant) -> Duration {
        self.free_at.max(now).since(now)
    }
}

impl Passage {
    /// Whether every segment of a super-frame meets the same, at the same time.
    const fn is_free(&self) -> bool {
        self.loss_ppm == 0 && self.jitter.is_zero() && self.rate.is_none() && !self.alters()
    }

    /// Whether a frame may be another at the far end, or in another order.
    const fn alters(&self) -> bool {
        self.corrupt_ppm | self.truncate_ppm | self.duplicate_ppm | self.reorder_ppm != 0
    }

    fn impair(&mut self, impairment: &Impairment) {
        for (share, more) in [
            (&mut self.loss_ppm, impairment.loss_ppm),
            (&mut self.corrupt_ppm, impairment.corrupt_ppm),
            (&mut self.truncate_ppm, impairment.truncate_ppm),
            (&mut self.duplicate_ppm, impairment.duplicate_ppm),
            (&mut self.reorder_ppm, impairment.reorder_ppm),
        ] {
            *share = share.saturating_add(more);
        }
        self.delay += impairment.delay;
        self.jitter += impairment.jitter;
        self.rate = match (self.rate, impairment.rate) {
            (Some(own), Some(other)) => Some(own.min(other)),
            (own, other) => own.or(other),
        };
    }
}

/// What of a frame is behind the Ethernet header and the tags; nothing of one that ends before.
fn content_of(frame: &[u8]) -> Range<usize> {
    let start = vlan::Tags::parse(frame).map_or(frame.len(), |tags| tags.payload_offset);
    start..frame.len()
}

/// Longest backlog that takes one more frame.
fn queue_time(rate: Bandwidth) -> Duration {
    bits_time(rate, QUEUE_BYTES * 8)
}

fn bits_time(rate: Bandwidth, bits: u64) -> Duration {
    const NANOS_PER_SECOND: u64 = 1_000_000_000;
    let bps = rate.bps().max(1);
    // A division of 128 bits is several times slower, and frames need none.
    if let Some(product) = bits.checked_mul(NANOS_PER_SECOND) {
        return Duration::from_nanos(product / bps);
    }
    let nanos = u128::from(bits) * u128::from(NANOS_PER_SECOND) / u128::from(bps);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl FaultScope {
    fn covers(self, frame: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::Data => !is_control(frame),
            Self::Control => is_control(frame),
        }
    }
}

/// ARP, ND, BFD and BGP: what keeps a link's sessions alive.
fn is_control(frame: &[u8]) -> bool {
    let Ok(tags) = vlan::Tags::parse(frame) else { return false };
    let packet = &frame[tags.payload_offset..];
    let (protocol, payload) = match tags.ethertype {
        ethertype::ARP => return true,
        ethertype::IPV4 => match ipv4::View::new(packet) {
            Ok(view) => (view.protocol(), view.payload()),
            Err(_) => return false,
        },
        ethertype::IPV6 => match ipv6::View::new(packet) {
            Ok(view) => (view.next_header(), view.payload()),
            Err(_) => return false,
        },
        _ => return false,
    };
    match protocol {
        protocol::TCP => tcp::View::new(payload)
            .is_ok_and(|tcp| tcp.source_port() == BGP || tcp.destination_port() == BGP),
        protocol::UDP => {
            udp::View::new(payload).is_ok_and(|udp| udp.destination_port() == bfd::PORT)
        }
        protocol::ICMPV6 => payload.first().is_some_and(|kind| (133..=137).contains(kind)),
        _ => false,
    }
}

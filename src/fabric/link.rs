//! A link: two channels with rate, delay, jitter and loss, carrier, and the faults put on it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::io::gso::Layout;
use crate::io::{Frame, Frames};
use crate::model::{Bandwidth, Instant, Random};
use crate::router::{DropReason, Ledger};
use crate::wire::{bfd, ethertype, ipv4, ipv6, protocol, tcp, udp, vlan};

/// Bytes a channel holds back for its rate before it drops, when nothing else is said: 4 MiB.
const QUEUE_BYTES: u64 = 4 << 20;

/// Where BGP listens (RFC 4271, 8.2.1).
const BGP: u16 = 179;

/// What a frame costs on Ethernet beside its bytes: preamble, FCS and gap.
const FRAME_OVERHEAD: u64 = 24;

/// A link of the fabric.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LinkIndex(pub usize);

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
    pub delay: Duration,
    pub jitter: Duration,
    /// The slower of this and the link's own.
    pub rate: Option<Bandwidth>,
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
    /// When the last bit accepted so far will have left.
    free_at: Instant,
    /// No frame overtakes another.
    last_arrival: Instant,
    /// Each with who put it there, so that circuits that share a link mend their own.
    pub faults: Vec<(String, Fault)>,
    pub ledger: Ledger,
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
    rate: Option<Bandwidth>,
    delay: Duration,
    jitter: Duration,
}

impl Link {
    pub fn new(config: LinkConfig, seed: u64) -> Self {
        let channel = |way: &str| Channel {
            in_flight: VecDeque::new(),
            free_at: Instant::ZERO,
            last_arrival: Instant::ZERO,
            faults: Vec::new(),
            ledger: Ledger::default(),
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
        let was_empty = channel.in_flight.is_empty();
        match channel.passage(&self.config, self.carrier, frames.bytes(&frame)) {
            Ok(passage) if frame.meta.is_super_frame() => {
                channel.pass_super_frame(&passage, frame, frames, now);
            }
            Ok(passage) => channel.pass(&passage, frame, frames, now),
            Err(reason) => channel.drop(frame, reason, frames),
        }
        if was_empty { channel.in_flight.front().map(|first| first.arrival) } else { None }
    }

    /// The frames that have arrived by `now`, in order.
    pub fn deliver(&mut self, direction: Direction, now: Instant) -> impl Iterator<Item = Frame> {
        let Channel { in_flight, ledger, .. } = &mut self.channels[direction as usize];
        std::iter::from_fn(move || {
            let frame = in_flight.pop_front_if(|first| first.arrival <= now)?.frame;
            let packets = frame.meta.wire_packets();
            ledger.queued -= packets;
            ledger.transmitted += packets;
            Some(frame)
        })
    }

    /// What [`Link::deliver`] will give.
    pub fn arriving(&self, direction: Direction, now: Instant) -> impl Iterator<Item = &Frame> {
        let in_flight = &self.channels[direction as usize].in_flight;
        in_flight.iter().take_while(move |first| first.arrival <= now).map(|first| &first.frame)
    }

    /// How many frames are on the way.
    pub fn in_flight(&self, direction: Direction) -> usize {
        self.channels[direction as usize].in_flight.len()
    }

    /// What is on the way behind the first so many frames.
    pub fn sent_after(&self, direction: Direction, first: usize) -> impl Iterator<Item = &Frame> {
        self.channels[direction as usize].in_flight.range(first..).map(|sent| &sent.frame)
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

    /// When the last frame taken so far arrives, or did.
    pub const fn last_arrival(&self, direction: Direction) -> Instant {
        self.channels[direction as usize].last_arrival
    }

    /// When the channel's first frame arrives.
    pub fn next_arrival(&self, direction: Direction) -> Instant {
        let front = self.channels[direction as usize].in_flight.front();
        front.map_or(Instant::NEVER, |first| first.arrival)
    }
}

impl Channel {
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

    /// Loss and jitter are for each segment to meet. Else the frame goes whole, without what the
    /// queue has no room for.
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
        if passage.loss_ppm > 0 || !passage.jitter.is_zero() {
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
        let bytes = frame.len() as u64;
        self.depart(passage, frame, bytes, now);
    }

    /// Puts a frame on the way for which there is room.
    fn depart(&mut self, passage: &Passage, frame: Frame, bytes: u64, now: Instant) {
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
        self.last_arrival = self.last_arrival.max(leaves + passage.delay + wobble);
        self.ledger.queued += packets;
        self.in_flight.push_back(InFlight { arrival: self.last_arrival, frame, bytes });
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
        for InFlight { arrival, bytes, .. } in &mut self.in_flight {
            if let Some(rate) = config.rate {
                self.free_at += bits_time(rate, *bytes * 8);
            }
            *arrival = (*arrival).min(self.free_at + config.delay).max(self.last_arrival);
            self.last_arrival = *arrival;
        }
    }

    fn lose(&mut self, frames: &mut Frames, now: Instant) {
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
        self.loss_ppm == 0 && self.jitter.is_zero() && self.rate.is_none()
    }

    fn impair(&mut self, impairment: &Impairment) {
        self.loss_ppm = self.loss_ppm.saturating_add(impairment.loss_ppm);
        self.delay += impairment.delay;
        self.jitter += impairment.jitter;
        self.rate = match (self.rate, impairment.rate) {
            (Some(own), Some(other)) => Some(own.min(other)),
            (own, other) => own.or(other),
        };
    }
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

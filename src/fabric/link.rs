//! A link: two channels with rate, delay, jitter and loss, carrier, and the faults put on it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::io::{Frame, Frames, Meta};
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
    in_flight: VecDeque<(Instant, Frame)>,
    /// When the last bit accepted so far will have left.
    free_at: Instant,
    /// No frame overtakes another.
    last_arrival: Instant,
    /// Each with who put it there, so that circuits that share a link mend their own.
    pub faults: Vec<(String, Fault)>,
    pub ledger: Ledger,
    random: Random,
}

impl Link {
    pub fn new(config: LinkConfig, seed: u64) -> Self {
        let channel = |way: &str| Channel {
            in_flight: VecDeque::new(),
            free_at: Instant::ZERO,
            last_arrival: Instant::ZERO,
            faults: Vec::new(),
            ledger: Ledger::default(),
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
        let packets = frame.meta.wire_packets();
        channel.ledger.received += packets;
        let was_empty = channel.in_flight.is_empty();
        match channel.fate(&self.config, self.carrier, frames.bytes(&frame), frame.meta, now) {
            Ok(arrival) => {
                channel.ledger.queued += packets;
                channel.in_flight.push_back((arrival, frame));
                was_empty.then_some(arrival)
            }
            Err(reason) => {
                channel.ledger.drop(reason, packets);
                frames.free(frame);
                None
            }
        }
    }

    /// The next frame that has arrived by `now`.
    pub fn deliver(&mut self, direction: Direction, now: Instant) -> Option<Frame> {
        let channel = &mut self.channels[direction as usize];
        let (_, frame) = channel.in_flight.pop_front_if(|(arrival, _)| *arrival <= now)?;
        let packets = frame.meta.wire_packets();
        channel.ledger.queued -= packets;
        channel.ledger.transmitted += packets;
        Some(frame)
    }

    /// When the channel's first frame arrives.
    pub fn next_arrival(&self, direction: Direction) -> Instant {
        let front = self.channels[direction as usize].in_flight.front();
        front.map_or(Instant::NEVER, |(arrival, _)| *arrival)
    }
}

impl Channel {
    /// When a frame accepted now arrives, or why it does not.
    fn fate(
        &mut self,
        config: &LinkConfig,
        carrier: bool,
        bytes: &[u8],
        meta: Meta,
        now: Instant,
    ) -> Result<Instant, DropReason> {
        if !carrier {
            return Err(DropReason::LinkDown);
        }
        let mut loss_ppm = config.loss_ppm;
        let mut rate = config.rate;
        let mut delay = config.delay;
        let mut jitter = config.jitter;
        for (_, fault) in &self.faults {
            match fault {
                Fault::Cut => return Err(DropReason::LinkDown),
                Fault::Blackhole(scope) if scope.covers(bytes) => return Err(DropReason::LinkDown),
                Fault::Blackhole(_) => {}
                Fault::Impair(impairment) => {
                    loss_ppm = loss_ppm.saturating_add(impairment.loss_ppm);
                    delay += impairment.delay;
                    jitter += impairment.jitter;
                    rate = match (rate, impairment.rate) {
                        (Some(own), Some(other)) => Some(own.min(other)),
                        (own, other) => own.or(other),
                    };
                }
            }
        }
        if loss_ppm > 0 && self.random.one_in_million(loss_ppm) {
            return Err(DropReason::LinkLoss);
        }
        let leaves = match rate {
            Some(rate) => self.serialize(rate, bytes.len() as u64, meta, now)?,
            None => now,
        };
        let wobble = if jitter.is_zero() { jitter } else { self.random.jittered(jitter, 0, 100) };
        self.last_arrival = self.last_arrival.max(leaves + delay + wobble);
        Ok(self.last_arrival)
    }

    /// No frame arrives later than it would if the link, as it is configured, took it now.
    fn hurry(&mut self, config: &LinkConfig, now: Instant) {
        (self.free_at, self.last_arrival) = (now, now);
        for (arrival, frame) in &mut self.in_flight {
            if let Some(rate) = config.rate {
                self.free_at += time_on_wire(rate, frame.len() as u64, frame.meta);
            }
            *arrival = (*arrival).min(self.free_at + config.delay).max(self.last_arrival);
            self.last_arrival = *arrival;
        }
    }

    fn lose(&mut self, frames: &mut Frames, now: Instant) {
        for (_, frame) in self.in_flight.drain(..) {
            let packets = frame.meta.wire_packets();
            self.ledger.queued -= packets;
            self.ledger.drop(DropReason::LinkDown, packets);
            frames.free(frame);
        }
        (self.free_at, self.last_arrival) = (now, now);
    }

    fn serialize(
        &mut self,
        rate: Bandwidth,
        bytes: u64,
        meta: Meta,
        now: Instant,
    ) -> Result<Instant, DropReason> {
        let start = self.free_at.max(now);
        if start.since(now) > bits_time(rate, QUEUE_BYTES * 8) {
            return Err(DropReason::LinkFull);
        }
        self.free_at = start + time_on_wire(rate, bytes, meta);
        Ok(self.free_at)
    }
}

/// How long a frame keeps a link of this rate busy.
fn time_on_wire(rate: Bandwidth, bytes: u64, meta: Meta) -> Duration {
    bits_time(rate, (bytes + FRAME_OVERHEAD * meta.wire_packets()) * 8)
}

fn bits_time(rate: Bandwidth, bits: u64) -> Duration {
    let nanos = u128::from(bits) * 1_000_000_000 / u128::from(rate.bps().max(1));
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

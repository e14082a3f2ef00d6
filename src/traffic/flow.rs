//! What a flow of probes is: between whom, how large, how often.

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;
use thiserror::Error;

use crate::model::Instant;

/// Most probes of one flow; a sink's memory is eight bytes each.
pub(super) const PROBES_MAX: u32 = 1 << 26;
/// UDP port that probes go to: discard (RFC 863).
const SINK_PORT: u16 = 9;
/// Ports that conversations come from, one each.
pub(super) const SOURCE_PORT_FIRST: u16 = 20_000;
pub(super) const SOURCE_PORTS: u32 = 40_000;

/// Into how many instants a gap is divided at least before probes of several flows leave together.
const INSTANTS_MIN: u32 = 8;
/// Most flows whose probes leave at one instant, and most bytes of them: less than three full
/// frames, where the smallest bucket of a limiter holds ten.
const TRAIN_FLOWS: u32 = 8;
const TRAIN_BYTES: u32 = 4096;

/// Which way a flow goes, as reports name it. A conversation is two flows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    ToAzure,
    ToOnprem,
}

impl Direction {
    pub const fn name(self) -> &'static str {
        match self {
            Self::ToAzure => "to-azure",
            Self::ToOnprem => "to-onprem",
        }
    }

    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::ToAzure => Self::ToOnprem,
            Self::ToOnprem => Self::ToAzure,
        }
    }
}

/// One end of a flow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct End {
    /// The host's full name: `dc1.erp`.
    pub host: String,
    pub address: IpAddr,
}

/// Numbered UDP probes from one host to another, one every `gap`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flow {
    /// Unique in the lab.
    pub id: u32,
    /// The traffic entry the flow is of.
    pub name: String,
    /// Place among the flows of the entry; both directions of a conversation have the same.
    pub index: u32,
    pub direction: Direction,
    pub from: End,
    pub to: End,
    pub source_port: u16,
    pub destination_port: u16,
    /// Bytes of the IP packet.
    pub size: u16,
    /// Between two probes: the resolution of what is measured.
    pub gap: Duration,
    /// When the first probe leaves.
    pub start: Instant,
    /// No probe leaves then or later; [`Instant::NEVER`] when the host is to be told.
    pub stop: Instant,
}

/// One direction of a traffic entry: a total rate, spread over flows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spread {
    pub name: String,
    pub direction: Direction,
    pub from: End,
    pub to: End,
    pub flows: u32,
    /// Packets a second of all flows together.
    pub rate_pps: u64,
    /// Bytes of the IP packet.
    pub size: u16,
    pub start: Instant,
    pub stop: Instant,
    /// Identifier of the first flow; the others follow.
    pub first_id: u32,
}

/// Why a host does not take a flow.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum FlowError {
    #[error("neither end of the flow is host {0}")]
    NotHere(String),
    #[error("the host has no address {0}")]
    NoAddress(IpAddr),
    #[error("{0} and {1} are not of one family")]
    Families(IpAddr, IpAddr),
    #[error("{size} bytes: a probe has at least {min} and the link takes {max}")]
    Size { size: u16, min: u16, max: u16 },
    #[error("no time between two probes")]
    NoGap,
    #[error("a TCP flow that writes nothing")]
    NoRate,
    #[error("the ports of TCP flow {0} do not tell it")]
    Ports(u32),
    #[error("{mtu} bytes: a link with TCP takes at least {min}")]
    Mtu { mtu: u16, min: u16 },
    #[error("the host has a flow {0} already")]
    Duplicate(u32),
    #[error("a host has at most {0} flows")]
    TooMany(usize),
}

impl Spread {
    /// The flows, each with its own source port, their probes evenly spread over the gap. Those of
    /// many flows leave in trains, as a host hands its card all that is due. No flows when the rate
    /// is zero.
    pub fn flows(&self) -> Vec<Flow> {
        (0..self.flows).filter_map(|index| self.flow(index)).collect()
    }

    /// Flows whose probes leave at the same instant.
    fn train(&self) -> u32 {
        let room = TRAIN_BYTES / u32::from(self.size.max(1));
        (self.flows / INSTANTS_MIN).min(TRAIN_FLOWS).min(room).max(1)
    }

    fn flow(&self, index: u32) -> Option<Flow> {
        let gap_ns = (1_000_000_000 * u64::from(self.flows)).checked_div(self.rate_pps)?;
        let first = index - index % self.train();
        let offset = Duration::from_nanos(gap_ns * u64::from(first) / u64::from(self.flows));
        Some(Flow {
            id: self.first_id + index,
            name: self.name.clone(),
            index,
            direction: self.direction,
            from: self.from.clone(),
            to: self.to.clone(),
            source_port: SOURCE_PORT_FIRST + ((self.first_id + index) % SOURCE_PORTS) as u16,
            destination_port: SINK_PORT,
            size: self.size,
            gap: Duration::from_nanos(gap_ns),
            start: self.start + offset,
            stop: self.stop,
        })
    }
}

impl Flow {
    /// The other direction of the same conversation: ends and ports change places, so that a
    /// symmetric hash sees one conversation.
    #[must_use]
    pub fn reversed(&self, id: u32) -> Self {
        Self {
            id,
            direction: self.direction.opposite(),
            from: self.to.clone(),
            to: self.from.clone(),
            source_port: self.destination_port,
            destination_port: self.source_port,
            ..self.clone()
        }
    }

    /// When the probe of this number is due.
    pub fn sent_at(&self, sequence: u32) -> Instant {
        self.start + self.gap * sequence
    }

    /// Probes that are due before `at`: also the number of the first one that is not.
    pub fn due_before(&self, at: Instant) -> u32 {
        let gap_ns = self.gap.as_nanos().max(1);
        let probes = at.since(self.start).as_nanos().div_ceil(gap_ns);
        u32::try_from(probes).unwrap_or(u32::MAX).min(PROBES_MAX)
    }
}

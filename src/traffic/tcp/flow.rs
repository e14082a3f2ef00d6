//! What a TCP flow is: between whom, how fast, from when to when; and how its ports name it.

use std::net::IpAddr;
use std::time::Duration;

use crate::model::{Bandwidth, Instant};
use crate::traffic::flow::{Direction, End, SOURCE_PORT_FIRST, SOURCE_PORTS};
use crate::traffic::probe;
use crate::traffic::tcp::application::Application;
use crate::traffic::tcp::content::Content;
use crate::traffic::tcp::segment::TIMESTAMPS_LEN;
use crate::wire::{ipv4, ipv6, tcp};

/// Where receivers listen: that of iperf.
const TCP_PORT: u16 = 5_001;
/// Identifiers of TCP flows are below: the source port tells the flow.
const TCP_IDS: u32 = SOURCE_PORTS;
/// Flows of an entry begin within this time, so that they do not write in step.
const STAGGER: Duration = Duration::from_millis(1);

/// A TCP connection between two hosts and the data that one of them writes to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TcpFlow {
    /// Unique among all flows of the lab, and below 40,000: the source port tells it.
    pub id: u32,
    /// The traffic entry the flow is of.
    pub name: String,
    /// Place among the flows of the entry.
    pub index: u32,
    /// Which way the data goes.
    pub direction: Direction,
    /// Opens the connection and writes.
    pub from: End,
    /// Listens and reads.
    pub to: End,
    pub source_port: u16,
    pub destination_port: u16,
    /// What the application writes; none means as much as goes through.
    pub rate: Option<Bandwidth>,
    /// When the connection is opened.
    pub start: Instant,
    /// Nothing but retransmissions leaves then or later; [`Instant::NEVER`] when the host is to be
    /// told.
    pub stop: Instant,
}

/// One direction of a traffic entry: a total rate, divided evenly over flows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TcpSpread {
    pub name: String,
    pub direction: Direction,
    pub from: End,
    pub to: End,
    pub flows: u32,
    /// Of all flows together; none means as much as goes through.
    pub rate: Option<Bandwidth>,
    pub start: Instant,
    pub stop: Instant,
    /// Identifier of the first flow; the others follow.
    pub first_id: u32,
}

impl TcpSpread {
    /// The flows, each with its own source port. No flows when the rate of one is zero.
    pub fn flows(&self) -> Vec<TcpFlow> {
        let each = self.rate.map(|total| total.bps().checked_div(self.flows.into()).unwrap_or(0));
        if each == Some(0) {
            return Vec::new();
        }
        let rate = each.map(Bandwidth::from_bps);
        (0..self.flows).map(|index| self.flow(index, rate)).collect()
    }

    fn flow(&self, index: u32, rate: Option<Bandwidth>) -> TcpFlow {
        let id = self.first_id + index;
        TcpFlow {
            id,
            name: self.name.clone(),
            index,
            direction: self.direction,
            from: self.from.clone(),
            to: self.to.clone(),
            source_port: SOURCE_PORT_FIRST + (id % TCP_IDS) as u16,
            destination_port: TCP_PORT,
            rate,
            start: self.start + STAGGER * index / self.flows,
            stop: self.stop,
        }
    }
}

impl TcpFlow {
    /// What writes to its connections, from a host of this MTU.
    pub fn application(&self, mtu: u16) -> Application {
        Application::new(self.rate, self.start, self.stop, self.segment(mtu))
    }

    /// What its stream consists of.
    pub fn content(&self) -> Content {
        Content::new(probe::owner(&self.from.host), self.id)
    }

    /// Payload of a full segment.
    fn segment(&self, mtu: u16) -> u64 {
        u64::from(mss(mtu, self.to.address) - TIMESTAMPS_LEN)
    }

    /// Whether the ports tell the flow, as those of a [`TcpSpread`] do.
    pub(in crate::traffic) fn is_told_by_ports(&self) -> bool {
        conversation(self.source_port, self.destination_port) == Some((self.id, Role::Receiver))
    }
}

/// The largest segment without options on a link of this MTU (RFC 9293, 3.7.1).
pub(super) const fn mss(mtu: u16, address: IpAddr) -> u16 {
    let headers = match address {
        IpAddr::V4(_) => ipv4::MIN_HEADER_LEN,
        IpAddr::V6(_) => ipv6::HEADER_LEN,
    };
    mtu - (headers + tcp::MIN_HEADER_LEN) as u16
}

/// The part of a host in a flow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::traffic) enum Role {
    Sender,
    Receiver,
}

/// The flow that a segment between these ports is of, and for whom it is; `None` for a segment of
/// anything else. No well-known port is in the range of sources, so that a session to one (BGP,
/// 179) is never taken for a flow.
pub(in crate::traffic) fn conversation(source: u16, destination: u16) -> Option<(u32, Role)> {
    let id = |port: u16| {
        let id = u32::from(port.checked_sub(SOURCE_PORT_FIRST)?);
        (id < TCP_IDS).then_some(id)
    };
    match (source, destination) {
        (port, TCP_PORT) => Some((id(port)?, Role::Receiver)),
        (TCP_PORT, port) => Some((id(port)?, Role::Sender)),
        _ => None,
    }
}

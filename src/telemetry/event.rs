//! The event log: what happened, when, at which router, in order.

use std::fmt;

use serde::Serialize;

use crate::model::Instant;

/// Most events kept; a session that flaps for hours must not eat the host's memory.
const EVENTS_MAX: usize = 100_000;

/// One thing that happened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Event {
    pub at: Instant,
    /// The router, as in reports.
    pub node: String,
    pub kind: EventKind,
    /// For a person: `ams/primary 172.16.0.1 control detection time expired`.
    pub detail: String,
}

/// Kinds of events, in the order a fault usually causes them. `name` is what `cause-order` uses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    Fault,
    CarrierDown,
    CarrierUp,
    BfdDown,
    BfdUp,
    BgpDown,
    BgpUp,
    GroupRewritten,
    RoutesWithdrawn,
    RoutesAnnounced,
    FibUpdated,
    LimiterChanged,
    NeighborResolved,
    Refused,
}

impl EventKind {
    pub const ALL: [Self; 14] = [
        Self::Fault,
        Self::CarrierDown,
        Self::CarrierUp,
        Self::BfdDown,
        Self::BfdUp,
        Self::BgpDown,
        Self::BgpUp,
        Self::GroupRewritten,
        Self::RoutesWithdrawn,
        Self::RoutesAnnounced,
        Self::FibUpdated,
        Self::LimiterChanged,
        Self::NeighborResolved,
        Self::Refused,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::CarrierDown => "carrier-down",
            Self::CarrierUp => "carrier-up",
            Self::BfdDown => "bfd-down",
            Self::BfdUp => "bfd-up",
            Self::BgpDown => "bgp-down",
            Self::BgpUp => "bgp-up",
            Self::GroupRewritten => "group-rewritten",
            Self::RoutesWithdrawn => "routes-withdrawn",
            Self::RoutesAnnounced => "routes-announced",
            Self::FibUpdated => "fib-updated",
            Self::LimiterChanged => "limiter-changed",
            Self::NeighborResolved => "neighbor-resolved",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Events in the order they happened. Full, it keeps what it has and counts what it refuses.
#[derive(Clone, Debug, Default)]
pub struct EventLog {
    events: Vec<Event>,
    refused: u64,
}

impl EventLog {
    pub fn record(&mut self, at: Instant, node: &str, kind: EventKind, detail: impl Into<String>) {
        if self.events.len() == EVENTS_MAX {
            self.refused += 1;
            return;
        }
        self.events.push(Event { at, node: node.to_owned(), kind, detail: detail.into() });
    }

    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Events that did not fit.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Takes the events out, so that a fabric can merge those of all routers.
    pub fn drain(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}

//! The event log: what happened, when, at which router, in order.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::Instant;

/// Most events kept; a session that flaps for hours must not eat the host's memory.
const EVENTS_MAX: usize = 100_000;

/// One thing that happened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Event {
    pub at: Instant,
    /// The router, as in reports.
    pub node: String,
    pub kind: EventKind,
    /// For a person: `ams/primary 172.16.0.1 control detection time expired`.
    pub detail: String,
}

/// Kinds of events, in the order a fault usually causes them. `name` is what `cause-order` uses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
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
    /// Earlier ones.
    forgotten: usize,
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

    /// Events that are kept, from the one of that number on, and the number of the first of them.
    pub fn since(&self, number: usize) -> (usize, &[Event]) {
        let first = number.clamp(self.forgotten, self.recorded());
        (first, &self.events[first - self.forgotten..])
    }

    /// How many there were: the number of the next one.
    pub const fn recorded(&self) -> usize {
        self.forgotten + self.events.len()
    }

    /// Makes room: events before the one of that number are kept no longer.
    pub fn forget(&mut self, before: usize) {
        let count = before.saturating_sub(self.forgotten).min(self.events.len());
        self.events.drain(..count);
        self.forgotten += count;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_makes_room_and_the_rest_keeps_its_numbers() {
        let mut log = EventLog::default();
        let record = |log: &mut EventLog, count: usize| {
            for _ in 0..count {
                log.record(Instant::ZERO, "ce1", EventKind::BgpUp, log.recorded().to_string());
            }
        };
        record(&mut log, EVENTS_MAX + 1);
        assert_eq!((log.recorded(), log.refused()), (EVENTS_MAX, 1));
        log.forget(EVENTS_MAX - 1);
        record(&mut log, 2);
        assert_eq!(log.recorded(), EVENTS_MAX + 2);
        let (first, kept) = log.since(0);
        assert_eq!((first, kept.len()), (EVENTS_MAX - 1, 3));
        assert_eq!(kept[0].detail, first.to_string());
        assert_eq!(log.since(EVENTS_MAX + 1).1.len(), 1);
        assert_eq!(log.since(usize::MAX), (EVENTS_MAX + 2, &[][..]));
    }
}

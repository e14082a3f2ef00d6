//! One transport connection of a session, from its OPEN to its end, and what it may receive when.

use std::time::Duration;

use crate::control::bgp::codec::Context;
use crate::control::bgp::message::{Kind, Notification, Open, code, subcode};
use crate::model::Instant;

/// A transport connection, as its owner numbers it. Never used again after it ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ConnectionId(pub u32);

/// Which end opened a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// The peer did.
    Incoming,
    /// This end did, after [`Action::Connect`](super::Action::Connect).
    Outgoing,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Phase {
    /// Open, but another connection is ahead: nothing is sent until that one has ended or the peer
    /// prefers this one.
    Parked,
    OpenSent,
    OpenConfirm,
    Established,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) direction: Direction,
    /// When it was opened.
    pub(super) since: Instant,
    pub(super) phase: Phase,
    /// Received and not yet a whole message; less than one message between calls.
    pub(super) input: Vec<u8>,
    /// Agreed with the peer; zero until then and for none.
    pub(super) hold: Duration,
    pub(super) hold_at: Instant,
    pub(super) keepalive_at: Instant,
    /// What the peer offered, from OpenConfirm on.
    pub(super) peer: Option<Open>,
    pub(super) context: Context,
}

impl Connection {
    /// Whether its peer has said who it is and was accepted.
    pub(super) fn is_ahead(&self) -> bool {
        match self.phase {
            Phase::Parked | Phase::OpenSent => false,
            Phase::OpenConfirm | Phase::Established => true,
        }
    }
}

/// Whether a message may come in this phase (RFC 4271, 8.2.2); the answer where it may not is the
/// NOTIFICATION of RFC 6608.
pub(super) fn admit(phase: Phase, kind: Kind) -> Result<(), Notification> {
    let unexpected = |subcode| Err(Notification::with_data(code::FSM, subcode, [kind as u8]));
    match (phase, kind) {
        (Phase::Parked | Phase::OpenSent, Kind::Open | Kind::Notification) => Ok(()),
        (Phase::Parked | Phase::OpenSent, Kind::Update | Kind::Keepalive | Kind::RouteRefresh) => {
            unexpected(subcode::fsm::UNEXPECTED_IN_OPEN_SENT)
        }

        (Phase::OpenConfirm, Kind::Keepalive | Kind::Notification) => Ok(()),
        (Phase::OpenConfirm, Kind::Open | Kind::Update | Kind::RouteRefresh) => {
            unexpected(subcode::fsm::UNEXPECTED_IN_OPEN_CONFIRM)
        }

        (
            Phase::Established,
            Kind::Update | Kind::Keepalive | Kind::RouteRefresh | Kind::Notification,
        ) => Ok(()),
        (Phase::Established, Kind::Open) => unexpected(subcode::fsm::UNEXPECTED_IN_ESTABLISHED),
    }
}

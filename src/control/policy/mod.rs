//! What a route must pass between a neighbour and the table, in both directions.
//!
//! The rules themselves are the rows of [`rules::RULES`]; this module is what they look at and
//! the walk over them. Everything here is a pure function of the session and the route: the
//! [`rib`](crate::control::rib) calls it, keeps the refusals, and decides among what is left.
//! Reserved peer ASNs are refused with the configuration, not here.

pub mod rules;

use std::net::IpAddr;

use thiserror::Error;

use crate::control::route::Attributes;
use crate::model::{Asn, ExportPolicy, ImportPolicy, NeighborKind};

/// Local preference of a route that nobody gave one (section 20).
pub const DEFAULT_LOCAL_PREFERENCE: u32 = 100;

/// The side of a session that the rules look at.
#[derive(Clone, Copy, Debug)]
pub struct Session<'a> {
    pub kind: NeighborKind,
    pub local: IpAddr,
    pub local_asn: Asn,
    pub import: &'a ImportPolicy,
    pub export: &'a ExportPolicy,
    /// Extra own ASNs of a maintenance (L-49); 0 outside one.
    pub maintenance: u8,
}

/// A route on its way through the rules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    pub attributes: Attributes,
    /// Compared before anything else (7.3); never leaves the router as such.
    pub weight: u16,
    pub source: Source,
}

/// Where a route came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The router's own network.
    Own,
    /// From a neighbour of this kind; `back` when it is the one the route would be sent to.
    Learned { kind: NeighborKind, back: bool },
}

/// Why a route was not let through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Refusal {
    #[error("own AS {asn} is {times} times in the path, accepted at most {accepted}")]
    OwnAs { asn: Asn, times: usize, accepted: usize },
    #[error("learned from this neighbour")]
    SplitHorizon,
    #[error("learned by iBGP, which is not reflected to iBGP")]
    Reflected,
    #[error("no transit: an own network is not sent to {to:?}")]
    OwnNotSent { to: NeighborKind },
    #[error("no transit: routes from {from:?} are not sent to {to:?}")]
    Transit { from: NeighborKind, to: NeighborKind },
}

/// What the table gets of a route as received on `session`.
pub fn import(session: &Session, received: &Attributes) -> Result<Route, Refusal> {
    let mut route = Route {
        attributes: received.clone(),
        weight: 0,
        source: Source::Learned { kind: session.kind, back: false },
    };
    rules::run(rules::Direction::Import, session, &mut route)?;
    Ok(route)
}

/// What the neighbour on `session` gets of a route of the table.
pub fn export(session: &Session, mut route: Route) -> Result<Attributes, Refusal> {
    rules::run(rules::Direction::Export, session, &mut route)?;
    Ok(route.attributes)
}

/// Whether both ends are in one AS (iBGP).
pub const fn is_internal(kind: NeighborKind) -> bool {
    matches!(kind, NeighborKind::EffectiveRoutes | NeighborKind::Internal)
}

#[cfg(test)]
pub(crate) mod text;

#[cfg(test)]
mod tests;

//! BGP-4 sessions as pure code: one neighbour is one session and one address family (section 20).
//!
//! [`Session`] takes bytes, instants and updates, and returns actions on connections and events for
//! the RIB; its caller owns the connections. [`codec`] turns bytes into [`Message`]s and back, and
//! is the only place that names the library behind it. RFC 4271, 4760, 6793, 1997, 8092, 2918,
//! 4724, 7313, 7606, 7911, 6608, 7607, 9003; decisions and policy are elsewhere.
//!
//! ```text
//!  bytes ─▶ codec::frame ─▶ table of (phase, kind) ─▶ codec::decode ─▶ events ─▶ RIB
//!  bytes ◀─ actions ◀────── codec::encode ◀────────── send_update ◀───────────── RIB
//! ```

pub mod codec;
mod connection;
mod interner;
mod message;
mod session;

pub use connection::{ConnectionId, Direction};
pub use message::{
    AddPath, Disposition, Family, Fault, GracefulOffer, Kind, Message, Notification, Open,
    RouteRefresh, code, subcode,
};
pub use session::{
    Action, Cause, DownReason, Established, Graceful, SendError, Session, SessionConfig,
    SessionEvent, Snapshot, State, StopReason,
};

#[cfg(test)]
mod tests;

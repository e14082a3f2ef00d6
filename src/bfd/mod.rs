//! Bidirectional forwarding detection: RFC 5880 in asynchronous mode over one hop (RFC 5881).
//!
//! [`Session`] is the state machine of one session; [`Sessions`] is the table of them that a
//! dataplane worker owns, and the only thing the worker talks to. Both are pure: they take parsed
//! or raw BFD payloads and instants, and give back packets to send, deadlines and events. UDP, IP
//! and Ethernet headers are the worker's.
//!
//! ```text
//!  payload, attachment, source, TTL ──► Sessions ──► Outgoing (to UDP 3784, TTL 255)
//!                               now ──►          ──► Event::{Up, Down}, poll_timeout
//! ```

mod session;
mod sessions;
#[cfg(test)]
mod tests;

pub use session::{Session, Transition};
pub use sessions::{Event, Outgoing, Refused, Row, Sessions};

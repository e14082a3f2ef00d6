//! User traffic: TCP connections as Linux makes them with its defaults, data one way; `tests/on_wire.rs`
//! compares them with Linux's own. Sans-IO: a
//! [`Sender`](sender::Sender) and a [`Receiver`](receiver::Receiver) are given segments and
//! instants and give back segments and deadlines; [`Endpoints`] joins those of one host to frames.
//!
//! ```text
//!  TcpFlow ─► Sender ── super-frames ──► the network ──► Receiver ─► TcpReceived ─┐
//!    application     ◄── ACK, SACK ─────────────────────┘                         ├► TcpMeter
//!    scoreboard, RACK-TLP, RTO, PRR, CUBIC ─► TcpSent ────────────────────────────┘
//! ```
//!
//! Modelled: three-way handshake with MSS, SACK, window scale and timestamps (RFC 9293, 2018,
//! 7323), CUBIC (RFC 9438, where Linux differs as Linux has it) from an initial window of 10 (RFC 6928), SACK recovery (RFC 6675)
//! together with RACK-TLP (RFC 8985), limited transmit (RFC 3042, which a pipe of SACKs gives by
//! itself), proportional rate reduction (RFC 6937), RTO (RFC 6298) with Linux's bounds, delayed
//! ACKs, TSO with autosizing and deferral (tcp_output.c of 6.18).
//!
//! Not modelled: closing, PAWS, D-SACK and all undoing of reductions (F-RTO, Eifel), HyStart,
//! restart of the window after idleness, window probes (the application reads at once, so the
//! window never closes), pacing (off by default), ECN, Linux's quick ACKs at the beginning of a
//! connection. SACK is never reneged on.

mod application;
mod content;
mod cubic;
mod endpoints;
mod flow;
mod meter;
mod ranges;
mod receiver;
mod record;
mod rtt;
mod scoreboard;
mod segment;
mod sender;
#[cfg(test)]
mod tests;

pub use application::Application;
pub use content::Content;
pub(in crate::traffic) use endpoints::{Endpoints, Taken};
pub(in crate::traffic) use flow::{Role, conversation};
pub use flow::{TcpFlow, TcpSpread};
pub use meter::{TcpMeter, TcpWindow};
pub use record::{TcpReceived, TcpSent};
pub use sender::REOPEN;

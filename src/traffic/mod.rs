//! The endpoints of a lab, and the probes and TCP flows between them. Sans-IO: a [`Host`] is given frames and
//! instants, and gives back frames and deadlines.
//!
//! ```text
//!  Flow ──► Host (source): one frame template, numbered probes at a regular gap
//!             │ frames
//!             ▼
//!           the network
//!             │ frames
//!             ▼
//!  Flow ──► Host (sink): Arrivals, one instant a sequence number ──► Meter ──► Window
//! ```
//!
//! A probe says which flow and which host it comes from, so that every host notices content that
//! was meant for another one: what crosses from one customer to another is counted wherever it
//! arrives (F-05). So does a TCP flow's data (`tcp`).

mod flow;
mod host;
mod meter;
mod packet;
mod probe;
mod tcp;
#[cfg(test)]
mod tests;

pub use flow::{Direction, End, Flow, FlowError, Spread};
pub use host::{Host, HostConfig, Ledger};
pub use meter::{Arrivals, Latency, Meter, Outage, Window};
pub use probe::{Sighting, sighting};
pub use tcp::{
    Application, Content, REOPEN, TcpFlow, TcpMeter, TcpReceived, TcpSent, TcpSpread, TcpWindow,
};

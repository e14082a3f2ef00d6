//! Routers, endpoints and the links between them, and what steps them.
//!
//! [`topology`] is what there is, with a queue of what happens next. [`virtual_time`] jumps from one to
//! the next, from a seed; [`real_time`] waits for the host's clock and reads ports meanwhile. Nothing in a
//! router knows which of them runs it; by the host's clock there may be several [`workers`]. Faults belong here: to links and to processes.

mod capture;
mod link;
mod port;
pub mod real_time;
mod sender;
#[cfg(test)]
mod tests;
pub mod topology;
pub mod virtual_time;
pub mod workers;

pub use crate::io::{Frame, Frames};
pub use capture::{LinkCapture, addresses};
pub use link::{Altered, Direction, Fault, FaultScope, Impairment, LinkConfig, LinkIndex};
pub use real_time::RealTime;
pub use sender::Sender;
pub use topology::{Endpoint, Fabric, NodeIndex, Observer, Totals};
pub use workers::Workers;

//! Routers, endpoints and the links between them, and what steps them.
//!
//! [`virtual_time`] is an event queue in one thread: simulated time, in order, from a seed. Nothing
//! in a router knows which fabric it runs in. Faults belong here: to links and to processes.

mod capture;
mod link;
#[cfg(test)]
mod tests;
pub mod virtual_time;

pub use crate::io::{Frame, Frames};
pub use capture::addresses;
pub use link::{Direction, Fault, FaultScope, Impairment, LinkConfig, LinkIndex};
pub use virtual_time::{Endpoint, NodeIndex, Observer, Totals, VirtualTime};

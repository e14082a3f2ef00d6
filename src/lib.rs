//! An ExpressRoute edge in a box. `ARCHITECTURE.md` has the picture and the path of a packet.

pub mod azure;
pub mod bfd;
pub mod cli;
pub mod config;
pub mod control;
pub mod dataplane;
pub mod drill;
pub mod fabric;
pub mod fib;
pub mod io;
pub mod lab;
pub mod model;
pub mod punt;
pub mod router;
pub mod shaper;
pub mod sys;
pub mod telemetry;
pub mod traffic;
pub mod wire;

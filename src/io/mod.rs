//! Where frames live and where they come from: the frame pools, super-frames and how they are cut
//! (`gso`), later the ports of each back-end.

pub mod frame;
pub mod gso;
pub mod packet;
pub mod port;

pub use frame::{Frame, Frames, Meta, PartialChecksum};
pub use port::{Counters as PortCounters, Port};

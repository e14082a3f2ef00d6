//! Where frames live and where they come from: the frame pools, super-frames and how they are cut
//! (`gso`), the ports of each back-end (`packet`, `udp`, `unplugged`, and between workers `handover`), what
//! a capture file holds (`capture`), and how one is read back (`replay`).

pub mod capture;
pub mod frame;
pub mod gso;
pub mod handover;
pub mod packet;
pub mod port;
pub mod replay;
pub mod udp;
pub mod unplugged;

pub use frame::{Frame, Frames, Meta, PartialChecksum};
pub use port::{Counters as PortCounters, Port};

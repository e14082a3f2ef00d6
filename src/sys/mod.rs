//! System calls, and the home of `unsafe`: what the rest of the program is told of the host comes
//! from here.

pub mod clock;
pub mod ethtool;
pub mod host;
pub mod namespace;
pub mod netlink;
pub mod packet;
pub mod privilege;
pub mod process;
pub mod tcp;

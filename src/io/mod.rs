//! Where frames live and where they come from: the frame pools, later the ports of each back-end.

pub mod frame;

pub use frame::{Frame, Frames, Meta};

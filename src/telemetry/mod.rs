//! What a router tells about itself: the event log from which the cause chain is read.

mod event;

pub use event::{Event, EventKind, EventLog};

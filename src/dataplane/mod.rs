//! The path of a packet through one router: batches, stages, verdicts, counters.
//!
//! ```text
//!  port ──► demux ──► admit ──► lookup ──► limit ──► rewrite ──► port's queue
//!             │         │ │        │ │        │         │
//!             │    punt ◄─┘        │ └► punt  │         └► punt (the MAC is asked for)
//!             ▼         ▼          ▼          ▼
//!             └──────── dropped, each for a reason, in the ledger
//! ```
//!
//! [`Forwarding`] is one router's side of it. Control tells it [`Change`](crate::model::Change)s
//! and hears [`Notice`](crate::model::Notice)s; it never waits for control. BFD runs here, so that
//! a failure moves traffic before control knows.

pub mod adjacency;
pub mod attachment;
pub mod batch;
pub mod counters;
pub mod edit;
pub mod exits;
pub mod limiter;
pub mod meter;
pub mod port;
pub mod stage;
pub mod tables;
#[cfg(test)]
mod tests;
pub mod verdict;
pub mod worker;

pub use counters::{AttachmentCounters, Traffic};
pub use verdict::{DropReason, Ledger};
pub use worker::Forwarding;

//! What packets read to find their way: routes, groups of next hops, and the hash that spreads
//! flows over them. One [`Fib`] a VRF.
//!
//! ```text
//! destination ──► IntervalTree ──► GroupIndex ─┐
//!                                              ├─► Group: 64 buckets ──► AdjacencyIndex
//! 5-tuple ──────► FlowKey::hash ──► top 6 bits ┘
//! ```
//!
//! The data path is the reader: it takes a [`Guard`] once a batch ([`pin`]) and a [`View`] of each
//! table it needs. Whoever applies changes is the writer: everything readers see is immutable,
//! built beside what they read, and swapped by one store. What an adjacency is (attachment, MAC)
//! is the data path's matter, and which routes there are is control's.

mod flow;
mod group;
mod interval;
#[cfg(test)]
mod oracle;
mod publish;
mod table;

pub use flow::FlowKey;
pub use group::{AdjacencyIndex, BUCKETS, Group, GroupMember};
pub use interval::{IntervalTree, IntervalTree4, IntervalTree6, Key, MAX_INTERVALS};
pub use publish::{Guard, pin};
pub use table::{Fib, Outcome, Reader, View};

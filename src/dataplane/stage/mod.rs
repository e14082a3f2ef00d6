//! The stages a packet passes, one file each; their order is in
//! [`worker`](crate::dataplane::worker). A stage runs over a whole batch, knows no other stage, and
//! leaves each packet a verdict.

pub mod admit;
pub mod demux;
pub mod limit;
pub mod lookup;
pub mod rewrite;

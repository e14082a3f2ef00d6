//! The limiter: what passes at a rate and what is surplus (L-06, F-70 to F-76).
//!
//! One [`Bucket`] a circuit, link and direction, which all peerings share (F-73). It decides and
//! counts; what is not charged (ARP, BFD, BGP, what the router originates) its caller leaves out,
//! and its caller drops what is surplus.

mod bucket;

pub use bucket::{Bucket, Conform, Counters, FULL_FRAME_BYTES, MIN_DEPTH_FRAMES, depth_bytes};

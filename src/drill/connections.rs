//! The TCP connections of a drill: set up on the lab's hosts, read window by window.

use std::time::Duration;

use crate::config::drill::Drill;
use crate::drill::paths::Paths;
use crate::drill::report::{TcpReport, Timeline};
use crate::lab::Lab;
use crate::model::Instant;

/// All TCP flows of a drill.
#[derive(Clone, Debug, Default)]
pub struct Connections;

#[derive(Debug)]
pub struct TcpWindow {
    pub segments: u64,
    pub retransmitted: u64,
    pub resets: u32,
    pub longest_stall: Duration,
}

impl Connections {
    pub fn new(_: &Lab, _: &Drill, _: u32) -> Self {
        Self
    }

    pub fn start(&mut self, _: &mut Lab) {}

    pub fn stop(&mut self, _: &mut Lab, _: Instant) {}

    pub fn windows(
        &self,
        _: &Lab,
        _: usize,
        _: (Instant, Instant),
    ) -> impl Iterator<Item = TcpWindow> {
        std::iter::empty()
    }

    pub fn delivered(&self, _: &Lab, _: usize, _: Instant, _: Duration, spans: usize) -> Vec<u64> {
        vec![0; spans]
    }

    pub fn report(&self, _: &Lab, _: &Paths, _: (Instant, Instant)) -> Vec<TcpReport> {
        Vec::new()
    }

    pub fn timelines(
        &self,
        _: &Lab,
        _: &Paths,
        _: Instant,
        _: Duration,
        _: usize,
    ) -> Vec<Timeline> {
        Vec::new()
    }

    pub fn conversations(&self, _: usize) -> Vec<(String, usize, usize)> {
        Vec::new()
    }
}

//! The host's clock.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time since a beginning that never changes while the host runs (CLOCK_MONOTONIC).
pub fn monotonic() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::from_secs(time.tv_sec as u64) + Duration::from_nanos(time.tv_nsec as u64)
}

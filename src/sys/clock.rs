//! The host's clock.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time since a beginning that never changes while the host runs (CLOCK_MONOTONIC).
pub fn monotonic() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::from_secs(time.tv_sec as u64) + Duration::from_nanos(time.tv_nsec as u64)
}

/// Time since 1970-01-01 UTC (CLOCK_REALTIME); nothing before it.
pub fn wall() -> Duration {
    let time = clock_gettime(ClockId::Realtime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), time.tv_nsec as u32)
}

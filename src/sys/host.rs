//! What the host gives a process: time, room for what arrives, rights.

use std::io;
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};
use rustix::thread::{CapabilitySet, capabilities};
use rustix::time::{ClockId, clock_getres};

use crate::sys::clock;

/// How long a sleep is asked to last when it is measured, and how often.
const SLEEP: Duration = Duration::from_millis(1);
const SLEEPS: usize = 21;

/// The step of the clock that everything here is timed by.
pub fn clock_resolution() -> Duration {
    let step = clock_getres(ClockId::Monotonic);
    Duration::new(step.tv_sec as u64, step.tv_nsec as u32)
}

/// By how much a sleep of 1 ms is too long, as the median of some.
pub fn sleep_overshoot() -> Duration {
    let mut over: Vec<_> = (0..SLEEPS)
        .map(|_| {
            let began = clock::monotonic();
            thread::sleep(SLEEP);
            clock::monotonic().saturating_sub(began + SLEEP)
        })
        .collect();
    over.sort_unstable();
    over[SLEEPS / 2]
}

/// The longest time that a thread which never sleeps is kept from running, while it watches so long.
pub fn longest_stall(watched: Duration) -> Duration {
    let began = clock::monotonic();
    let (mut last, mut longest) = (began, Duration::ZERO);
    while last < began + watched {
        let now = clock::monotonic();
        longest = longest.max(now.saturating_sub(last));
        last = now;
    }
    longest
}

/// How many bytes a socket's receive queue may be asked to hold, up to `wanted`: by right, or as
/// `net.core.rmem_max` allows.
pub fn receive_buffer(wanted: usize) -> io::Result<usize> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    if sockopt::set_socket_recv_buffer_size_force(&socket, wanted).is_err() {
        sockopt::set_socket_recv_buffer_size(&socket, wanted)?;
    }
    // The kernel doubles what it is asked for.
    Ok(sockopt::socket_recv_buffer_size(&socket)? / 2)
}

/// Whether this process may open packet sockets where it is.
pub fn has_net_raw() -> io::Result<bool> {
    Ok(capabilities(None)?.effective.contains(CapabilitySet::NET_RAW))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receive_buffer_is_what_the_kernel_gives_and_no_more_than_asked() {
        let little = 64 << 10;
        assert_eq!(receive_buffer(little).unwrap(), little);
        assert!(receive_buffer(1 << 30).unwrap() <= 1 << 30);
    }

    #[test]
    fn a_watch_ends_and_its_longest_stall_is_within_it() {
        let began = clock::monotonic();
        let stall = longest_stall(Duration::from_millis(5));
        assert!(stall > Duration::ZERO);
        assert!(began + stall <= clock::monotonic());
    }
}

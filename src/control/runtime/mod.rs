//! Control as a process of its own, joined to the forwarding process by a socket.
//!
//! ```text
//!  forwarding process                      control process
//!    Remote ── Hello, then Told ───────────► process::serve
//!       ▲                                      Control
//!       └──── Said: changes, packets, ◄────────┘
//!             events, state, tables
//! ```
//!
//! Both streams keep their order. Forwarding never waits: it writes what the socket takes, keeps
//! what control must hear, and drops punted packets above a bound. Control waits for nothing but
//! the socket and its own timers, and ends when the socket does.

mod process;
mod remote;
#[cfg(test)]
mod tests;

use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::control::state::State;
use crate::model::{Change, Injected, Instant, VrfIndex};
use crate::telemetry::Event;

pub use process::main;
pub use remote::{Launcher, Remote};

/// The first thing a control process hears: whose it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Hello {
    router: String,
    router_id: Ipv4Addr,
    seed: u64,
    /// When forwarding's time began (CLOCK_MONOTONIC).
    zero: Duration,
}

/// What a control process is told, and when that was so.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Told<M> {
    at: Instant,
    message: M,
}

/// What a control process says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Said {
    Changes(Vec<Change>),
    Inject(Injected),
    Events(Vec<Event>),
    State {
        /// How much it was told before, punted packets aside.
        heard: u64,
        state: State,
    },
    /// A VRF's table, encoded: it is read only when somebody looks at it.
    Routes {
        vrf: VrfIndex,
        #[serde(with = "serde_bytes")]
        rows: Vec<u8>,
    },
    /// Why it is about to end.
    LastWords(String),
}

/// Length of a message, in front of it.
const LENGTH: usize = size_of::<u32>();
/// The longest message: the table of a VRF with more than a million routes.
const MESSAGE_MAX: usize = 256 << 20;
/// Most octets read at once, so that what comes does not keep the reader from its other work.
const READ_MAX: usize = 64 << 10;

/// A message with its length in front.
fn encode(message: &impl Serialize) -> Vec<u8> {
    let mut bytes = postcard::to_extend(message, vec![0; LENGTH]).expect("messages are plain data");
    let length = (bytes.len() - LENGTH) as u32;
    bytes[..LENGTH].copy_from_slice(&length.to_le_bytes());
    bytes
}

/// What has arrived and was not taken yet.
#[derive(Debug)]
struct Incoming {
    bytes: Vec<u8>,
    taken: usize,
    /// Where the next octets are put first.
    room: Box<[u8]>,
}

impl Incoming {
    fn new() -> Self {
        Self { bytes: Vec::new(), taken: 0, room: vec![0; READ_MAX].into_boxed_slice() }
    }

    /// Reads what is there. False when nothing will come any more.
    fn read(&mut self, mut socket: &UnixStream) -> io::Result<bool> {
        self.bytes.drain(..std::mem::take(&mut self.taken));
        match socket.read(&mut self.room) {
            Ok(length) => {
                self.bytes.extend_from_slice(&self.room[..length]);
                Ok(length > 0)
            }
            Err(error) if is_transient(&error) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The next whole message.
    fn next<M: DeserializeOwned>(&mut self) -> io::Result<Option<M>> {
        let rest = &self.bytes[self.taken..];
        let Some((length, rest)) = rest.split_first_chunk::<LENGTH>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > MESSAGE_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
        }
        let Some(message) = rest.get(..length) else { return Ok(None) };
        let message = postcard::from_bytes(message);
        self.taken += LENGTH + length;
        message.map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// Whether trying again later may do.
fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

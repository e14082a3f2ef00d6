//! What a running lab answers on its socket: its tables, and acts on it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::drill::act::Acts;
use crate::lab::Lab;
use crate::lab::show;
use crate::lab::socket::{Answer, Reply, Socket};
use crate::model::Instant;
use crate::telemetry::{Event, EventKind};

/// One line to a lab.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// A table, of everything or of what is named.
    Show { table: String, node: Option<String> },
    /// An event of a drill, with its keys; answered with [`Done`].
    Do { event: String, keys: Vec<(String, Vec<String>)> },
    /// The log from its entry of that number on; answered with [`Happened`].
    Events { since: usize },
    /// What a node, a port or a link carries. The connection gives pcapng from here on, until the
    /// client shuts its end of it for writing.
    Capture { place: String },
    /// Frames for a port. The connection takes them from here on, as
    /// [`replay`](crate::lab::replay) says.
    Replay { place: String, readdress: bool },
}

/// An act that was done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Done {
    /// In words.
    pub what: String,
    /// When, in the lab's time.
    pub at_us: u64,
    /// How many entries the log had.
    pub events: usize,
}

/// A part of the log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Happened {
    pub events: Vec<LogRow>,
    /// The number of the entry behind them.
    pub next: usize,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogRow {
    /// In the lab's time.
    pub at_us: u64,
    pub node: String,
    pub kind: String,
    pub detail: String,
}

/// Entries of the log in an answer.
const EVENTS_MAX: usize = 1_000;

/// Answers for a lab.
#[derive(Debug)]
pub struct Service {
    socket: Socket,
    acts: Acts,
}

impl Service {
    /// Opens the lab's socket in the folder of the user's labs.
    pub fn open(folder: &OwnedFd, lab: &str) -> Result<Self, String> {
        let failed = |error: io::Error| format!("the socket of lab {lab}: {error}");
        let socket = Socket::bind(folder, lab).map_err(failed)?;
        Ok(Self { socket, acts: Acts::default() })
    }

    /// Answers what was asked since; to be called between slices of the lab's time.
    pub fn serve(&mut self, lab: &mut Lab) {
        let Self { socket, acts } = self;
        socket.serve(&mut |request, client| {
            let reply = reply(request, client, lab, acts);
            reply.unwrap_or_else(|text| Reply::Answer(Answer::Error(text)))
        });
        lab.tend_captures();
        lab.tend_replays();
    }
}

fn reply(
    request: &Value,
    client: &UnixStream,
    lab: &mut Lab,
    acts: &mut Acts,
) -> Result<Reply, String> {
    let request = Request::deserialize(request).map_err(|error| format!("no request: {error}"))?;
    let answer = match request {
        Request::Show { table, node } => (show::table(&table)?.rows)(lab, node.as_deref())?,
        Request::Do { event, keys } => {
            let (at_us, events) = (micros(lab.now()), lab.events_recorded());
            let what = acts.act(lab, &event, &keys)?;
            plain(Done { what, at_us, events })
        }
        Request::Events { since } => plain(happened(lab.events_since(since))),
        Request::Capture { place } => {
            let client = client.try_clone().map_err(|error| error.to_string())?;
            lab.capture_for(client, &place)?;
            return Ok(Reply::Taken);
        }
        Request::Replay { place, readdress } => {
            let client = client.try_clone().map_err(|error| error.to_string())?;
            lab.replay_for(client, &place, readdress)?;
            return Ok(Reply::Taken);
        }
    };
    Ok(Reply::Answer(Answer::Ok(answer)))
}

/// What drills tell as causes, too: everything but neighbours being found.
fn happened((first, new): (usize, &[Event])) -> Happened {
    let new = &new[..new.len().min(EVENTS_MAX)];
    let told = new.iter().filter(|event| event.kind != EventKind::NeighborResolved);
    let row = |event: &Event| LogRow {
        at_us: micros(event.at),
        node: event.node.clone(),
        kind: event.kind.to_string(),
        detail: event.detail.clone(),
    };
    Happened { events: told.map(row).collect(), next: first + new.len() }
}

const fn micros(at: Instant) -> u64 {
    at.as_nanos() / 1_000
}

fn plain(answer: impl Serialize) -> Value {
    serde_json::to_value(answer).expect("an answer is plain data")
}

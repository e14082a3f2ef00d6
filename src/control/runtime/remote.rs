//! A control process as forwarding has it: never waited for.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use crate::control::message::{Outcome, ToControl};
use crate::control::runtime::{Hello, Incoming, Said, Told, encode, is_transient};
use crate::control::state::{RouteRow, State};
use crate::model::{Change, Instant, Notice, PuntClass, VrfIndex};
use crate::sys::process::{Process, spawn_on_socket};
use crate::telemetry::Event;

/// Most punted packets of a class that wait for control to take them.
const PUNTS_MAX: usize = 1024;
/// Most octets that wait for a control process before it is given up.
const UNSENT_MAX: usize = 64 << 20;
/// Octets that are written at once.
const WRITE: usize = 64 << 10;

/// How control processes are started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Launcher {
    /// A program that knows the verb [`Launcher::VERB`].
    pub program: PathBuf,
    /// In front of the router's name on the command line, by which a person finds the process.
    pub lab: String,
    /// When the fabric's time began (CLOCK_MONOTONIC).
    pub zero: Duration,
}

/// A control process and the socket to it. With this value the process ends.
#[derive(Debug)]
pub struct Remote {
    process: Process,
    socket: UnixStream,
    unsent: Outgoing,
    incoming: Incoming,
    /// Messages it was told, punted packets aside.
    told: u64,
    heard: u64,
    state: State,
    tables: BTreeMap<VrfIndex, Vec<u8>>,
    outcomes: VecDeque<Outcome>,
    events: Vec<Event>,
    last_words: Option<String>,
}

/// What the socket did not take yet.
#[derive(Debug, Default)]
struct Outgoing {
    messages: VecDeque<(Option<PuntClass>, Vec<u8>)>,
    bytes: usize,
    /// Messages that wait, by [`class_index`].
    punts: [usize; CLASSES],
    /// The front of the queue on its way, and how much of it is gone.
    writing: Vec<u8>,
    written: usize,
}

impl Launcher {
    /// By which a program becomes a control process; `LAB/ROUTER` follows.
    pub const VERB: &str = "control-process";

    /// Starts the control process of a router.
    pub fn start(&self, router: &str, router_id: Ipv4Addr, seed: u64) -> io::Result<Remote> {
        let (socket, theirs) = UnixStream::pair()?;
        socket.set_nonblocking(true)?;
        let shown = format!("{}/{router}", self.lab);
        let process = spawn_on_socket(&self.program, &[Self::VERB, &shown], theirs.into())?;
        let hello = Hello { router: router.to_owned(), router_id, seed, zero: self.zero };
        Ok(Remote::new(process, socket, &hello))
    }
}

impl Remote {
    pub(super) fn new(process: Process, socket: UnixStream, hello: &Hello) -> Self {
        let mut unsent = Outgoing::default();
        unsent.push(None, encode(hello));
        Self {
            process,
            socket,
            unsent,
            incoming: Incoming::new(),
            told: 0,
            heard: 0,
            state: State::default(),
            tables: BTreeMap::new(),
            outcomes: VecDeque::new(),
            events: Vec::new(),
            last_words: None,
        }
    }

    /// Gives it a message, which leaves with the next [`Remote::flush`]. False when it is a punted
    /// packet and too many of its class wait.
    pub fn tell(&mut self, message: ToControl, at: Instant) -> bool {
        let class = match &message {
            ToControl::Notice(Notice::Punted(punted)) => Some(punted.class),
            _ => None,
        };
        if let Some(class) = class
            && self.unsent.punts[class_index(class)] >= PUNTS_MAX
        {
            return false;
        }
        self.told += u64::from(class.is_none());
        self.unsent.push(class, encode(&Told { at, message }));
        true
    }

    /// Writes what the socket takes. Should the process be gone, [`Remote::read`] says so.
    pub fn flush(&mut self) {
        let _ = self.unsent.write(&self.socket);
    }

    /// Takes in what it has said.
    ///
    /// # Errors
    /// The process is gone, speaks no sense, or has not listened for long.
    pub fn read(&mut self) -> io::Result<()> {
        self.flush();
        if self.unsent.bytes > UNSENT_MAX {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not listen"));
        }
        let goes_on = self.incoming.read(&self.socket)?;
        while let Some(said) = self.incoming.next()? {
            match said {
                Said::Changes(changes) => self.add_changes(changes),
                Said::Inject(injected) => self.outcomes.push_back(Outcome::Inject(injected)),
                Said::Events(mut events) => self.events.append(&mut events),
                Said::State { heard, state } => (self.heard, self.state) = (heard, state),
                Said::Routes { vrf, rows } => drop(self.tables.insert(vrf, rows)),
                Said::LastWords(words) => self.last_words = Some(words),
            }
        }
        if goes_on { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Those that came together are published together: a table is built anew for each publication.
    fn add_changes(&mut self, mut changes: Vec<Change>) {
        match self.outcomes.back_mut() {
            Some(Outcome::Changes(before)) => before.append(&mut changes),
            _ => self.outcomes.push_back(Outcome::Changes(changes)),
        }
    }

    pub fn poll(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }

    pub fn drain_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it said before it ended.
    pub fn last_words(&self) -> Option<&str> {
        self.last_words.as_deref()
    }

    /// Whether something waits for room in the socket.
    pub fn has_unsent(&self) -> bool {
        self.unsent.bytes > 0
    }

    /// As it last was.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Whether it has heard everything, and what follows from that is known here.
    pub fn is_settled(&self) -> bool {
        self.heard == self.told && self.state.settled
    }

    /// A VRF's table as it last was.
    pub fn routes(&self, vrf: VrfIndex) -> Vec<RouteRow> {
        let rows = self.tables.get(&vrf).map(|rows| postcard::from_bytes(rows));
        rows.and_then(Result::ok).unwrap_or_default()
    }
}

impl AsFd for Remote {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Outgoing {
    fn push(&mut self, class: Option<PuntClass>, message: Vec<u8>) {
        self.bytes += message.len();
        if let Some(class) = class {
            self.punts[class_index(class)] += 1;
        }
        self.messages.push_back((class, message));
    }

    fn write(&mut self, mut socket: &UnixStream) -> io::Result<()> {
        loop {
            if self.written == self.writing.len() {
                self.refill();
            }
            if self.writing.is_empty() {
                return Ok(());
            }
            match socket.write(&self.writing[self.written..]) {
                Ok(length) => {
                    self.written += length;
                    self.bytes -= length;
                }
                Err(error) if is_transient(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn refill(&mut self) {
        self.writing.clear();
        self.written = 0;
        while self.writing.len() < WRITE
            && let Some((class, message)) = self.messages.pop_front()
        {
            self.writing.extend(message);
            if let Some(class) = class {
                self.punts[class_index(class)] -= 1;
            }
        }
    }
}

const CLASSES: usize = 7;

const fn class_index(class: PuntClass) -> usize {
    match class {
        PuntClass::Arp => 0,
        PuntClass::Ndp => 1,
        PuntClass::Tcp => 2,
        PuntClass::Local => 3,
        PuntClass::TtlExpired => 4,
        PuntClass::TooLarge { .. } => 5,
        PuntClass::Glean { .. } => 6,
    }
}

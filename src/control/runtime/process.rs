//! The control process.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write, stdin};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::set_name;

use crate::control::message::{Outcome, ToControl};
use crate::control::plane::Control;
use crate::control::runtime::{Hello, Incoming, Said, Told, encode};
use crate::control::state::State;
use crate::model::{Change, Instant, Notice, VrfIndex};
use crate::sys::process::unblock_all;
use crate::sys::{clock, privilege};

/// What lists of processes that do not show arguments call it.
const NAME: &std::ffi::CStr = c"msee-control";
/// Most changes in one message: forwarding goes back to its packets between two.
const CHANGES_MAX: usize = 1024;
/// Between two states that differ only in what nobody waits for.
const STATE_EVERY: Duration = Duration::from_millis(100);
/// How long a table is left alone before it is said, and the longest that this delays it.
const TABLE_QUIET: Duration = Duration::from_millis(20);
const TABLE_LATEST: Duration = Duration::from_secs(1);

/// Is the control process of the router that the socket, standard input, is joined to; returns when
/// that is gone.
///
/// # Errors
/// The socket speaks of something else, or the process may not change itself.
pub fn main() -> io::Result<()> {
    set_name(NAME)?;
    unblock_all()?;
    privilege::give_up_all()?;
    let socket = UnixStream::from(stdin().as_fd().try_clone_to_owned()?);
    tell_of_panics(socket.try_clone()?);
    match serve(&socket) {
        // Forwarding has gone.
        Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe) => Ok(()),
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionReset) => Ok(()),
        outcome => outcome,
    }
}

fn tell_of_panics(socket: UnixStream) {
    std::panic::set_hook(Box::new(move |panic| {
        // Nobody to tell is nobody to tell.
        let _ = (&socket).write_all(&encode(&Said::LastWords(panic.to_string())));
    }));
}

pub(super) fn serve(mut socket: &UnixStream) -> io::Result<()> {
    let mut incoming = Incoming::new();
    let hello: Hello = loop {
        if !incoming.read(socket)? {
            return Ok(());
        }
        if let Some(hello) = incoming.next()? {
            break hello;
        }
    };
    let clock = || Instant::ZERO + clock::monotonic().saturating_sub(hello.zero);
    let mut control = Control::new(&hello.router, hello.router_id, hello.seed);
    let mut reporter = Reporter::default();
    loop {
        let now = clock();
        if control.poll_timeout() <= now {
            control.handle_timeout(now);
        }
        while let Some(Told { at, message }) = incoming.next::<Told<ToControl>>()? {
            reporter.heard += u64::from(!is_punted(&message));
            let at = if is_observation(&message) { at } else { now };
            control.handle(message, at);
        }
        control.run(now);
        let mut words = Vec::new();
        while let Some(outcome) = control.poll() {
            match outcome {
                Outcome::Changes(changes) => {
                    reporter.table_changes |= changes.iter().any(is_of_table);
                    for part in changes.chunks(CHANGES_MAX) {
                        words.extend(encode(&Said::Changes(part.to_vec())));
                    }
                }
                Outcome::Inject(injected) => words.extend(encode(&Said::Inject(injected))),
            }
        }
        let events = control.drain_events();
        if !events.is_empty() {
            words.extend(encode(&Said::Events(events)));
        }
        reporter.report(&mut control, now, &mut words);
        socket.write_all(&words)?;
        let until = control.poll_timeout().min(reporter.deadline);
        if wait(socket, until.since(clock())) && !incoming.read(socket)? {
            return Ok(());
        }
    }
}

/// Sleeps until the socket has something, which it tells, or the time is over.
fn wait(socket: &UnixStream, at_most: Duration) -> bool {
    let timeout = Timespec {
        tv_sec: at_most.as_secs().cast_signed(),
        tv_nsec: at_most.subsec_nanos().into(),
    };
    // A wait that is interrupted is followed by another.
    poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout)) == Ok(1)
}

pub(super) const fn is_punted(message: &ToControl) -> bool {
    matches!(message, ToControl::Notice(Notice::Punted(_)))
}

/// Whether forwarding saw it happen, and when is when it saw it.
const fn is_observation(message: &ToControl) -> bool {
    matches!(message, ToControl::Carrier { .. } | ToControl::Notice(_)) && !is_punted(message)
}

const fn is_of_table(change: &Change) -> bool {
    matches!(change, Change::Route { .. })
}

/// Says what control knows, not more often than somebody wants to hear it.
#[derive(Debug, Default)]
struct Reporter {
    heard: u64,
    said: Option<(u64, State, Instant)>,
    /// VRFs whose tables may have changed: since when, and when that was last so.
    ran: BTreeSet<VrfIndex>,
    ran_first: Instant,
    ran_last: Instant,
    /// Whether they have: what waits for them is not settled.
    table_changes: bool,
    /// As they were said.
    tables: BTreeMap<VrfIndex, Vec<u8>>,
    /// When [`Reporter::report`] must next be called.
    deadline: Instant,
}

impl Reporter {
    fn report(&mut self, control: &mut Control, now: Instant, words: &mut Vec<u8>) {
        let ran = control.take_ran();
        if !ran.is_empty() {
            if self.ran.is_empty() {
                self.ran_first = now;
            }
            self.ran_last = now;
            self.ran.extend(ran);
        }
        let tables_due = (self.ran_last + TABLE_QUIET).min(self.ran_first + TABLE_LATEST);
        if !self.ran.is_empty() && tables_due <= now {
            self.report_tables(control, words);
        }
        self.deadline = if self.ran.is_empty() { Instant::NEVER } else { tables_due };
        let mut state = control.state();
        state.settled &= !self.table_changes;
        if let Some((heard, said, at)) = &self.said {
            if *heard == self.heard && *said == state {
                return;
            }
            let due = *at + STATE_EVERY;
            if *heard == self.heard && !said.differs_in_kind(&state) && now < due {
                self.deadline = self.deadline.min(due);
                return;
            }
        }
        let said = Said::State { heard: self.heard, state };
        words.extend(encode(&said));
        if let Said::State { heard, state } = said {
            self.said = Some((heard, state, now));
        }
    }

    fn report_tables(&mut self, control: &Control, words: &mut Vec<u8>) {
        self.table_changes = false;
        for vrf in std::mem::take(&mut self.ran) {
            let rows = postcard::to_extend(&control.routes(vrf), Vec::new());
            let rows = rows.expect("rows are plain data");
            if self.tables.get(&vrf) != Some(&rows) {
                words.extend(encode(&Said::Routes { vrf, rows: rows.clone() }));
                self.tables.insert(vrf, rows);
            }
        }
    }
}

//! `msee replay FILE [LAB/]NODE/PORT`: frames of a capture into a port of a running lab.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use serde::Serialize;

use crate::cli::service::Request;
use crate::cli::{COULD_NOT_RUN, print, show};
use crate::io::frame::FRAME_MAX;
use crate::io::replay::{Recording, RecordingError};
use crate::lab::replay::{Dropped, Outcome, encode};
use crate::sys::clock;
use crate::sys::process::Signals;

/// How long before its time the lab is given a frame.
const AHEAD: Duration = Duration::from_millis(500);
/// Given to the lab at once.
const PART: usize = 64 << 10;
/// How long the lab may take with what it has when there is no more.
const LAST_WORDS: Duration = Duration::from_secs(30);
/// What takes longer shows how far it is.
const NOTICED: Duration = Duration::from_secs(2);
/// A frame that leaves this much after its time is worth a word.
const LATE_US: u64 = 20_000;
const SPEEDS: std::ops::RangeInclusive<f64> = 0.001..=1_000_000.0;

const EXAMPLES: &str = "\
Examples:
  msee replay ce.pcapng ams/primary/nni:Equinix       into the MSEE's port, as if from its link
  msee replay ce.pcapng quickstart/ce1/eth1 --speed 10    of one lab of several
  msee replay ce.pcap dc1.erp                         a host has one port
  msee replay ce.pcap ams/primary/nni:Equinix --readdress    a real MSEE has another MAC address
  msee capture ams/primary -w - | tshark -r -         meanwhile: every frame, and why one is dropped
  tshark -r all.pcapng -Y 'eth.src == 02:00:5e:10:00:01' -w ce.pcapng    only what one device sent

The file is pcapng or pcap. Frames go through the link to the port, with its delay and its faults, at
the times they were captured; what was cut short by the capture or is longer than any frame here is
left out and counted.";

/// Replay frames of a capture into a port of a running lab, and see which are dropped and why.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Replay {
    /// The capture: pcapng, or pcap of either byte order.
    file: PathBuf,
    /// A port of a router, or a node that has only one; behind the lab's name where several run.
    #[arg(value_name = "[LAB/]NODE/PORT")]
    place: String,
    /// So many times as fast as captured.
    #[arg(long, value_name = "N", default_value = "1", value_parser = speed)]
    speed: f64,
    /// Without the times between them.
    #[arg(long, conflicts_with = "speed")]
    as_fast_as_possible: bool,
    /// Give frames for one station the MAC address of the port as their destination.
    #[arg(long)]
    readdress: bool,
    /// Plain data instead of text.
    #[arg(long)]
    json: bool,
}

/// The frames of a file that can be sent, with the times they are sent at.
struct Frames {
    recording: Recording<File>,
    /// None where the times between them do not matter.
    speed: Option<f64>,
    /// When the first one was captured.
    first: Option<Duration>,
    /// Since then, as they are sent.
    after: Duration,
    skipped: Skipped,
}

/// Frames that are not sent.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Skipped {
    /// The capture kept only their beginning.
    cut: u64,
    /// Longer than any frame here.
    too_long: u64,
}

/// What there is to send.
#[derive(Clone, Copy, Debug)]
struct Plan {
    frames: u64,
    span: Duration,
    skipped: Skipped,
}

/// What is said at the end.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    /// Of the file, those that can be sent.
    frames: u64,
    skipped: Skipped,
    #[serde(flatten)]
    outcome: Outcome,
}

impl Replay {
    pub fn run(&self) -> ExitCode {
        match self.replay() {
            Ok(said) if self.json => print(&format!("{}\n", said.json())),
            Ok(said) => print(&said.text()),
            Err(error) => {
                eprintln!("msee: {error}");
                ExitCode::from(COULD_NOT_RUN)
            }
        }
    }

    fn replay(&self) -> Result<Said, String> {
        let named = |error: &dyn std::fmt::Display| format!("{}: {error}", self.file.display());
        let (lab, place) = show::lab_and_place(&self.place)?;
        let signals =
            Signals::block(&[Signal::INT, Signal::TERM]).map_err(|error| error.to_string())?;
        if !fs::metadata(&self.file).map_err(|error| named(&error))?.is_file() {
            return Err(named(&"is no file; save the capture first, it is read twice"));
        }
        // What is wrong with the file is said before anything of it is sent.
        let plan = self.open().and_then(Frames::plan).map_err(|error| named(&error))?;
        if plan.frames == 0 {
            let skipped = plan.skipped.text().unwrap_or_default();
            return Err(named(&format_args!("there is no frame to send{skipped}")));
        }
        let connection = show::connect(lab)?;
        let request = Request::Replay { place: place.to_owned(), readdress: self.readdress };
        let (_, stream) = connection.take_over(&request).map_err(|error| error.to_string())?;
        let frames = self.open().map_err(|error| named(&error))?;
        send(frames, plan, &stream, &signals).map_err(|error| named(&error))?;
        let outcome = last_words(stream, &signals)
            .map_err(|error| format!("the lab does not say what became of it: {error}"))?;
        Ok(Said { frames: plan.frames, skipped: plan.skipped, outcome })
    }

    fn open(&self) -> Result<Frames, RecordingError> {
        Ok(Frames {
            recording: Recording::open(File::open(&self.file)?)?,
            speed: (!self.as_fast_as_possible).then_some(self.speed),
            first: None,
            after: Duration::ZERO,
            skipped: Skipped::default(),
        })
    }
}

impl Frames {
    /// Reads all of it.
    fn plan(mut self) -> Result<Plan, RecordingError> {
        let mut frames = 0;
        let mut progress = Progress::begin("read", None);
        while self.next_frame()?.is_some() {
            frames += 1;
            progress.is_at(frames);
        }
        Ok(Plan { frames, span: self.after, skipped: self.skipped })
    }

    /// When it is sent, since the first one, and its bytes. One that was captured before the one in
    /// front of it in the file is sent right behind that.
    fn next_frame(&mut self) -> Result<Option<(Duration, Vec<u8>)>, RecordingError> {
        while let Some(frame) = self.recording.next_frame()? {
            if frame.is_cut {
                self.skipped.cut += 1;
            } else if frame.bytes.len() > FRAME_MAX {
                self.skipped.too_long += 1;
            } else {
                if let Some((speed, at)) = self.speed.zip(frame.at) {
                    let captured = at.saturating_sub(*self.first.get_or_insert(at));
                    let after = Duration::try_from_secs_f64(captured.as_secs_f64() / speed);
                    self.after = self.after.max(after.unwrap_or(Duration::MAX));
                }
                return Ok(Some((self.after, frame.bytes)));
            }
        }
        Ok(None)
    }
}

/// Gives the lab every frame a while before its time, until there is no more or a signal comes.
fn send(
    mut frames: Frames,
    plan: Plan,
    mut stream: &UnixStream,
    signals: &Signals,
) -> Result<(), RecordingError> {
    stream.set_nonblocking(true)?;
    let begun = clock::monotonic();
    let mut progress = Progress::begin("sent", Some(plan));
    let (mut part, mut written, mut handed_over) = (Vec::with_capacity(PART), 0, 0);
    let mut next = frames.next_frame()?;
    while signals.next().is_none() {
        let now = clock::monotonic().saturating_sub(begun);
        while part.len() < PART
            && let Some((after, bytes)) = next.take_if(|(after, _)| *after <= now + AHEAD)
        {
            encode(after, &bytes, &mut part);
            handed_over += 1;
            next = frames.next_frame()?;
        }
        progress.is_at(handed_over);
        if written < part.len() {
            match stream.write(&part[written..]) {
                Ok(length) => written += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    wait(stream, PollFlags::OUT, signals, None);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Err(lab_ended()),
                Err(error) => return Err(error.into()),
            }
            continue;
        }
        part.clear();
        written = 0;
        let Some((after, _)) = &next else { break };
        let time = after.saturating_sub(now + AHEAD).min(NOTICED);
        if wait(stream, PollFlags::IN, signals, Some(time)) {
            return Err(lab_ended());
        }
    }
    stream.shutdown(Shutdown::Write)?;
    Ok(())
}

/// The lab says nothing before the end, unless it is its own.
fn lab_ended() -> RecordingError {
    io::Error::new(ErrorKind::UnexpectedEof, "not all of it was sent: the lab ended").into()
}

/// What the lab says at the end; a signal ends the wait for it.
fn last_words(mut stream: UnixStream, signals: &Signals) -> io::Result<Outcome> {
    let end = clock::monotonic() + LAST_WORDS;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    loop {
        match stream.read(&mut part) {
            Ok(0) => return Ok(serde_json::from_slice(&answer)?),
            Ok(length) => answer.extend(&part[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let left = end.saturating_sub(clock::monotonic());
                if left.is_zero() || signals.next().is_some() {
                    return Err(ErrorKind::TimedOut.into());
                }
                wait(&stream, PollFlags::IN, signals, Some(left));
            }
            Err(error) => return Err(error),
        }
    }
}

/// For the lab, a signal, or the end of the time. True when it is the lab.
fn wait(stream: &UnixStream, flags: PollFlags, signals: &Signals, time: Option<Duration>) -> bool {
    let time = time.map(|time| Timespec {
        tv_sec: time.as_secs().cast_signed(),
        tv_nsec: time.subsec_nanos().into(),
    });
    let mut polled = [PollFd::new(stream, flags), PollFd::new(signals, PollFlags::IN)];
    // Whatever ends it, the caller looks at everything.
    let _ = poll(&mut polled, time.as_ref());
    !polled[0].revents().is_empty()
}

/// How far it is, shown on a terminal when it takes long enough to be noticed.
struct Progress {
    begun: Duration,
    verb: &'static str,
    plan: Option<Plan>,
    bar: Option<ProgressBar>,
}

impl Progress {
    fn begin(verb: &'static str, plan: Option<Plan>) -> Self {
        Self { begun: clock::monotonic(), verb, plan, bar: None }
    }

    fn is_at(&mut self, frames: u64) {
        if self.bar.is_none() && clock::monotonic().saturating_sub(self.begun) > NOTICED {
            self.bar = Some(self.show());
        }
        if let Some(bar) = &self.bar {
            bar.set_position(frames);
        }
    }

    fn show(&self) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let verb = self.verb;
        let template = match self.plan {
            Some(Plan { frames, span, .. }) => {
                bar.set_length(frames);
                let span = span.as_secs();
                format!("{{bar:24}} {{pos}} of {{len}} frames {verb}, {{elapsed}} of {span}s")
            }
            None => format!("{{pos}} frames {verb}, {{elapsed}}"),
        };
        bar.set_style(ProgressStyle::with_template(&template).expect("the template is fixed"));
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Said {
    fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("it is plain data")
    }

    fn text(&self) -> String {
        let Self { frames, skipped, outcome } = self;
        let Outcome { port, sent, took_us, latest_us, dropped, is_known } = outcome;
        let seconds = *took_us as f64 / 1e6;
        let of = if sent == frames { String::new() } else { format!(" of {frames}") };
        let skipped = skipped.text().unwrap_or_default();
        let noun = if *frames == 1 { "frame" } else { "frames" };
        let mut text = format!("{sent}{of} {noun} sent into {port} in {seconds:.2} s{skipped}\n");
        // Writing into a string does not fail.
        if *latest_us > LATE_US {
            let late = *latest_us as f64 / 1e6;
            let _ = writeln!(text, "The latest was {late:.2} s behind its time.");
        }
        let _ = match (dropped.is_empty(), is_known) {
            (true, true) => writeln!(text, "None was dropped there."),
            (true, false) => writeln!(text, "What becomes of them there is not known to msee."),
            (false, _) => writeln!(text, "Dropped there meanwhile, other traffic included:"),
        };
        let widest = |of: fn(&Dropped) -> &str| dropped.iter().map(|row| of(row).len()).max();
        let at = widest(|row| &row.at).unwrap_or(0);
        let reason = widest(|row| &row.reason).unwrap_or(0);
        for Dropped { at: place, reason: why, packets, meaning } in dropped {
            let _ = writeln!(text, "  {place:<at$}  {why:<reason$}  {packets:>8}  {meaning}");
        }
        text
    }
}

impl Skipped {
    /// None where there is none.
    fn text(self) -> Option<String> {
        let Self { cut, too_long } = self;
        let all = cut + too_long;
        let cut = (cut > 0).then(|| format!("{cut} cut short by the capture"));
        let too_long = (too_long > 0).then(|| format!("{too_long} longer than {FRAME_MAX} bytes"));
        let reasons: Vec<_> = cut.into_iter().chain(too_long).collect();
        (all > 0).then(|| format!("; {all} skipped: {}", reasons.join(", ")))
    }
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse().ok().filter(|speed| SPEEDS.contains(speed));
    speed.ok_or_else(|| format!("a number from {} to {}", SPEEDS.start(), SPEEDS.end()))
}

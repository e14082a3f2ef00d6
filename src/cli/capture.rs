//! `msee capture [LAB/]NODE[/PORT] -w FILE`: what a running lab carries, for Wireshark.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write, stdout};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use crate::cli::service::Request;
use crate::cli::{COULD_NOT_RUN, show};
use crate::io::capture::Reader;
use crate::sys::clock;
use crate::sys::process::Signals;

/// Read from the lab at once.
const PART: usize = 256 << 10;
/// How long a lab may take to send what it has still, when it is told that this is enough.
const LAST_WORDS: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  msee capture ams/primary -w msee.pcapng            every port of one MSEE, until Ctrl-C
  msee capture ams/primary:nni -w nni.pcapng         one link, as `lab do cut --at` calls it
  msee capture ce1/eth1 -w ce1.pcapng                one port of a router
  msee capture dc1.erp -w - | tshark -r -            to another program
  msee capture quickstart/hub.app -w app.pcapng --seconds 10
  msee capture ams/primary -w first.pcapng --packets 100

Frames have their tags, their direction as the node sees it, and a comment that says why one was
dropped or that it is a super-frame. What a router drops is seen a second time with the reason, on
an interface of its own (`ce1 drops`); in Wireshark: frame.comment contains \"dropped\". A file or pipe that is too slow does not hold the lab up: what
it misses is counted and said at the end.";

/// Capture what a node of a running lab sends and receives, as pcapng.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Capture {
    /// A router or host, one of its ports, or a link; behind the lab's name where several run.
    #[arg(value_name = "[LAB/]NODE[/PORT]")]
    place: String,
    /// The file; - is standard output.
    #[arg(short = 'w', long = "write", value_name = "FILE")]
    file: PathBuf,
    /// End after so many seconds.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// End after so many packets.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    packets: Option<u64>,
}

impl Capture {
    pub fn run(&self) -> ExitCode {
        match self.capture() {
            Ok(said) => {
                eprintln!("{said}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("msee: {error}");
                ExitCode::from(COULD_NOT_RUN)
            }
        }
    }

    /// What is to be said at the end.
    fn capture(&self) -> Result<String, String> {
        let (lab, place) = show::lab_and_place(&self.place)?;
        let signals =
            Signals::block(&[Signal::INT, Signal::TERM]).map_err(|error| error.to_string())?;
        let request = Request::Capture { place: place.to_owned() };
        let connection = show::connect(lab)?;
        let (first, stream) = connection.take_over(&request).map_err(|error| error.to_string())?;
        let named = |error: io::Error| format!("{}: {error}", self.file.display());
        let out: Box<dyn Write> = if self.file == Path::new("-") {
            Box::new(stdout())
        } else {
            Box::new(File::create(&self.file).map_err(named)?)
        };
        let packets_max = self.packets.unwrap_or(u64::MAX);
        let mut taken = Taken { reader: Reader::default(), out, packets_max };
        let whole = self.take(&mut taken, &first, stream, &signals).map_err(named)?;
        Ok(said(&taken.reader, whole))
    }

    /// Until it is enough. False when the lab ended it, or did not end it in time.
    fn take(
        &self,
        taken: &mut Taken,
        first: &[u8],
        mut stream: UnixStream,
        signals: &Signals,
    ) -> io::Result<bool> {
        stream.set_nonblocking(true)?;
        let seconds = self.seconds.map(Duration::from_secs);
        let mut end = seconds.map(|seconds| clock::monotonic() + seconds);
        let mut enough = false;
        let mut part = vec![0; PART];
        let mut is_read = taken.take(first)?;
        while is_read {
            let now = clock::monotonic();
            let over = signals.next().is_some() || end.is_some_and(|end| now >= end);
            if over && enough {
                return Ok(false);
            }
            if over || taken.is_full() && !enough {
                enough = true;
                end = Some(now + LAST_WORDS);
                stream.shutdown(Shutdown::Write)?;
            }
            wait(&stream, signals, end.map(|end| end.saturating_sub(now)));
            match stream.read(&mut part) {
                Ok(0) => return Ok(enough),
                Ok(length) => is_read = taken.take(&part[..length])?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// What has come so far, and where it goes.
struct Taken {
    reader: Reader,
    out: Box<dyn Write>,
    packets_max: u64,
}

impl Taken {
    /// False when nobody reads it any more.
    fn take(&mut self, part: &[u8]) -> io::Result<bool> {
        let blocks = self.reader.take(part, self.packets_max)?;
        match self.out.write_all(&blocks).and_then(|()| self.out.flush()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(error),
        }
    }

    const fn is_full(&self) -> bool {
        self.reader.packets >= self.packets_max
    }
}

/// For the lab, a signal, or the end of the time.
fn wait(stream: &UnixStream, signals: &Signals, time: Option<Duration>) {
    let time = time.map(|time| Timespec {
        tv_sec: time.as_secs().cast_signed(),
        tv_nsec: time.subsec_nanos().into(),
    });
    // Whatever ends it, the caller looks at everything.
    let _ = poll(
        &mut [PollFd::new(stream, PollFlags::IN), PollFd::new(signals, PollFlags::IN)],
        time.as_ref(),
    );
}

fn said(reader: &Reader, whole: bool) -> String {
    let mut text = format!("{} packets captured", reader.packets);
    if reader.left_out > 0 {
        let _ = write!(text, ", {} left out: too slow for them", reader.left_out);
    }
    if !whole {
        text.push_str("; the lab ended first");
    }
    text
}

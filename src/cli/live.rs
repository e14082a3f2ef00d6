//! What a lab in the foreground tells while it runs: on a terminal a table that is drawn anew once a
//! second, elsewhere a line when sessions or links change.
//!
//! A thread of its own writes, so that a terminal that is stopped or a pipe that nobody reads does
//! not stop the lab; what it does not take is left out.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write, stdout};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use rustix::termios::tcgetwinsize;

use crate::azure;
use crate::config::lab::Circuit;
use crate::fabric::{Direction, LinkIndex, Observer};
use crate::lab::Lab;
use crate::lab::show::LinkState;
use crate::model::{Bandwidth, Instant, LinkRole};
use crate::telemetry::EventKind;

/// How often it is looked whether the lab is up, or is to end.
pub const LOOK: Duration = Duration::from_millis(10);
const EVERY: Duration = Duration::from_secs(1);
/// Of a terminal that does not say its size.
const WIDTH: usize = 80;
const HEIGHT: usize = 24;

/// Draws a lab.
#[derive(Debug)]
pub struct Live {
    name: String,
    out: SyncSender<String>,
    terminal: bool,
    next: Instant,
    before: Option<Seen>,
    /// Lines of the table that stands on the terminal.
    drawn: usize,
}

/// A lab at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Seen {
    at: Instant,
    established: usize,
    sessions: usize,
    links: Vec<LinkSeen>,
    dropped: u64,
    /// Every packet is accounted for.
    held: bool,
}

/// A circuit's link at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
struct LinkSeen {
    name: String,
    state: LinkState,
    /// IP bytes that conformed, to Azure and to on-premises.
    bytes: [u64; 2],
    surplus_packets: u64,
}

impl Live {
    /// To be called when this process may start threads.
    pub fn start(name: &str) -> Self {
        let (out, frames) = sync_channel::<String>(1);
        thread::spawn(move || {
            let mut stdout = stdout();
            // Ends with the lab, or with whoever reads.
            for frame in frames {
                if stdout.write_all(frame.as_bytes()).and_then(|()| stdout.flush()).is_err() {
                    return;
                }
            }
        });
        Self {
            name: name.to_owned(),
            out,
            terminal: stdout().is_terminal(),
            next: Instant::ZERO,
            before: None,
            drawn: 0,
        }
    }

    /// Whether what is drawn stays on the screen, so that nothing else may be printed.
    pub const fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// To be called between slices of the lab's time.
    pub fn tick(&mut self, lab: &Lab) {
        if lab.now() < self.next {
            return;
        }
        self.next = lab.now() + EVERY;
        let seen = Seen::of(lab);
        let before = self.before.as_ref();
        let (text, lines) = if self.terminal {
            let (width, height) = size();
            let lines = table(&self.name, &seen, before, width, height);
            (redraw(&lines, self.drawn), lines.len())
        } else if before.is_none_or(|before| seen.changed_since(before)) {
            (line(&seen), 0)
        } else {
            (String::new(), 0)
        };
        if text.is_empty() || self.out.try_send(text).is_ok() {
            self.drawn = lines;
            self.before = Some(seen);
        }
    }
}

impl Seen {
    fn of(lab: &Lab) -> Self {
        let (mut established, mut sessions) = (0, 0);
        for (_, session) in lab.sessions().filter(|(_, session)| session.enabled) {
            sessions += 1;
            established += usize::from(session.established);
        }
        let circuits = lab.file().circuits.iter();
        let links = circuits.flat_map(|circuit| LinkRole::BOTH.map(|link| (circuit, link)));
        let totals = lab.totals();
        Self {
            at: lab.now(),
            established,
            sessions,
            links: links.map(|(circuit, link)| LinkSeen::of(lab, circuit, link)).collect(),
            dropped: totals.sum.dropped.iter().sum(),
            held: totals.held,
        }
    }

    fn changed_since(&self, before: &Self) -> bool {
        let states = |seen: &Self| seen.links.iter().map(|link| link.state).collect::<Vec<_>>();
        (self.established, self.sessions, self.held)
            != (before.established, before.sessions, before.held)
            || states(self) != states(before)
    }
}

impl LinkSeen {
    fn of(lab: &Lab, circuit: &Circuit, link: LinkRole) -> Self {
        let name = format!("{}/{link}", circuit.name);
        let counters = lab.counters(&azure::msee_name(lab.file(), circuit, link));
        let limiters = counters.unwrap_or_default().limiters;
        let mut seen = Self {
            state: LinkState::of(lab, circuit, link),
            bytes: [0; 2],
            surplus_packets: 0,
            name,
        };
        for (bytes, way) in seen.bytes.iter_mut().zip(["to-azure", "to-onprem"]) {
            let called = format!("{}:{way}", seen.name);
            for limiter in limiters.iter().filter(|limiter| limiter.name == called) {
                *bytes += limiter.conforming_bytes;
                seen.surplus_packets += limiter.dropped_packets;
            }
        }
        seen
    }
}

/// The lines of the table, none wider and not more of them than there is room for.
fn table(
    name: &str,
    seen: &Seen,
    before: Option<&Seen>,
    width: usize,
    height: usize,
) -> Vec<String> {
    let books = if seen.held { "every packet accounted for" } else { "THE BOOKS DO NOT BALANCE" };
    let mut lines = vec![
        format!(
            "lab {name}, up {}: {} of {} sessions, {} packets dropped, {books}",
            clock(seen.at),
            seen.established,
            seen.sessions,
            seen.dropped
        ),
        format!(
            "{:<24} {:<12} {:<8} {:>12} {:>12} {:>12}",
            "LINK", "STATE", "BGP", "TO AZURE", "TO ON-PREM", "SURPLUS"
        ),
    ];
    for link in &seen.links {
        let earlier = before.and_then(|before| Some((before, before.link(&link.name)?)));
        let rate = |way: usize| {
            let Some((before, earlier)) = earlier else { return "-".to_owned() };
            // A router that was started anew counts from zero.
            let bytes = link.bytes[way].checked_sub(earlier.bytes[way]).unwrap_or(link.bytes[way]);
            per_second(bytes, seen.at.since(before.at)).to_string()
        };
        lines.push(format!(
            "{:<24} {:<12} {:<8} {:>12} {:>12} {:>12}",
            link.name,
            link.state.word(),
            link.state.bgp(),
            rate(0),
            rate(1),
            link.surplus_packets
        ));
    }
    lines
        .push(format!("Ctrl-C ends it; `msee show {name} TABLE` and `msee lab do` from elsewhere"));
    lines.truncate(height.saturating_sub(1));
    let cut = |line: &String| line.chars().take(width).collect();
    lines.iter().map(cut).collect()
}

impl Seen {
    fn link(&self, name: &str) -> Option<&LinkSeen> {
        self.links.iter().find(|link| link.name == name)
    }
}

/// Puts lines in the place of those that were drawn last.
fn redraw(lines: &[String], drawn: usize) -> String {
    let mut text = match drawn {
        0 => String::new(),
        drawn => format!("\x1b[{drawn}A\r\x1b[J"),
    };
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// Prints while the lab goes on, whether or not somebody reads it still.
pub fn say(words: std::fmt::Arguments) {
    let _ = stdout().write_fmt(words);
}

/// Prints what happened to links and sessions since the last time.
pub fn tell_events(lab: &Lab, told: &mut usize) {
    for event in lab.events_since(*told).1 {
        if event.kind <= EventKind::BgpUp {
            let at = event.at.since(Instant::ZERO).as_secs_f64();
            let (node, kind, detail) = (&event.node, event.kind.name(), &event.detail);
            say(format_args!("{at:9.3} s  {node}: {kind} {detail}\n"));
        }
    }
    *told = lab.events_recorded();
}

/// Watches no link.
#[derive(Debug)]
pub struct Nobody;

impl Observer for Nobody {
    fn frame(&mut self, _: LinkIndex, _: Direction, _: &[u8], _: Instant) {}
}

fn line(seen: &Seen) -> String {
    let mut text = format!("{} {} of {} sessions", clock(seen.at), seen.established, seen.sessions);
    for link in &seen.links {
        let _ = write!(text, ", {} {} {}", link.name, link.state.word(), link.state.bgp());
    }
    let _ = write!(text, ", {} packets dropped", seen.dropped);
    text + if seen.held { "\n" } else { ", the books do not balance\n" }
}

fn per_second(bytes: u64, span: Duration) -> Bandwidth {
    let bits = u128::from(bytes) * 8 * 1_000_000_000 / span.as_nanos().max(1);
    Bandwidth::from_bps(u64::try_from(bits).unwrap_or(u64::MAX))
}

/// Since the lab began.
fn clock(at: Instant) -> String {
    let seconds = at.as_nanos() / 1_000_000_000;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Columns and rows.
fn size() -> (usize, usize) {
    match tcgetwinsize(stdout()) {
        Ok(size) if size.ws_col > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (WIDTH, HEIGHT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(seconds: u64, bytes: u64) -> Seen {
        let state = LinkState { router_up: true, carrier: true, established: 1, sessions: 1 };
        let link = LinkSeen {
            name: "ams/primary".to_owned(),
            state,
            bytes: [bytes, 0],
            surplus_packets: 3,
        };
        Seen {
            at: Instant::ZERO + Duration::from_secs(seconds),
            established: 15,
            sessions: 16,
            links: vec![link],
            dropped: 7,
            held: true,
        }
    }

    #[test]
    fn rates_are_of_the_time_since_the_last_frame() {
        let lines = table("q", &seen(62, 500_000), Some(&seen(60, 250_000)), 200, 24);
        assert!(lines[0].starts_with("lab q, up 00:01:02: 15 of 16 sessions, 7 packets dropped"));
        let row: Vec<_> = lines[2].split_whitespace().collect();
        assert_eq!(row, ["ams/primary", "up", "1", "of", "1", "1", "Mbps", "0", "bps", "3"]);
        let restarted = table("q", &seen(62, 250_000), Some(&seen(60, 500_000)), 200, 24);
        assert!(restarted[2].contains("1 Mbps"), "{}", restarted[2]);
    }

    #[test]
    fn a_small_terminal_is_not_overrun() {
        let lines = table("q", &seen(62, 0), None, 20, 3);
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line.chars().count() <= 20));
        assert_eq!(redraw(&lines[1..], 2), format!("\x1b[2A\r\x1b[J{}\n", lines[1]));
    }

    #[test]
    fn a_plain_line_comes_when_a_session_or_link_changes_and_not_for_packets() {
        let (before, mut after) = (seen(60, 0), seen(62, 500));
        after.dropped += 1;
        assert!(!after.changed_since(&before));
        after.links[0].state.established = 0;
        assert!(after.changed_since(&before));
        assert!(line(&after).starts_with("00:01:02 15 of 16 sessions, ams/primary up 0 of 1"));
    }
}

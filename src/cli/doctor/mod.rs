//! `msee doctor`: what this host can do, and what to do about what it cannot.

mod host;
mod port;

use std::fmt::Write as _;
use std::io::{IsTerminal, stdout};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::cli::print;

const EXAMPLES: &str = "\
Examples:
  msee doctor                                         can labs run here?
  msee doctor --port eth1                             can this interface be a router's port?
  msee doctor --port eth1 --peer eth2                 and what arrives at the other end of its cable
  msee doctor --port veth0 --peer eth0 --peer-netns ce1
  msee doctor --json                                  the same for a program

With --port, four test frames (EtherType 0x88b5, to the broadcast address) leave that interface, and
four come back from the peer if there is one.

Exit code: 0 labs can run and the port is fit, 1 not.";

/// What this host can do, and the remedy for what it cannot.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Doctor {
    /// An interface to look at; test frames are sent there.
    #[arg(long, value_name = "IF")]
    port: Option<String>,
    /// The interface at the other end, to see what arrives.
    #[arg(long, value_name = "IF", requires = "port")]
    peer: Option<String>,
    /// The network namespace of the peer, as `ip netns` names it.
    #[arg(long, value_name = "NAME", requires = "peer")]
    peer_netns: Option<String>,
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    found: String,
    /// What to do; a command where there is one.
    remedy: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// Something is slower or missing that not everybody needs.
    Limited,
    Failed,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Findings {
    fit: bool,
    checks: Vec<Check>,
}

impl Doctor {
    pub fn run(&self) -> ExitCode {
        // The sandbox comes first: it begins while there is one thread.
        let mut checks = host::checks();
        if let Some(port) = &self.port {
            let peer = self.peer.as_deref().map(|peer| (peer, self.peer_netns.as_deref()));
            checks.extend(port::checks(port, peer));
        }
        let fit = checks.iter().all(|check| check.state != State::Failed);
        let findings = Findings { fit, checks };
        print(&if self.json { json(&findings) } else { page(&findings) });
        ExitCode::from(u8::from(!fit))
    }
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Ok, found: found.into(), remedy: None }
    }

    fn limited(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (found, remedy) = (found.into(), Some(remedy.into()));
        Self { name, state: State::Limited, found, remedy }
    }

    fn failed(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (found, remedy) = (found.into(), Some(remedy.into()));
        Self { name, state: State::Failed, found, remedy }
    }
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Limited => "limited",
            Self::Failed => "failed",
        }
    }

    /// An SGR parameter (ECMA-48): green, yellow, red.
    const fn colour(self) -> u8 {
        match self {
            Self::Ok => 32,
            Self::Limited => 33,
            Self::Failed => 31,
        }
    }
}

fn json(findings: &Findings) -> String {
    let text = serde_json::to_string_pretty(findings).expect("findings are plain data");
    text + "\n"
}

fn page(findings: &Findings) -> String {
    let coloured = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut text = String::new();
    for Check { name, state, found, remedy } in &findings.checks {
        let word = format!("{:<8}", state.word());
        let word = if coloured { format!("\x1b[{}m{word}\x1b[0m", state.colour()) } else { word };
        let _ = write!(text, "{word}{name:<17} {found}");
        if let Some(remedy) = remedy {
            let _ = write!(text, "; {remedy}");
        }
        text.push('\n');
    }
    text
}

//! `msee run`: a lab, or some of its routers, on interfaces that are there already.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::time::Duration;

use clap::Args;
use rustix::process::Signal;
use serde::Serialize;

use crate::cli::live::{LOOK, Live, Nobody, say, tell_events};
use crate::cli::service::Service;
use crate::cli::{COULD_NOT_RUN, Workers, files};
use crate::config::lab::{AttachLink, Lab as LabFile};
use crate::lab::attach::{self, Lead, Opened, Part};
use crate::lab::sandbox::{Record, Registry};
use crate::lab::{Execution, Lab, Ports};
use crate::model::Instant;
use crate::sys::clock;
use crate::sys::privilege;
use crate::sys::process::Signals;

/// Of the log of what happened, entries that are kept for `msee lab do --watch`, and how many more there
/// may be before they are forgotten.
const EVENTS_KEPT: usize = 1_000;
const EVENTS_MORE: usize = 10_000;
/// Between two looks at what the health file says.
const HEALTH_LOOK: Duration = Duration::from_millis(100);
/// How long what was said last has to leave: sessions end with a word.
const LAST_WORDS: Duration = Duration::from_millis(100);

const EXAMPLES: &str = "\
Examples:
  msee run lab.yaml                                   links are where `attach:` in the file says
  msee run lab.yaml --port ams/primary=eth1 --port ams/secondary=eth2
  msee run lab.yaml --port ams/primary=eth1 --port hub.app=eth3 --await-ports 60
  msee run lab.yaml --node ams/primary --node hub --port ams/primary=eth1
  msee run lab.yaml --node dc1 --port ams/primary=udp:127.0.0.1:10001,127.0.0.1:10000

A router of a customer whose link is given a port is behind that port. `ams/primary` is the end of
that link that leads out: the customer's, `:access`, or where no provider runs here the provider's,
`:nni`, with both tags. It takes CAP_NET_RAW to open interfaces, and nothing after that.

Exit code: 0 ended by SIGTERM or SIGINT, 2 it could not run.";

/// Run a lab, or some of its routers, on interfaces of this host or container.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Run {
    /// The lab file.
    file: PathBuf,
    /// What runs here: a router (ams/primary, hub/er), or those of a circuit, site or VNet; all if
    /// left out.
    #[arg(long = "node", value_name = "NAME")]
    nodes: Vec<String>,
    /// Where a link or a host is: LINK=INTERFACE or LINK=udp:LISTEN,PEER.
    #[arg(long = "port", value_name = "LINK=WHERE", value_parser = parse_port)]
    ports: Vec<(String, AttachLink)>,
    /// Another name than the lab's: parts of one lab side by side.
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    name: Option<String>,
    /// Wait this long for interfaces that are not there yet.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    await_ports: u64,
    /// Keep a file that says as JSON which sessions are up, from when the ports are there.
    #[arg(long, value_name = "FILE")]
    health: Option<PathBuf>,
    #[command(flatten)]
    workers: Workers,
}

fn parse_name(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if text.is_empty() || !text.bytes().all(fits) {
        return Err("letters, digits, - and _".to_owned());
    }
    Ok(text.to_owned())
}

fn parse_port(text: &str) -> Result<(String, AttachLink), String> {
    let form = "LINK=INTERFACE or LINK=udp:LISTEN,PEER, as ams/primary=eth1";
    let (link, at) = text.split_once('=').ok_or(form)?;
    if link.is_empty() || at.is_empty() {
        return Err(form.to_owned());
    }
    let at = match at.strip_prefix("udp:") {
        None => AttachLink::Interface(at.to_owned()),
        Some(ends) => {
            let (listen, peer) = ends.split_once(',').ok_or(form)?;
            let end = |text: &str| {
                text.parse().map_err(|_| format!("`{text}` is no ADDRESS:PORT, as 127.0.0.1:10000"))
            };
            AttachLink::Udp { listen: end(listen)?, peer: end(peer)? }
        }
    };
    Ok((link.to_owned(), at))
}

/// Why it ends before a signal.
enum Early {
    /// It was asked to.
    Asked,
    Failed(String),
}

impl From<String> for Early {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

impl Run {
    pub fn run(&self) -> ExitCode {
        match self.live() {
            Ok(()) | Err(Early::Asked) => ExitCode::SUCCESS,
            Err(Early::Failed(why)) => {
                eprint!("{why}");
                ExitCode::from(COULD_NOT_RUN)
            }
        }
    }

    fn live(&self) -> Result<(), Early> {
        let mut file = files::open(&self.file)?.lab().map_err(files::render)?;
        if let Some(name) = &self.name {
            file.name.clone_from(name);
        }
        let named = |error: &dyn std::fmt::Display| format!("{}: {error}\n", self.file.display());
        let part = Part::of(&file, &self.nodes, &self.ports).map_err(|error| named(&error))?;
        // Before a thread starts that would take them.
        let signals = Signals::block(&[Signal::INT, Signal::TERM, Signal::HUP])
            .map_err(|error| told(&error))?;
        let mut ports = Vec::new();
        for lead in &part.leads {
            let Some(at) = &lead.at else { continue };
            let port =
                attach::open(at).map_err(|error| named(&format!("{}: {error}", lead.name())))?;
            ports.push((lead, port));
        }
        privilege::give_up_all()
            .map_err(|error| told(&format!("dropping capabilities: {error}")))?;
        let registry = Registry::open().map_err(|error| told(&error))?;
        let entry = registry.reserve(&file.name).map_err(|error| told(&error))?;
        let pid = process::id() as i32;
        let record = Record { name: file.name.clone(), pid, init: None, nodes: Vec::new() };
        entry.write(&record).map_err(|error| told(&error))?;
        let mut health = self.health.as_deref().map(Health::new).transpose()?;
        let outcome = self.await_ports(&mut ports, &signals).and_then(|()| {
            for (lead, port) in &mut ports {
                if port.mtu().is_some_and(|mtu| mtu < lead.mtu()) {
                    say(format_args!(
                        "{}: the MTU of its interface is below {}: full packets do not pass\n",
                        lead.name(),
                        lead.mtu()
                    ));
                }
            }
            let service = Service::open(registry.folder(), &file.name)?;
            let ports: Ports = ports
                .into_iter()
                .map(|(lead, port)| (lead.link().to_owned(), port.into_port()))
                .collect();
            let execution = self.workers.execution();
            run(&file, execution, &part, ports, service, health.as_mut(), &signals);
            Ok(())
        });
        drop(health);
        registry.remove(&file.name);
        outcome
    }

    /// Until every interface is there.
    fn await_ports(&self, ports: &mut [(&Lead, Opened)], signals: &Signals) -> Result<(), Early> {
        let end = clock::monotonic() + Duration::from_secs(self.await_ports);
        let mut said = false;
        loop {
            let mut missing =
                ports.iter_mut().filter_map(|(lead, port)| (!port.is_there()).then_some(lead));
            let Some(lead) = missing.next() else { return Ok(()) };
            let at = lead.at.as_ref().expect("it was opened there");
            if clock::monotonic() >= end {
                return Err(Early::Failed(format!(
                    "{}: {}: there is no {}; `ip link` lists what there is, and --await-ports \
                     SECONDS waits for what is still to come\n",
                    self.file.display(),
                    lead.name(),
                    at
                )));
            }
            if !std::mem::replace(&mut said, true) {
                say(format_args!("waiting for {at}\n"));
            }
            if signals.next().is_some() {
                return Err(Early::Asked);
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// From the first frame to the last.
fn run(
    file: &LabFile,
    execution: Execution<'_>,
    part: &Part,
    ports: Ports,
    mut service: Service,
    mut health: Option<&mut Health>,
    signals: &Signals,
) {
    let mut lab = Lab::part_on_wire(file, file.seed, part.outside.clone(), ports, execution);
    for lead in part.leads.iter().filter(|lead| !lead.is_host || lead.at.is_some()) {
        match &lead.at {
            Some(at) => say(format_args!("{} is on {}\n", lead.name(), at)),
            None => say(format_args!("{} is not plugged in\n", lead.name())),
        }
    }
    let mut shown = Live::start(&file.name);
    let mut told = 0;
    while signals.next().is_none() {
        lab.run_until(lab.now() + LOOK, &mut Nobody);
        service.serve(&mut lab);
        shown.tick(&lab);
        if shown.is_terminal() {
            told = lab.events_recorded();
        } else {
            tell_events(&lab, &mut told);
        }
        if lab.events().len() > EVENTS_KEPT + EVENTS_MORE {
            lab.forget_events(told.saturating_sub(EVENTS_KEPT));
        }
        if let Some(health) = &mut health {
            health.tell(&lab);
        }
    }
    lab.close_sessions();
    lab.run_until(lab.now() + LAST_WORDS, &mut Nobody);
    tell_events(&lab, &mut told);
}

/// The file that says how it is; gone when it is over.
#[derive(Debug)]
struct Health {
    path: PathBuf,
    written: Option<String>,
    next: Instant,
}

/// What the file says.
#[derive(Serialize)]
struct State<'a> {
    lab: &'a str,
    pid: u32,
    /// Every session is up that should be.
    healthy: bool,
    sessions: Sessions,
}

#[derive(Serialize)]
struct Sessions {
    up: usize,
    /// Each with its router and its state.
    missing: Vec<String>,
}

impl Health {
    /// One that an earlier run left is no word of this one.
    fn new(path: &Path) -> Result<Self, String> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(format!(
                "--health {}: {error}; name a file in a folder of this user's\n",
                path.display()
            )),
            _ => Ok(Self { path: path.to_owned(), written: None, next: Instant::ZERO }),
        }
    }

    /// Says how it is, if that is another than before.
    fn tell(&mut self, lab: &Lab) {
        if lab.now() < self.next {
            return;
        }
        self.next = lab.now() + HEALTH_LOOK;
        let up = lab.sessions().filter(|(_, session)| session.established).count();
        let missing = lab.sessions_missing();
        let state = State {
            lab: &lab.file().name,
            pid: process::id(),
            healthy: missing.is_empty(),
            sessions: Sessions { up, missing },
        };
        let text = serde_json::to_string(&state).expect("a state is plain data") + "\n";
        if self.written.as_ref() == Some(&text) {
            return;
        }
        if let Err(error) = self.write(&text) {
            say(format_args!("--health {}: {error}\n", self.path.display()));
        }
        self.written = Some(text);
    }

    /// Whole or not at all, whenever it is read.
    fn write(&self, text: &str) -> io::Result<()> {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let beside = self.path.with_file_name(name);
        let mut file = fs::File::create(&beside)?;
        file.write_all(text.as_bytes())?;
        fs::rename(beside, &self.path)
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        // What is not there need not go.
        let _ = fs::remove_file(&self.path);
    }
}

fn told(error: &dyn std::fmt::Display) -> String {
    format!("msee: {error}\n")
}

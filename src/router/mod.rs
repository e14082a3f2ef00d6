//! One router put together: the forwarding side, the control side, and the three ways in:
//! [`Router::apply`] (desired state, as a diff), [`Router::operate`] (acts that are not state) and
//! [`Router::snapshot`]. There is no fourth way to change a running router; faults belong to
//! links, ports and processes.

mod apply;
mod operation;
mod process;
mod side;
mod snapshot;

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use crate::control::message::{Outcome, ToControl};
use crate::dataplane::Forwarding;
use crate::io::{Frame, Frames};
use crate::model::{
    AttachmentIndex, FlowHash, Instant, LimiterIndex, Notice, PortIndex, Random, RouterConfig,
    VrfIndex,
};
use crate::router::process::Process;
use crate::router::side::ControlSide;
use crate::telemetry::Event;

/// How long a route that was lost in order and has no replacement stays in use.
pub const LINGER: std::time::Duration = crate::control::rib::RibConfig::LINGER;

pub use crate::control::runtime::Launcher;
pub use crate::control::state::{PathRow, RouteRow};
pub use crate::dataplane::verdict::{DropReason, Ledger};
pub use apply::ATTACHMENT_FIELDS;
pub use operation::{OPERATIONS, Operation};
pub use process::CONTROL_RESTART;
pub use snapshot::{
    ArpRow, AttachmentRow, BfdRow, Counters, LimiterRow, SessionRow, Snapshot, VrfSnapshot,
};

/// A running router.
#[derive(Debug)]
pub struct Router {
    config: RouterConfig,
    forwarding: Forwarding,
    control: ControlSide,
    /// Starts its control processes; none where control is in this one.
    launcher: Option<Launcher>,
    process: Process,
    /// What happened to the control process itself.
    events: Vec<Event>,
    /// Prepends of the VRFs that are drained; a new control process is told of them.
    drained: BTreeMap<VrfIndex, u8>,
    seed: u64,
    names: Names,
    /// Earliest of what forwarding and control wait for; kept so that a forwarded packet does not
    /// cost a search.
    deadline: Instant,
}

/// Names of the configuration and the indexes they have while the router runs. An index is not
/// used again.
#[derive(Debug, Default)]
struct Names {
    ports: BTreeMap<String, PortIndex>,
    limiters: BTreeMap<String, LimiterIndex>,
    vrfs: BTreeMap<String, VrfIndex>,
    attachments: BTreeMap<String, AttachmentIndex>,
}

impl Names {
    fn port(&self, index: PortIndex) -> &str {
        self.ports.iter().find(|(_, other)| **other == index).map_or("?", |(name, _)| name)
    }
}

impl Router {
    /// With its control plane in this process.
    pub fn new(config: &RouterConfig, seed: u64, now: Instant) -> Self {
        Self::launch(config, seed, None, now)
    }

    /// With its control plane in a process of its own, if there is a launcher and it can start one.
    pub fn launch(
        config: &RouterConfig,
        seed: u64,
        launcher: Option<&Launcher>,
        now: Instant,
    ) -> Self {
        // A symmetric hash is to choose the same link for both directions, which different
        // routers send; so all routers share its seed (section 20).
        let shared = Random::new(seed, "flows").next_u64();
        let seed = Random::new(seed, &config.name).next_u64();
        let flow_seed = match config.hash {
            FlowHash::Asymmetric => seed,
            FlowHash::Symmetric => shared,
        };
        let apart = launcher.map(|launcher| ControlSide::start(config, seed, Some(launcher)));
        let control = apart.and_then(Result::ok);
        let launcher = launcher.filter(|_| control.is_some()).cloned();
        let mut router = Self {
            config: RouterConfig {
                ports: Vec::new(),
                limiters: Vec::new(),
                vrfs: Vec::new(),
                attachments: Vec::new(),
                ..config.clone()
            },
            forwarding: Forwarding::new(seed, flow_seed, config.hash),
            control: control.unwrap_or_else(|| ControlSide::within(config, seed)),
            launcher,
            process: Process::Running(None),
            events: Vec::new(),
            drained: BTreeMap::new(),
            seed,
            names: Names::default(),
            deadline: now,
        };
        router.control.tell(ToControl::SetAnnounces(config.announces_addresses), now);
        router.apply(config, now);
        router
    }

    /// What the router is to be; while its control process is dead it may still be something else.
    pub fn config(&self) -> &RouterConfig {
        self.process.waiting().unwrap_or(&self.config)
    }

    /// Frames arrived on a port, all at this moment.
    pub fn receive(
        &mut self,
        port: PortIndex,
        arrived: impl IntoIterator<Item = Frame>,
        frames: &mut Frames,
        now: Instant,
    ) {
        self.forwarding.receive(port, arrived, frames, now);
        self.settle(frames, now);
    }

    pub fn handle_timeout(&mut self, frames: &mut Frames, now: Instant) {
        self.forwarding.handle_timeout(now, frames);
        self.run_process(now);
        self.control.handle_timeout(now);
        self.carry(frames, now);
    }

    /// When [`Router::handle_timeout`] must next be called.
    pub const fn poll_timeout(&self) -> Instant {
        self.deadline
    }

    pub fn poll_transmit(&mut self) -> Option<(PortIndex, Frame)> {
        self.forwarding.poll_transmit()
    }

    /// Whether somebody takes what the router drops, from now on.
    pub fn keep_dropped(&mut self, keep: bool) {
        self.forwarding.keep_dropped(keep);
    }

    /// The frames that were dropped since this was last asked, to be freed. Packets that control had
    /// no time for, and what no frame was free for, are not among them.
    pub fn take_dropped(&mut self) -> Vec<(Frame, DropReason)> {
        self.forwarding.take_dropped()
    }

    /// Carrier of a port came or went. What the router says because of it can be polled from its
    /// next timeout on, which is due at once.
    pub fn carrier(&mut self, port: PortIndex, up: bool, frames: &mut Frames, now: Instant) {
        self.forwarding.carrier(port, up);
        self.settle(frames, now);
        self.deadline = now;
    }

    /// Whether the port of that name has carrier.
    pub fn has_carrier(&self, port: &str) -> bool {
        self.names.ports.get(port).is_some_and(|&port| self.forwarding.has_carrier(port))
    }

    pub fn drain_events(&mut self) -> impl Iterator<Item = Event> {
        self.control.drain_events().into_iter().chain(self.events.drain(..))
    }

    /// Of a control process: what becomes readable when it has said something, and whether
    /// something waits to be written. See [`Router::hear_control`].
    pub fn control_descriptor(&self) -> Option<(BorrowedFd<'_>, bool)> {
        self.control.descriptor()
    }

    /// Takes in what a control process has said, or that it is gone.
    pub fn hear_control(&mut self, frames: &mut Frames, now: Instant) {
        let Some(remote) = self.control.remote() else { return };
        let outcome = remote.read();
        // Also what it said before it ended.
        self.carry(frames, now);
        if let Err(error) = outcome {
            self.lose_control(&error, now);
        }
    }

    pub fn ledger(&self) -> &Ledger {
        self.forwarding.ledger()
    }

    fn settle(&mut self, frames: &mut Frames, now: Instant) {
        if self.forwarding.has_notice() {
            self.carry(frames, now);
        }
    }

    /// Carries notices to control and changes and packets back, until neither has anything.
    fn carry(&mut self, frames: &mut Frames, now: Instant) {
        loop {
            let mut moved = false;
            while let Some(notice) = self.forwarding.poll_notice() {
                if !self.has_control() {
                    continue;
                }
                moved = true;
                self.pass_on(notice, now);
            }
            self.control.run(now);
            while let Some(outcome) = self.control.poll() {
                moved = true;
                match outcome {
                    Outcome::Changes(changes) => self.forwarding.apply(&changes, now),
                    Outcome::Inject(injected) => self.forwarding.inject(injected, frames),
                }
            }
            if !moved {
                break;
            }
        }
        let control = self.control.poll_timeout().min(self.process_deadline());
        self.deadline = self.forwarding.poll_timeout().min(control);
    }

    fn pass_on(&mut self, notice: Notice, now: Instant) {
        let punted_on = match &notice {
            Notice::Punted(punted) => Some(punted.attachment),
            _ => None,
        };
        let message = match notice {
            Notice::Carrier { port, up } => ToControl::Carrier {
                port: self.names.port(port).to_owned(),
                attachments: self.attachments_of(port),
                up,
            },
            notice => ToControl::Notice(notice),
        };
        if !self.control.tell(message, now)
            && let Some(attachment) = punted_on
        {
            self.forwarding.take_back_punt(attachment);
        }
    }

    fn attachments_of(&self, port: PortIndex) -> Vec<AttachmentIndex> {
        let on_port = |name: &String| self.names.ports.get(name) == Some(&port);
        let attachments = self.config.attachments.iter();
        attachments
            .filter(|attachment| on_port(&attachment.port))
            .filter_map(|attachment| self.names.attachments.get(&attachment.name).copied())
            .collect()
    }
}

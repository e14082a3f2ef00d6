//! The control side of a router: in this process, or joined to it by a socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::control::domain::PeerRow;
use crate::control::message::{Outcome, ToControl};
use crate::control::neighbor;
use crate::control::plane::Control;
use crate::control::runtime::{Launcher, Remote};
use crate::control::state::RouteRow;
use crate::model::{Change, Instant, RouterConfig, VrfIndex};
use crate::telemetry::Event;

#[derive(Debug)]
pub(super) enum ControlSide {
    Within(Box<Control>),
    Process(Box<Remote>),
    Dead,
}

impl ControlSide {
    /// Fresh, in a process of its own if there is a launcher.
    ///
    /// # Errors
    /// The process could not be started.
    pub fn start(
        config: &RouterConfig,
        seed: u64,
        launcher: Option<&Launcher>,
    ) -> io::Result<Self> {
        Ok(match launcher {
            Some(launcher) => {
                let remote = launcher.start(&config.name, config.router_id, seed)?;
                Self::Process(Box::new(remote))
            }
            None => Self::within(config, seed),
        })
    }

    pub fn within(config: &RouterConfig, seed: u64) -> Self {
        Self::Within(Box::new(Control::new(&config.name, config.router_id, seed)))
    }

    /// False when it is a punted packet and control is too busy to take more of them.
    pub fn tell(&mut self, message: ToControl, now: Instant) -> bool {
        match self {
            Self::Within(control) => control.handle(message, now),
            Self::Process(remote) => return remote.tell(message, now),
            Self::Dead => {}
        }
        true
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if let Self::Within(control) = self
            && control.poll_timeout() <= now
        {
            control.handle_timeout(now);
        }
    }

    /// When [`ControlSide::handle_timeout`] must next be called. A process has timers of its own.
    pub fn poll_timeout(&self) -> Instant {
        match self {
            Self::Within(control) => control.poll_timeout(),
            Self::Process(_) | Self::Dead => Instant::NEVER,
        }
    }

    /// Lets it act on what it was told.
    pub fn run(&mut self, now: Instant) {
        match self {
            Self::Within(control) => control.run(now),
            Self::Process(remote) => remote.flush(),
            Self::Dead => {}
        }
    }

    /// The changes that are ready before anything else happens. A process has none: what it says is
    /// polled in its order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        match self {
            Self::Within(control) => control.take_changes(),
            Self::Process(_) | Self::Dead => Vec::new(),
        }
    }

    /// The next of what it has for forwarding.
    pub fn poll(&mut self) -> Option<Outcome> {
        match self {
            Self::Within(control) => control.poll(),
            Self::Process(remote) => remote.poll(),
            Self::Dead => None,
        }
    }

    pub fn drain_events(&mut self) -> Vec<Event> {
        match self {
            Self::Within(control) => control.drain_events(),
            Self::Process(remote) => remote.drain_events(),
            Self::Dead => Vec::new(),
        }
    }

    /// True when nothing is under way that a timer of the routing tables would finish.
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Within(control) => control.is_settled(),
            Self::Process(remote) => remote.is_settled(),
            Self::Dead => false,
        }
    }

    pub fn peers(&self, vrf: VrfIndex) -> Vec<PeerRow> {
        match self {
            Self::Within(control) => control.peers(vrf),
            Self::Process(remote) => remote.state().peers(vrf),
            Self::Dead => Vec::new(),
        }
    }

    pub fn neighbors(&self) -> Vec<neighbor::Row> {
        match self {
            Self::Within(control) => control.neighbors(),
            Self::Process(remote) => remote.state().neighbors.clone(),
            Self::Dead => Vec::new(),
        }
    }

    pub fn routes(&self, vrf: VrfIndex) -> Vec<RouteRow> {
        match self {
            Self::Within(control) => control.routes(vrf),
            Self::Process(remote) => remote.routes(vrf),
            Self::Dead => Vec::new(),
        }
    }

    /// The process, if it is one.
    pub fn remote(&mut self) -> Option<&mut Remote> {
        match self {
            Self::Process(remote) => Some(remote),
            Self::Within(_) | Self::Dead => None,
        }
    }

    /// What becomes readable when it has said something, and whether something waits to be written.
    pub fn descriptor(&self) -> Option<(BorrowedFd<'_>, bool)> {
        match self {
            Self::Process(remote) => Some((remote.as_fd(), remote.has_unsent())),
            Self::Within(_) | Self::Dead => None,
        }
    }
}

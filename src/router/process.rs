//! The control process: it can die alone, while forwarding and BFD go on with the tables they have.
//!
//! ```text
//!  kill ──► dead: packets for the router are dropped, neighbours hear nothing
//!             │ CONTROL_RESTART
//!             ▼
//!           back: learns anew beside what forwarding kept; neighbours get RST for what they still
//!             │   believe in, drop their sessions and come back, or keep its routes meanwhile where
//!             │   graceful restart is agreed on
//!             │ all sessions up for STALE_QUIET or told to the end (RFC 4724), or STALE_MAX
//!             ▼
//!           what was not learned again is taken out of forwarding
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::control::domain::PeerRow;
use crate::control::message::ToControl;
use crate::model::{AttachmentIndex, Change, GroupIndex, Instant, Random, RouterConfig, VrfIndex};
use crate::router::Router;
use crate::router::side::ControlSide;
use crate::telemetry::{Event, EventKind};

/// How long a control process that died is away; an assumption, as long as a supervisor waits and a
/// process starts.
pub const CONTROL_RESTART: Duration = Duration::from_secs(5);
/// How long all sessions are up before what was not learned again is taken to be gone (section 20:
/// 5 s of quiet).
const STALE_QUIET: Duration = Duration::from_secs(5);
/// The longest that is waited for them.
const STALE_MAX: Duration = Duration::from_mins(1);
/// How often it is looked whether they are up.
const STALE_LOOK: Duration = Duration::from_secs(1);

/// Whether the control process runs, and what forwarding has from its earlier life.
#[derive(Debug)]
pub(super) enum Process {
    Running(Option<Stale>),
    Dead {
        until: Instant,
        stale: Stale,
        /// What the router is to be when the process is back.
        waiting: Option<RouterConfig>,
    },
}

/// What forwarding has from an earlier life of control.
#[derive(Debug, Default)]
pub(super) struct Stale {
    groups: BTreeMap<VrfIndex, BTreeSet<GroupIndex>>,
    neighbors: BTreeSet<(AttachmentIndex, IpAddr)>,
    next_look: Instant,
    deadline: Instant,
}

impl Process {
    /// The configuration that waits for the process.
    pub(super) const fn waiting(&self) -> Option<&RouterConfig> {
        match self {
            Self::Dead { waiting, .. } => waiting.as_ref(),
            Self::Running(_) => None,
        }
    }
}

impl Router {
    /// Ends the control process without a word. It starts again by itself after
    /// [`CONTROL_RESTART`]; a configuration applied meanwhile waits for it.
    pub fn kill_control(&mut self, now: Instant) {
        let earlier = match &mut self.process {
            Process::Running(stale) => stale.take().unwrap_or_default(),
            Process::Dead { .. } => return,
        };
        let mut neighbors = earlier.neighbors;
        let known = self.control.neighbors().into_iter();
        let known = known.filter(|row| !row.own && row.mac.is_some());
        neighbors.extend(known.map(|row| (row.attachment, row.address)));
        let groups = self.config.vrfs.iter().map(|vrf| {
            let vrf = self.names.vrfs[&vrf.name];
            let used = self.forwarding.routes(vrf).map(|(_, group)| group);
            (vrf, used.filter(|group| *group != GroupIndex::NO_ROUTE).collect())
        });
        let stale = Stale { groups: groups.collect(), neighbors, ..Stale::default() };
        // With it a process of its own ends.
        self.events.append(&mut self.control.drain_events());
        self.control = ControlSide::Dead;
        self.forwarding.set_control_down(true);
        self.process = Process::Dead { until: now + CONTROL_RESTART, stale, waiting: None };
        self.deadline = now;
    }

    /// The control process is gone, and not because it was killed here.
    pub(super) fn lose_control(&mut self, error: &std::io::Error, now: Instant) {
        let Some(remote) = self.control.remote() else { return };
        let words = remote.last_words().map_or_else(|| error.to_string(), str::to_owned);
        let detail = format!("control process {} is gone: {words}", remote.id());
        self.kill_control(now);
        let node = self.config.name.clone();
        self.events.push(Event { at: now, node, kind: EventKind::Fault, detail });
    }

    pub fn has_control(&self) -> bool {
        matches!(self.process, Process::Running(_))
    }

    /// Keeps a configuration until the control process can take it; true if there is none.
    pub(super) fn wait_for_control(&mut self, config: &RouterConfig) -> bool {
        match &mut self.process {
            Process::Dead { waiting, .. } => {
                *waiting = Some(config.clone());
                true
            }
            Process::Running(_) => false,
        }
    }

    /// When [`Router::run_process`] must next be called.
    pub(super) const fn process_deadline(&self) -> Instant {
        match &self.process {
            Process::Dead { until, .. } => *until,
            Process::Running(Some(stale)) => stale.next_look,
            Process::Running(None) => Instant::NEVER,
        }
    }

    pub(super) fn is_settled_process(&self) -> bool {
        matches!(self.process, Process::Running(None))
    }

    pub(super) fn run_process(&mut self, now: Instant) {
        if now < self.process_deadline() {
            return;
        }
        match std::mem::replace(&mut self.process, Process::Running(None)) {
            Process::Dead { stale, waiting, .. } => {
                let (next_look, deadline) = (now + STALE_LOOK, now + STALE_MAX);
                if let Err(error) = self.start_control(&stale, now) {
                    let node = self.config.name.clone();
                    let detail = format!("control process does not start: {error}");
                    self.events.push(Event { at: now, node, kind: EventKind::Fault, detail });
                    self.process = Process::Dead { until: now + CONTROL_RESTART, stale, waiting };
                    return;
                }
                self.process = Process::Running(Some(Stale { next_look, deadline, ..stale }));
                if let Some(config) = waiting {
                    self.apply(&config, now);
                }
            }
            Process::Running(Some(stale)) if self.is_learned(now) || stale.deadline <= now => {
                self.forget(stale, now);
            }
            Process::Running(Some(stale)) => {
                let next_look = now + STALE_LOOK;
                self.process = Process::Running(Some(Stale { next_look, ..stale }));
            }
            Process::Running(None) => {}
        }
    }

    /// Tells a fresh control process all it has to know.
    fn start_control(&mut self, stale: &Stale, now: Instant) -> std::io::Result<()> {
        // What happens in the next life is not what happened in this one.
        let seed = Random::new(self.seed ^ now.as_nanos(), "control").next_u64();
        self.control = ControlSide::start(&self.config, seed, self.launcher.as_ref())?;
        self.forwarding.set_control_down(false);
        self.control.tell(ToControl::SetAnnounces(self.config.announces_addresses), now);
        for (&vrf, groups) in &stale.groups {
            self.control.tell(ToControl::KeepGroups { vrf, groups: groups.clone() }, now);
        }
        let config = self.config.clone();
        for attachment in &config.attachments {
            self.tell_control(attachment, &config, now);
        }
        for vrf in &config.vrfs {
            self.tell_vrf(vrf, now);
        }
        for (&vrf, &prepends) in &self.drained {
            self.control.tell(ToControl::Drain { vrf, prepends: Some(prepends) }, now);
        }
        Ok(())
    }

    /// Whether every neighbour has told its routes: the end of them where restarts are agreed on, and
    /// elsewhere its session has been up for [`STALE_QUIET`].
    fn is_learned(&self, now: Instant) -> bool {
        let told = |row: &PeerRow| {
            let is_quiet = |up: Instant| now.since(up) >= STALE_QUIET;
            row.established_at.is_some_and(|up| row.complete || is_quiet(up))
        };
        let mut rows = self.names.vrfs.values().flat_map(|&vrf| self.control.peers(vrf));
        self.control.is_settled() && rows.all(|row| !row.enabled || told(&row))
    }

    /// Takes out of forwarding what the earlier life left and this one does not know.
    fn forget(&mut self, stale: Stale, now: Instant) {
        let mut changes = Vec::new();
        for (&vrf, groups) in &stale.groups {
            let old = self.forwarding.routes(vrf).filter(|(_, group)| groups.contains(group));
            let none = |(prefix, _)| Change::Route { vrf, prefix, group: None };
            changes.extend(old.map(none));
            let gone = |&group| Change::Group { vrf, group, members: Vec::new() };
            changes.extend(groups.iter().map(gone));
        }
        let known = self.control.neighbors().into_iter().filter(|row| row.mac.is_some());
        let known: BTreeSet<_> = known.map(|row| (row.attachment, row.address)).collect();
        for (attachment, address) in stale.neighbors {
            if !known.contains(&(attachment, address)) {
                changes.push(Change::Neighbor { attachment, address, mac: None });
            }
        }
        self.forwarding.apply(&changes, now);
        self.control.tell(ToControl::ReleaseKeptGroups, now);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{self, CircuitLink, NodeRef};
    use crate::fabric::{Direction, LinkIndex, Observer};
    use crate::lab::Lab;
    use crate::model::{GracefulRestart, LinkRole, Prefix};

    struct Nobody;

    impl Observer for Nobody {
        fn frame(&mut self, _: LinkIndex, _: Direction, _: &[u8], _: Instant) {}
    }

    const MSEE: &str = "ams/primary";
    const SITE: &str = "192.168.0.0/22";

    fn lab() -> Lab {
        lab_with(GracefulRestart::Off)
    }

    fn lab_with(mode: GracefulRestart) -> Lab {
        let path = Path::new("fixtures/labs/active-active.yaml");
        let text = std::fs::read_to_string(path).unwrap();
        let mut file = config::load_lab(path, &text).unwrap();
        file.circuits[0].peerings[0].graceful_restart = mode;
        let mut lab = Lab::new(&file, 1);
        run(&mut lab, 30);
        assert!(lab.is_converged());
        lab
    }

    fn run(lab: &mut Lab, seconds: u64) {
        lab.run_until(lab.now() + Duration::from_secs(seconds), &mut Nobody);
    }

    fn kill(lab: &mut Lab) {
        let place = CircuitLink { circuit: "ams".to_owned(), link: LinkRole::Primary };
        lab.kill_control(&NodeRef::Msee(place));
    }

    /// Where forwarding sends what is for the site; nothing without a route.
    fn ways(lab: &Lab) -> Vec<bool> {
        let router = lab.router(MSEE).unwrap();
        let prefix: Prefix = SITE.parse().unwrap();
        let vrf = VrfIndex(0);
        let found = router.forwarding.routes(vrf).find(|(other, _)| *other == prefix);
        assert_eq!(router.forwarding.refused_changes(), 0);
        let group = found.map(|(_, group)| router.forwarding.group(vrf, group));
        group.into_iter().flatten().map(|(_, alive)| alive).collect()
    }

    #[test]
    fn forwarding_keeps_its_routes_until_they_are_learned_again() {
        let mut lab = lab();
        let before = ways(&lab);
        assert_eq!(before, [true]);
        kill(&mut lab);
        assert!(!lab.is_converged());
        // A second death while it is back and has not learned everything.
        for second in 0..240 {
            if second == 20 {
                kill(&mut lab);
            }
            run(&mut lab, 1);
            assert_eq!(ways(&lab), before, "after {second} s");
        }
        assert!(lab.is_converged(), "{:?}", lab.sessions_missing());
        assert!(lab.totals().held);
    }

    #[test]
    fn what_is_not_learned_again_leaves_forwarding() {
        let mut lab = lab();
        kill(&mut lab);
        lab.announce("core", SITE.parse().unwrap(), false);
        run(&mut lab, 10);
        assert_eq!(ways(&lab), [true]);
        run(&mut lab, 180);
        assert_eq!(ways(&lab), Vec::<bool>::new());
        assert!(lab.is_converged(), "{:?}", lab.sessions_missing());
    }

    /// No need to wait for silence: neighbours say when they have told everything.
    #[test]
    fn with_graceful_restart_it_is_known_at_once_what_is_not_learned_again() {
        let mut lab = lab_with(GracefulRestart::Full);
        kill(&mut lab);
        lab.announce("core", SITE.parse().unwrap(), false);
        run(&mut lab, 5);
        assert_eq!(ways(&lab), [true]);
        run(&mut lab, 4);
        assert_eq!(ways(&lab), Vec::<bool>::new());
        assert!(lab.is_converged(), "{:?}", lab.sessions_missing());
    }

    #[test]
    fn a_configuration_waits_for_the_process_even_through_a_crash() {
        let mut lab = lab();
        let rate = |lab: &Lab| lab.counters(MSEE).unwrap().limiters[0].rate;
        let (before, faster) = (rate(&lab), crate::model::Bandwidth::from_mbps(2000));
        kill(&mut lab);
        lab.set_bandwidth("ams", faster);
        run(&mut lab, 4);
        assert_eq!(rate(&lab), before);
        run(&mut lab, 2);
        assert_eq!(rate(&lab), faster);

        kill(&mut lab);
        lab.set_bandwidth("ams", before);
        let place = CircuitLink { circuit: "ams".to_owned(), link: LinkRole::Primary };
        lab.restart(&NodeRef::Msee(place));
        assert_eq!(rate(&lab), before);
    }

    #[test]
    fn what_is_for_a_dead_process_is_dropped_for_that() {
        let mut lab = lab();
        let place = CircuitLink { circuit: "ams".to_owned(), link: LinkRole::Primary };
        kill(&mut lab);
        lab.reset_session(&config::SessionRef::Link(place));
        run(&mut lab, 3);
        let drops = lab.counters(MSEE).unwrap().drops;
        assert!(drops.iter().any(|(reason, n)| reason == "control-down" && *n > 0), "{drops:?}");
        assert!(lab.totals().held);
        run(&mut lab, 120);
        assert!(lab.is_converged(), "{:?}", lab.sessions_missing());
    }
}

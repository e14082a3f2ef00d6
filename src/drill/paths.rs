//! Which link of which circuit each flow takes, seen on the wires between providers and MSEEs.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::azure;
use crate::drill::connections::Connections;
use crate::drill::probe::FlowInfo;
use crate::fabric::{Direction, LinkIndex, Observer};
use crate::lab::Lab;
use crate::model::{Instant, LinkRole};
use crate::traffic;

/// A flow that is not seen for so long, and for so many of its gaps, takes no link any more.
const UNSEEN: Duration = Duration::from_secs(1);
const UNSEEN_GAPS: u32 = 4;

/// One link of a circuit, by its place in [`Paths::names`].
pub type PathIndex = u16;

/// Where flows went, and when that changed.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    /// `ams/primary`, in the order of the lab file.
    names: Vec<String>,
    /// Name of the MSEE of each path.
    msees: Vec<String>,
    /// Outer tag and link → path.
    by_tag: BTreeMap<(LinkIndex, u16), PathIndex>,
    /// By flow id; acknowledgements of TCP flows behind all flows, in the same order.
    flows: Vec<History>,
    /// From a TCP flow's place to that of its acknowledgements.
    reverse: usize,
}

/// Where one flow was seen.
#[derive(Clone, Debug)]
struct History {
    stays: Vec<Stay>,
    /// How long the flow may be unseen and still be on its path.
    patience: Duration,
}

/// From the first to the last packet of a flow on one path without a pause.
#[derive(Clone, Copy, Debug)]
struct Stay {
    since: Instant,
    until: Instant,
    path: PathIndex,
}

impl Paths {
    /// Watches every provider–MSEE link of a lab.
    pub fn watch(lab: &mut Lab, flows: &[FlowInfo], connections: &Connections) -> Self {
        let history = |patience| History { stays: Vec::new(), patience };
        let probes = flows.iter().map(|info| UNSEEN.max(info.resolution() * UNSEEN_GAPS));
        let tcp = std::iter::repeat_n(UNSEEN, connections.count() * 2);
        let mut paths = Self {
            flows: probes.chain(tcp).map(history).collect(),
            reverse: connections.count(),
            ..Self::default()
        };
        for circuit in lab.file().circuits.clone() {
            for link in LinkRole::BOTH {
                let Some(index) = lab.nni(&circuit.name, link) else { continue };
                lab.watch(index);
                paths.by_tag.insert((index, circuit.stag.get()), paths.names.len() as PathIndex);
                paths.names.push(format!("{}/{link}", circuit.name));
                paths.msees.push(azure::msee_name(lab.file(), &circuit, link));
            }
        }
        paths
    }

    pub fn name(&self, path: PathIndex) -> &str {
        &self.names[path as usize]
    }

    pub fn msee(&self, path: PathIndex) -> &str {
        &self.msees[path as usize]
    }

    /// The path of the flow's last packet up to a moment; none when that is long ago.
    pub fn at(&self, flow: usize, moment: Instant) -> Option<PathIndex> {
        let history = self.flows.get(flow)?;
        let until = history.stays.partition_point(|stay| stay.since <= moment);
        let last = history.stays[..until].last()?;
        (moment.since(last.until) <= history.patience).then_some(last.path)
    }

    /// Flows on each path at each of these moments, by the path's name; paths that none is on are
    /// left out.
    pub fn over_time(
        &self,
        flows: impl Iterator<Item = usize>,
        moments: impl Iterator<Item = Instant>,
    ) -> BTreeMap<String, Vec<u64>> {
        let moments: Vec<_> = moments.collect();
        let mut counts = vec![vec![0; moments.len()]; self.names.len()];
        for flow in flows {
            for (place, &moment) in moments.iter().enumerate() {
                if let Some(path) = self.at(flow, moment) {
                    counts[path as usize][place] += 1;
                }
            }
        }
        let named = self.names.iter().cloned().zip(counts);
        named.filter(|(_, counts)| counts.iter().any(|&count| count > 0)).collect()
    }

    /// Every path the flow used between two moments.
    pub fn between(&self, flow: usize, from: Instant, to: Instant) -> Vec<PathIndex> {
        let inside = self.stays(flow).filter(|stay| stay.since > from && stay.since <= to);
        let mut paths: Vec<_> =
            self.at(flow, from).into_iter().chain(inside.map(|stay| stay.path)).collect();
        paths.sort_unstable();
        paths.dedup();
        paths
    }

    /// When a flow, seen before `from`, first took a path that it was not on then and `counts`
    /// is true of that moment.
    pub fn first_change(
        &self,
        flow: usize,
        from: Instant,
        to: Instant,
        counts: impl Fn(Instant) -> bool,
    ) -> Option<(Instant, PathIndex)> {
        self.stays(flow).next().filter(|first| first.since <= from)?;
        let before = self.at(flow, from);
        let mut inside = self.stays(flow).filter(|stay| stay.since > from && stay.since <= to);
        let change = inside.find(|stay| Some(stay.path) != before && counts(stay.since))?;
        Some((change.since, change.path))
    }

    fn stays(&self, flow: usize) -> impl Iterator<Item = &Stay> {
        self.flows.get(flow).into_iter().flat_map(|history| &history.stays)
    }
}

impl Observer for Paths {
    fn frame(&mut self, link: LinkIndex, _: Direction, bytes: &[u8], now: Instant) {
        let Some(probe) = traffic::sighting(bytes) else { return };
        let Some(&path) = probe.outer.and_then(|outer| self.by_tag.get(&(link, outer))) else {
            return;
        };
        let behind = if probe.is_reverse { self.reverse } else { 0 };
        let Some(history) = self.flows.get_mut(probe.flow as usize + behind) else { return };
        match history.stays.last_mut() {
            Some(stay) if stay.path == path && now.since(stay.until) <= history.patience => {
                stay.until = now;
            }
            _ => history.stays.push(Stay { since: now, until: now, path }),
        }
    }
}

//! The TCP connections of a drill: set up on the lab's hosts, read window by window.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::config::HostRef;
use crate::config::drill::{Drill, Traffic, TrafficKind};
use crate::drill::paths::Paths;
use crate::drill::report::{LatencyFigures, TcpReport, Timeline};
use crate::lab::Lab;
use crate::model::Instant;
use crate::traffic::{Direction, End, Latency, TcpFlow, TcpMeter, TcpSpread, TcpWindow};

/// All TCP flows of a drill. Their identifiers follow those of the probes.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    flows: Vec<Connection>,
}

/// What is said of a flow whatever happens.
#[derive(Clone, Debug)]
struct Connection {
    /// Index of the traffic entry in the drill.
    traffic: usize,
    flow: TcpFlow,
}

impl Connections {
    /// They begin when [`Connections::start`] says.
    pub fn new(lab: &Lab, drill: &Drill, first_id: u32) -> Self {
        let mut flows = Vec::new();
        for (traffic, entry) in drill.traffic.iter().enumerate() {
            let TrafficKind::Tcp { rate } = entry.kind else { continue };
            let spread = TcpSpread {
                name: entry.name.clone(),
                direction: direction(entry),
                from: End { host: entry.from.to_string(), address: entry.from_address },
                to: End { host: entry.to.to_string(), address: entry.to_address },
                flows: entry.flows,
                rate,
                start: lab.now(),
                stop: Instant::NEVER,
                first_id: first_id + flows.len() as u32,
            };
            let spread = spread.flows().into_iter();
            flows.extend(spread.map(|flow| Connection { traffic, flow }));
        }
        Self { flows }
    }

    /// How many there are; each is a flow and its acknowledgements.
    pub fn count(&self) -> usize {
        self.flows.len()
    }

    pub fn start(&mut self, lab: &mut Lab) {
        let lead = lab.now().since(Instant::ZERO);
        for Connection { flow, .. } in &mut self.flows {
            flow.start += lead;
        }
        lab.start_tcp(self.flows.iter().map(|connection| connection.flow.clone()).collect());
    }

    pub fn stop(&mut self, lab: &mut Lab, at: Instant) {
        for Connection { flow, .. } in &mut self.flows {
            flow.stop = at;
        }
        lab.stop_tcp(at);
    }

    /// What became of each flow of an entry in a span of time.
    pub fn windows(
        &self,
        lab: &Lab,
        of: usize,
        (from, to): (Instant, Instant),
    ) -> impl Iterator<Item = TcpWindow> {
        let flows = self.flows.iter().filter(move |connection| connection.traffic == of);
        flows.filter_map(move |connection| Some(connection.meter(lab)?.window(from, to)))
    }

    /// Payload that arrived of an entry's flows, in spans one after another from `begin` on.
    pub fn delivered(
        &self,
        lab: &Lab,
        of: usize,
        begin: Instant,
        span: Duration,
        spans: usize,
    ) -> Vec<u64> {
        self.in_bins(lab, of, spans, |meter, spans| meter.delivered_in_bins(begin, span, spans))
    }

    /// Each connection's name, and its data and acknowledgements as [`Paths`] knows them.
    pub fn conversations(&self, of: usize) -> impl Iterator<Item = (String, usize, usize)> {
        let flows = self.flows.iter().filter(move |connection| connection.traffic == of);
        flows.map(|Connection { flow, .. }| {
            let data = flow.id as usize;
            (format!("{} {}", flow.name, flow.index), data, data + self.count())
        })
    }

    /// Flows of an entry as [`Paths`] knows them: their data.
    pub fn of(&self, traffic: usize) -> impl Iterator<Item = usize> {
        let flows = self.flows.iter().filter(move |connection| connection.traffic == traffic);
        flows.map(|connection| connection.flow.id as usize)
    }

    /// A row for each entry.
    pub fn report(&self, lab: &Lab, paths: &Paths, span: (Instant, Instant)) -> Vec<TcpReport> {
        self.entries().map(|(of, flow)| self.entry_report(lab, paths, of, flow, span)).collect()
    }

    fn entry_report(
        &self,
        lab: &Lab,
        paths: &Paths,
        of: usize,
        first: &TcpFlow,
        (from, to): (Instant, Instant),
    ) -> TcpReport {
        let mut report = TcpReport {
            name: first.name.clone(),
            direction: first.direction.name().to_owned(),
            flows: 0,
            goodput_bps: 0,
            per_second_bps: Vec::new(),
            segments: 0,
            retransmitted: 0,
            timeouts: 0,
            longest_stall_ms: Duration::ZERO.into(),
            resets: 0,
            rtt_us: LatencyFigures::default(),
            paths: BTreeMap::new(),
        };
        let mut rtt = Latency::new();
        for window in self.windows(lab, of, (from, to)) {
            report.flows += 1;
            report.goodput_bps += window.goodput_bps;
            report.per_second_bps.resize(window.per_second_bps.len(), 0);
            for (sum, bps) in report.per_second_bps.iter_mut().zip(window.per_second_bps) {
                *sum += bps;
            }
            report.segments += window.segments;
            report.retransmitted += window.retransmitted;
            report.timeouts += window.timeouts;
            report.longest_stall_ms = report.longest_stall_ms.max(window.longest_stall.into());
            report.resets += window.resets;
            rtt.add(&window.rtt);
        }
        report.rtt_us = LatencyFigures {
            p50: rtt.p50_us().unwrap_or(0),
            p99: rtt.p99_us().unwrap_or(0),
            max: rtt.max_us().unwrap_or(0),
        };
        for path in self.of(of).filter_map(|flow| paths.at(flow, to)) {
            *report.paths.entry(paths.name(path).to_owned()).or_default() += 1;
        }
        report
    }

    /// Each entry over time.
    pub fn timelines(
        &self,
        lab: &Lab,
        paths: &Paths,
        begin: Instant,
        width: Duration,
        bins: usize,
    ) -> Vec<Timeline> {
        let timeline = |(of, first): (usize, &TcpFlow)| {
            let delivered = self.delivered(lab, of, begin, width, bins);
            let per_second = |bytes: u64| {
                let bits = u128::from(bytes) * 8 * 1_000_000_000 / width.as_nanos().max(1);
                u64::try_from(bits).unwrap_or(u64::MAX)
            };
            let edges = (1..=bins).map(|bin| begin + width * bin as u32);
            Timeline {
                name: first.name.clone(),
                kind: "tcp".to_owned(),
                direction: first.direction.name().to_owned(),
                delivered_bps: delivered.into_iter().map(per_second).collect(),
                lost: self.in_bins(lab, of, bins, |meter, bins| {
                    meter.retransmitted_in_bins(begin, width, bins)
                }),
                paths: paths.over_time(self.of(of), edges),
            }
        };
        self.entries().map(timeline).collect()
    }

    /// Traffic entries, each with its first flow.
    fn entries(&self) -> impl Iterator<Item = (usize, &TcpFlow)> {
        let firsts = self.flows.iter().filter(|connection| connection.flow.index == 0);
        firsts.map(|connection| (connection.traffic, &connection.flow))
    }

    fn in_bins(
        &self,
        lab: &Lab,
        of: usize,
        bins: usize,
        figures: impl Fn(TcpMeter<'_>, u32) -> Vec<u64>,
    ) -> Vec<u64> {
        let mut sums = vec![0; bins];
        for connection in self.flows.iter().filter(|connection| connection.traffic == of) {
            let Some(meter) = connection.meter(lab) else { continue };
            let bins = u32::try_from(bins).unwrap_or(u32::MAX);
            sums.iter_mut().zip(figures(meter, bins)).for_each(|(sum, figure)| *sum += figure);
        }
        sums
    }
}

impl Connection {
    /// None before the flow was added to its hosts.
    fn meter<'a>(&self, lab: &'a Lab) -> Option<TcpMeter<'a>> {
        let (sent, received) = lab.tcp_records(&self.flow)?;
        Some(TcpMeter::new(sent, received, lab.now()))
    }
}

/// Names of the hosts that TCP flows of a drill begin or end at.
pub fn hosts(drill: &Drill) -> BTreeSet<String> {
    let entries = drill.traffic.iter();
    let tcp = entries.filter(|entry| matches!(entry.kind, TrafficKind::Tcp { .. }));
    tcp.flat_map(|entry| [entry.from.to_string(), entry.to.to_string()]).collect()
}

/// The way the data of an entry goes.
const fn direction(entry: &Traffic) -> Direction {
    if matches!(entry.from, HostRef::Site { .. }) {
        Direction::ToAzure
    } else {
        Direction::ToOnprem
    }
}

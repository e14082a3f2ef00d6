//! The probe flows of a drill: set up on the lab's hosts, read window by window.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::HostRef;
use crate::config::drill::{self, Drill, TrafficKind};
use crate::lab::Lab;
use crate::model::Instant;
use crate::traffic::{Direction, End, Flow, Meter, Spread, Window};

/// What is said of a flow whatever happens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlowInfo {
    /// Index of the traffic entry in the drill.
    pub traffic: usize,
    pub direction: Direction,
    pub flow: Flow,
    from: HostRef,
    to: HostRef,
}

/// What became of one flow's packets that were sent during one step.
#[derive(Clone, Debug)]
pub struct FlowWindow {
    /// `erp 17 to-azure`.
    pub label: String,
    pub figures: Window,
    /// When the first packet of the window was sent, and when the first after it.
    pub sent_in: (Instant, Instant),
}

/// Packets sent in a span of time, and how many of those arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bin {
    pub sent: u64,
    pub received: u64,
}

/// All flows of a drill, by id.
#[derive(Debug)]
pub struct Probes {
    flows: Vec<FlowInfo>,
}

impl Probes {
    /// One flow a traffic entry, direction and number. They begin when [`Probes::start`] says.
    pub fn new(lab: &Lab, drill: &Drill) -> Self {
        let mut flows: Vec<FlowInfo> = Vec::new();
        for (traffic, entry) in drill.traffic.iter().enumerate() {
            let forth: Vec<Flow> = spread(entry, flows.len() as u32, lab.now());
            for direction in entry.directions.each() {
                for flow in &forth {
                    let id = flows.len() as u32;
                    flows.push(FlowInfo::new(traffic, entry, flow, direction, id));
                }
            }
        }
        Self { flows }
    }

    pub fn flows(&self) -> &[FlowInfo] {
        &self.flows
    }

    /// Every flow begins within its own gap from this moment.
    pub fn start(&mut self, lab: &mut Lab) {
        let lead = lab.now().since(Instant::ZERO);
        for info in &mut self.flows {
            info.flow.start += lead;
            for host in [&info.from, &info.to] {
                let taken = lab.with_host(host, |host| host.add_flow(&info.flow));
                taken.expect("a checked drill's flows fit its hosts");
            }
        }
    }

    pub fn stop(&mut self, lab: &mut Lab, at: Instant) {
        for info in &mut self.flows {
            info.flow.stop = at;
            lab.with_host(&info.from, |host| host.stop_flows(at));
        }
    }

    /// Figures of the packets of a step from `from` until `to`, by flow id. What was under way
    /// when the step began is the step's, since its event decided what became of it; with `after`
    /// they are of what was sent from so long after the beginning on.
    pub fn windows(
        &self,
        lab: &mut Lab,
        (from, to): (Instant, Instant),
        after: Duration,
    ) -> Vec<FlowWindow> {
        let end = lab.now();
        let window = |info: &FlowInfo| {
            let id = info.flow.id;
            let sent = lab.with_host(&info.from, |host| host.sent(id)).unwrap_or(0);
            let figures = lab.with_host(&info.to, |host| {
                let arrivals = host.arrivals(id).expect("the flow was added to its sink");
                let meter = Meter::new(&info.flow, sent, arrivals, end);
                let begin =
                    if after.is_zero() { from - transit(&meter, from) } else { from + after };
                let end = to - transit(&meter, to);
                ((begin.min(end), end), meter.window(begin.min(end), end))
            });
            let (sent_in, figures) = figures;
            let label = format!("{} {} {}", info.flow.name, info.flow.index, info.direction.name());
            FlowWindow { label, figures, sent_in }
        };
        self.flows.iter().map(window).collect()
    }
}

/// How long a packet was under way at most, of those sent in the last second before a moment.
fn transit(meter: &Meter<'_>, at: Instant) -> Duration {
    let recent = meter.window(at - Duration::from_secs(1), at);
    recent.latency.max_us().map_or(Duration::ZERO, |micros| Duration::from_micros(micros + 1))
}

impl FlowInfo {
    fn new(
        traffic: usize,
        entry: &drill::Traffic,
        to_azure: &Flow,
        direction: drill::Direction,
        id: u32,
    ) -> Self {
        let [site, vnet] = ends(entry).map(|(host, _)| host.clone());
        match direction {
            drill::Direction::ToAzure => {
                let flow = Flow { id, ..to_azure.clone() };
                Self { traffic, direction: Direction::ToAzure, flow, from: site, to: vnet }
            }
            drill::Direction::ToOnprem => {
                let flow = to_azure.reversed(id);
                Self { traffic, direction: Direction::ToOnprem, flow, from: vnet, to: site }
            }
        }
    }

    pub fn resolution(&self) -> Duration {
        self.flow.gap
    }

    pub fn goes(&self, directions: drill::Directions) -> bool {
        directions.includes(match self.direction {
            Direction::ToAzure => drill::Direction::ToAzure,
            Direction::ToOnprem => drill::Direction::ToOnprem,
        })
    }

    /// What was sent before `stop` in each of `spans` spans one after another from `begin` on, and
    /// how much of it arrived.
    pub fn bins(
        &self,
        lab: &Lab,
        (begin, stop): (Instant, Instant),
        span: Duration,
        spans: usize,
    ) -> Vec<Bin> {
        let mut bins = vec![Bin::default(); spans];
        let sent = lab.host(&self.from).sent(self.flow.id).unwrap_or(0);
        let Some(arrivals) = lab.host(&self.to).arrivals(self.flow.id) else { return bins };
        let mut next = self.flow.due_before(begin).min(sent);
        let mut end = begin;
        for bin in &mut bins {
            end += span;
            let until = self.flow.due_before(end.min(stop)).min(sent);
            bin.sent = u64::from(until - next);
            bin.received =
                (next..until).filter(|&probe| arrivals.at(probe).is_some()).count() as u64;
            next = until;
        }
        bins
    }
}

impl FlowWindow {
    /// The longest hole that began in the window; zero when nothing was lost.
    pub fn outage(&self) -> Duration {
        self.figures.outage.map_or(Duration::ZERO, |outage| outage.duration)
    }

    /// Whether what was sent at a moment fell into the longest hole.
    pub fn is_interrupted(&self, at: Instant) -> bool {
        self.figures
            .outage
            .is_some_and(|outage| at >= outage.since && at.since(outage.since) < outage.duration)
    }
}

/// The flows of an entry to Azure; those to on-premises are the same conversations reversed.
fn spread(entry: &drill::Traffic, first_id: u32, now: Instant) -> Vec<Flow> {
    let TrafficKind::Probe { packets_per_second, size } = entry.kind else { return Vec::new() };
    let [site, vnet] = ends(entry).map(|(host, address)| End { host: host.to_string(), address });
    Spread {
        name: entry.name.clone(),
        direction: Direction::ToAzure,
        from: site,
        to: vnet,
        flows: entry.flows,
        rate_pps: packets_per_second,
        size,
        start: now,
        stop: Instant::NEVER,
        first_id,
    }
    .flows()
}

/// The site's end and the VNet's.
fn ends(entry: &drill::Traffic) -> [(&HostRef, IpAddr); 2] {
    let from = (&entry.from, entry.from_address);
    let to = (&entry.to, entry.to_address);
    if matches!(entry.from, HostRef::Site { .. }) { [from, to] } else { [to, from] }
}

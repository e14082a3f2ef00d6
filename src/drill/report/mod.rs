//! What a drill tells: one value, written as `report.json`, as a page in the terminal, as
//! `report.html` and as `junit.xml`.
//!
//! The types here are the file format (`files.md`, Report). Nothing of the host is in them: no
//! clock, path or version, so that a seed gives the same bytes everywhere.

mod build;
pub mod html;
pub mod json;
pub mod junit;
mod shown;
mod summary;
mod tables;
pub mod terminal;
mod topology;
mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::config::drill;

pub use crate::drill::cause::Cause;
pub use build::{build, run_report};
pub use shown::shown;

/// A drill's report.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Report {
    pub tool: String,
    pub name: String,
    pub lab: String,
    pub seed: u64,
    /// `virtual`, `veth` or `nic`.
    pub wire: String,
    /// The worst of `verdicts`.
    pub verdict: Verdict,
    /// One for each setting of `convergence` that was run.
    pub verdicts: Vec<SettingVerdict>,
    /// What to type to see the same again.
    pub command: String,
    /// The first screen: what each step cost over all runs.
    pub summary: Vec<SummaryRow>,
    pub assumptions: Vec<Assumption>,
    pub runs: Vec<RunReport>,
    pub expectations: Vec<ExpectationReport>,
    pub edges: Vec<EdgeReport>,
    pub topology: Topology,
    /// One run of each setting in detail: the one with the longest outage.
    pub shown: Vec<Shown>,
    /// The lab file with every default and where the default is from.
    pub expanded_lab: String,
}

/// What became of the drill with VM hosts that follow so.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SettingVerdict {
    pub convergence: Convergence,
    pub verdict: Verdict,
    pub held: u64,
    pub of: u64,
}

/// How soon VM hosts follow their gateway.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Convergence {
    Ideal,
    Documented,
}

/// What one step cost one traffic entry, over all runs of every setting.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SummaryRow {
    pub step: String,
    /// For a person: `blackhole ams/primary:nni`; empty for a step that only waits.
    pub what: String,
    /// Whether the step undoes what earlier ones did.
    pub restores: bool,
    pub traffic: String,
    /// By direction, then setting.
    pub cells: Vec<SummaryCell>,
    /// Bounds of the expectations about this step and traffic, in one line each.
    pub limits: Vec<String>,
    /// Whether all expectations about this step and traffic held; none when there is none.
    pub held: Option<bool>,
    /// Of the circuit links it was on at the end of the step, the one that carried most of its
    /// bandwidth in it.
    pub peak: Option<PeakUse>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SummaryCell {
    pub direction: String,
    pub convergence: Convergence,
    /// Longest outage of any flow of a run: median and most over the runs. Of TCP: longest stall.
    pub outage_p50_ms: Millis,
    pub outage_max_ms: Millis,
    /// Packets lost, most of any run. Of TCP: segments sent again.
    pub lost: u64,
    /// Flows that lost a packet, most of any run. Of TCP: connections reset.
    pub flows_hit: u64,
    pub conversations_hit: u64,
    pub flows: u64,
    /// Flows by the link they took at the end of the step, in the run that is shown.
    pub paths: BTreeMap<String, u64>,
    /// Of TCP: payload that arrived, bits a second over the step, least of any run.
    pub goodput_bps: Option<u64>,
}

/// The busiest second of a circuit's link.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PeakUse {
    /// `ams/secondary:to-azure`.
    pub limiter: String,
    pub peak_bps: u64,
    pub rate_bps: u64,
}

/// The lab as a picture: nodes in columns from the site to Azure.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Topology {
    pub nodes: Vec<TopologyNode>,
    pub links: Vec<TopologyLink>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TopologyNode {
    /// `dc1.erp`, `core`, `ce1`, `ams/primary provider`, `ams/primary`, `hub/er`, `hub`, `hub.app`.
    pub name: String,
    /// `host`, `core`, `edge`, `provider`, `msee`, `gateway`, `vnet`.
    pub kind: String,
    /// 0 is the leftmost: site hosts.
    pub column: u8,
    /// For a person, under the name: `AS 65010`, `Equinix Amsterdam, 1000 Mbps`.
    pub detail: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TopologyLink {
    /// As places are written where the link is one: `ams/primary:nni`.
    pub name: String,
    /// Places in `nodes`.
    pub from: usize,
    pub to: usize,
    /// Steps whose event was done to this link or to a node at its end.
    pub failed_in: Vec<String>,
}

/// One run in detail.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Shown {
    pub convergence: Convergence,
    /// Counts from 1.
    pub run: u32,
    pub steps: Vec<ShownStep>,
    pub tables: Vec<Table>,
}

/// A step over time. Bins count from the step's beginning.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ShownStep {
    pub step: String,
    pub bin_ms: Millis,
    pub timelines: Vec<Timeline>,
    pub drops: Vec<DropSeries>,
    pub limiters: Vec<RateSeries>,
}

/// A traffic entry in one direction over time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Timeline {
    pub name: String,
    /// `probe` or `tcp`.
    pub kind: String,
    pub direction: String,
    /// IP bits (TCP: payload bits) a second that arrived of what was sent in the bin (TCP: that
    /// arrived in the bin).
    pub delivered_bps: Vec<u64>,
    /// Packets lost of those sent in the bin (TCP: segments sent again in it).
    pub lost: Vec<u64>,
    /// Flows on each link at the end of the bin, by the link's name; flows on no link are missing.
    pub paths: BTreeMap<String, Vec<u64>>,
}

/// Drops of one reason at one place over time, packets a bin; series of zeros are left out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DropSeries {
    pub node: String,
    pub reason: String,
    pub packets: Vec<u64>,
}

/// A circuit's limiter over time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RateSeries {
    /// `ams/primary:to-azure`.
    pub name: String,
    pub rate_bps: u64,
    /// IP bits a second that passed.
    pub passed_bps: Vec<u64>,
    pub dropped: Vec<u64>,
}

/// A table of a router at several moments, in Azure's columns.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Table {
    /// `ams/primary`.
    pub node: String,
    /// `routes`, `arp`, `bgp` or `bfd`.
    pub kind: String,
    /// `Network`, `Next hop`, `LocPrf`, `Weight`, `Path`.
    pub columns: Vec<String>,
    /// Places of columns that change by themselves, such as an age: no difference.
    pub volatile: Vec<usize>,
    /// Before the first event, and at the end of each step with an event.
    pub moments: Vec<Moment>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Moment {
    /// `before`, or the step's name.
    pub at: String,
    pub rows: Vec<Vec<String>>,
    /// Rows beyond those that are kept.
    pub more: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub enum Verdict {
    #[serde(rename = "PASS")]
    Pass,
    /// Every expectation held, on guesses that are listed.
    #[serde(rename = "PASS with assumptions")]
    PassAssuming,
    #[serde(rename = "FAIL")]
    Fail,
    /// The lab did not come up, so nothing was proved.
    #[serde(rename = "INVALID")]
    Invalid,
}

/// A guess the result rests on: a default that no document gives (section 20).
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Assumption {
    pub key: String,
    pub value: String,
    pub source: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RunReport {
    /// Counts from 1.
    pub run: u32,
    pub convergence: Convergence,
    pub seed: u64,
    /// How long after the lab had come up the first step began.
    pub phase_ms: Millis,
    pub steps: Vec<StepReport>,
    pub conservation: Conservation,
    pub host: HostReport,
    /// Sessions that were not up before the first step.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_started: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct StepReport {
    pub step: String,
    /// The event, as after `do:`.
    #[serde(rename = "do", skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    pub at_ms: Millis,
    pub for_ms: Millis,
    pub finished: bool,
    pub flows: Vec<FlowReport>,
    pub groups: Vec<GroupReport>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tcp: Vec<TcpReport>,
    pub causes: Vec<Cause>,
    /// Packets dropped during the step, by router, host or link, and reason; zeros left out.
    pub drops: BTreeMap<String, BTreeMap<String, u64>>,
    /// Limiters that charged something during the step.
    pub limiters: Vec<LimiterReport>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct FlowReport {
    pub name: String,
    pub flow: u32,
    pub direction: String,
    pub from: String,
    pub to: String,
    pub sent: u64,
    pub received: u64,
    pub lost: u64,
    pub reordered: u64,
    pub duplicated: u64,
    pub resolution_ms: Millis,
    pub outage_ms: Millis,
    pub path_before: String,
    pub path_after: String,
}

/// All flows of a traffic entry in one direction.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct GroupReport {
    pub name: String,
    pub direction: String,
    pub flows: u64,
    pub sent: u64,
    pub lost: u64,
    pub outage_ms: OutageFigures,
    pub latency_us: LatencyFigures,
    pub flows_hit: u64,
    /// Conversations of which a flow was hit, either direction.
    pub conversations_hit: u64,
    pub resolution_ms: Millis,
    /// Flows by the link they took at the end of the step.
    pub paths: BTreeMap<String, u64>,
}

/// All TCP flows of a traffic entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TcpReport {
    pub name: String,
    pub direction: String,
    pub flows: u64,
    /// Payload that arrived in order, bits a second over the step, all flows together.
    pub goodput_bps: u64,
    /// The same in each whole second of the step.
    pub per_second_bps: Vec<u64>,
    pub segments: u64,
    pub retransmitted: u64,
    pub timeouts: u64,
    /// Longest time without new data for the application, of any flow.
    pub longest_stall_ms: Millis,
    pub resets: u64,
    /// Round-trip times the senders saw: latency under load.
    pub rtt_us: LatencyFigures,
    /// Flows by the link their data took at the end of the step.
    pub paths: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct OutageFigures {
    pub p50: Millis,
    pub p99: Millis,
    pub max: Millis,
    /// Least of the flows that were hit.
    pub min_hit: Millis,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct LatencyFigures {
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LimiterReport {
    pub name: String,
    pub rate_bps: u64,
    pub passed_packets: u64,
    /// IP bytes.
    pub passed_bytes: u64,
    pub dropped_packets: u64,
    /// Bits a second that passed, over the step.
    pub passed_bps: u64,
    /// The same in the busiest second; over the step where it is shorter.
    pub peak_bps: u64,
}

/// received + originated = transmitted + consumed + queued + Σ dropped, over all routers, hosts and
/// links; each of them receives and transmits what it passes on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Conservation {
    pub held: bool,
    pub received: u64,
    pub originated: u64,
    pub transmitted: u64,
    /// Queued in a router, or on its way over a link.
    pub queued: u64,
    /// Taken by routers for themselves, and by hosts.
    pub punted: u64,
    pub dropped: BTreeMap<String, u64>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct HostReport {
    /// Longest time a worker did not run; zero in virtual time.
    pub worker_gap_ms: Millis,
    /// Longest time beyond its interval that a customer's router took for a BFD packet.
    pub peer_gap_ms: Millis,
    /// The router of `peer_gap_ms`: `ce1 (172.16.0.1)`.
    pub late_peer: Option<String>,
    /// Packets that the host lost between the lab's ports, on no link of the lab.
    pub lost: u64,
    /// It lost some, or a gap was more than a third of the shortest detection time: the run proves
    /// nothing.
    pub disturbed: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ExpectationReport {
    pub text: String,
    pub convergence: Convergence,
    /// The step it is about; empty for `always`.
    pub step: String,
    /// The traffic it is about; empty for other forms.
    pub traffic: String,
    pub held: bool,
    pub actual: String,
    pub evaluated: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct EdgeReport {
    pub name: String,
    /// What ran.
    pub kind: String,
    pub version: String,
    /// Of the configuration file of an external router.
    pub config_sha256: Option<String>,
}

/// A span of time in a report: milliseconds, to the microsecond.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Millis(u64);

impl Millis {
    pub const fn micros(self) -> u64 {
        self.0
    }
}

impl From<Duration> for Millis {
    fn from(span: Duration) -> Self {
        Self(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
    }
}

/// `900`, or `900.5`: no more digits than there are.
impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 % 1000 {
            0 => (self.0 / 1000).to_string(),
            micros => format!("{}.{micros:03}", self.0 / 1000).trim_end_matches('0').to_owned(),
        };
        f.pad(&text)
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(1000) {
            serializer.serialize_u64(self.0 / 1000)
        } else {
            serializer.serialize_f64(self.0 as f64 / 1000.0)
        }
    }
}

impl From<drill::Convergence> for Convergence {
    fn from(setting: drill::Convergence) -> Self {
        match setting {
            drill::Convergence::Ideal => Self::Ideal,
            drill::Convergence::Documented => Self::Documented,
        }
    }
}

impl RunReport {
    /// Of any flow in any step; of TCP the longest stall.
    pub fn longest_outage(&self) -> Millis {
        let probes = self.steps.iter().flat_map(|step| &step.groups);
        let tcp = self.steps.iter().flat_map(|step| &step.tcp).map(|tcp| tcp.longest_stall_ms);
        probes.map(|group| group.outage_ms.max).chain(tcp).max().unwrap_or_default()
    }
}

impl LimiterReport {
    /// Whether it is the MSEE's own of a circuit, and not the provider's or a gateway's.
    pub fn is_of_circuit(&self) -> bool {
        is_of_circuit(&self.name)
    }
}

fn is_of_circuit(limiter: &str) -> bool {
    limiter.ends_with(":to-azure") || limiter.ends_with(":to-onprem")
}

impl Verdict {
    /// The process's exit code: 0 passed, 1 an expectation failed, 2 could not run.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Pass | Self::PassAssuming => 0,
            Self::Fail => 1,
            Self::Invalid => 2,
        }
    }
}

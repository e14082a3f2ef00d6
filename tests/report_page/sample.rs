//! A report with something in every field: a lab of two circuits, a drill of four steps, three runs
//! of both settings, one expectation that failed and one that was not evaluated.

use std::collections::BTreeMap;
use std::time::Duration;

use msee::drill::report::{
    Assumption, Cause, Conservation, Convergence, DropSeries, EdgeReport, ExpectationReport,
    FlowReport, GroupReport, HostReport, LatencyFigures, LimiterReport, Millis, Moment,
    OutageFigures, PeakUse, RateSeries, Report, RunReport, SettingVerdict, Shown, ShownStep,
    StepReport, SummaryCell, SummaryRow, Table, TcpReport, Timeline, Topology, TopologyLink,
    TopologyNode, Verdict,
};
use msee::model::Instant;

const SETTINGS: [Convergence; 2] = [Convergence::Ideal, Convergence::Documented];
const WAYS: [&str; 2] = ["to-azure", "to-onprem"];
const LINKS: [&str; 4] = ["ams/primary", "ams/secondary", "lon/primary", "lon/secondary"];
const BIN_MS: u64 = 100;
const FLOWS: u64 = 64;

/// A step: its name, event, what it does, seconds, and flows by link at its end.
struct Plan {
    name: &'static str,
    event: Option<&'static str>,
    what: &'static str,
    seconds: u64,
    restores: bool,
    paths: [[u64; 4]; 2],
    /// Milliseconds of outage by direction under `ideal`, and more under `documented`.
    outage: [u64; 2],
    later: u64,
}

const PLAN: [Plan; 4] = [
    Plan {
        name: "baseline",
        event: None,
        what: "",
        seconds: 10,
        restores: false,
        paths: [[33, 31, 0, 0], [28, 36, 0, 0]],
        outage: [0, 0],
        later: 0,
    },
    Plan {
        name: "silent-loss",
        event: Some("blackhole"),
        what: "blackhole ams/primary:nni",
        seconds: 20,
        restores: false,
        paths: [[0, 64, 0, 0], [0, 64, 0, 0]],
        outage: [800, 736],
        later: 5_000,
    },
    Plan {
        name: "site-loss",
        event: Some("blackhole"),
        what: "blackhole ams/secondary:nni",
        seconds: 60,
        restores: false,
        paths: [[0, 0, 30, 34], [0, 0, 33, 31]],
        outage: [864, 912],
        later: 14_600,
    },
    Plan {
        name: "failback",
        event: Some("restore"),
        what: "restore ams/primary:nni, ams/secondary:nni",
        seconds: 30,
        restores: true,
        paths: [[33, 31, 0, 0], [28, 36, 0, 0]],
        outage: [0, 0],
        later: 0,
    },
];

pub fn report() -> Report {
    let runs: Vec<RunReport> = SETTINGS
        .iter()
        .flat_map(|&setting| (1..=3).map(move |run| run_report(setting, run)))
        .collect();
    Report {
        tool: "msee".to_owned(),
        name: "site-loss".to_owned(),
        lab: "contoso".to_owned(),
        seed: 7,
        wire: "virtual".to_owned(),
        verdict: Verdict::Fail,
        verdicts: vec![
            SettingVerdict {
                convergence: Convergence::Ideal,
                verdict: Verdict::PassAssuming,
                held: 7,
                of: 7,
            },
            SettingVerdict {
                convergence: Convergence::Documented,
                verdict: Verdict::Fail,
                held: 5,
                of: 7,
            },
        ],
        command: "msee drill fixtures/drills/site-loss.yaml --seed 7 --runs 3".to_owned(),
        summary: summary(),
        assumptions: assumptions(),
        runs,
        expectations: expectations(),
        edges: vec![
            edge("ce1", "built-in for frr", ""),
            edge("core", "built-in", ""),
            EdgeReport {
                config_sha256: Some("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822c".to_owned()),
                ..edge("ce2", "frr", "10.2.1")
            },
        ],
        topology: topology(),
        shown: SETTINGS.iter().map(|&setting| shown(setting)).collect(),
        expanded_lab: expanded_lab(),
    }
}

/// The report of a drill that passed, of one setting and one run.
pub fn passed() -> Report {
    let mut report = report();
    report.verdict = Verdict::PassAssuming;
    report.verdicts.truncate(1);
    report.runs.truncate(1);
    report.shown.truncate(1);
    report.shown[0].run = 1;
    report.expectations.retain(|one| one.convergence == Convergence::Ideal);
    for row in &mut report.summary {
        row.held = row.held.map(|_| true);
        row.cells.retain(|cell| cell.convergence == Convergence::Ideal);
    }
    report
}

/// A lab that did not come up, and whose host kept a customer's router from running.
pub fn invalid() -> Report {
    let mut report = passed();
    report.verdict = Verdict::Invalid;
    report.verdicts[0].verdict = Verdict::Invalid;
    report.runs[0].not_started =
        vec!["ce1 – ams/primary".to_owned(), "ce2 – lon/primary".to_owned()];
    let host = &mut report.runs[0].host;
    host.peer_gap_ms = millis(640);
    host.late_peer = Some("ce1 (172.16.0.1)".to_owned());
    host.disturbed = true;
    report
}

/// As large as a drill is allowed to be: 20 runs of both settings, 64 flows each way, timelines of
/// an hour, tables of a thousand routes.
pub fn large() -> Report {
    let mut report = report();
    report.runs = SETTINGS
        .iter()
        .flat_map(|&setting| (1..=20).map(move |run| run_report(setting, run)))
        .collect();
    for shown in &mut report.shown {
        for step in &mut shown.steps {
            for line in &mut step.timelines {
                line.delivered_bps = (0..36_000).map(|bin| bin * 7919 % 1_000_003).collect();
                line.lost = (0..36_000).map(|bin| bin * 31 % 5).collect();
                for flows in line.paths.values_mut() {
                    *flows = (0..36_000).map(|bin| bin * 17 % 16).collect();
                }
            }
        }
        for table in &mut shown.tables {
            for moment in &mut table.moments {
                let row = |i: usize| {
                    vec![format!("10.{}.{}.0/24", i / 256, i % 256); table.columns.len()]
                };
                moment.rows.extend((0..1000).map(row));
            }
        }
    }
    report
}

fn millis(ms: u64) -> Millis {
    Duration::from_millis(ms).into()
}

fn micros(us: u64) -> Millis {
    Duration::from_micros(us).into()
}

/// Of the run whose number is given; runs differ a little.
fn outage(plan: &Plan, way: usize, setting: Convergence, run: u64) -> u64 {
    let base = plan.outage[way];
    if base == 0 {
        return 0;
    }
    let later = match (setting, way) {
        (Convergence::Documented, 1) => plan.later,
        _ => 0,
    };
    base + later - 32 * (3 - run.min(3))
}

fn paths(flows: [u64; 4]) -> BTreeMap<String, u64> {
    LINKS.iter().zip(flows).filter(|(_, n)| *n > 0).map(|(l, n)| ((*l).to_owned(), n)).collect()
}

fn hit(plan: &Plan, way: usize) -> u64 {
    match plan.outage[way] {
        0 => 0,
        864 | 912 => FLOWS,
        800 => 33,
        _ => 28,
    }
}

/// A packet of each flow every 32 ms.
fn lost(plan: &Plan, way: usize, setting: Convergence, run: u64) -> u64 {
    hit(plan, way) * outage(plan, way, setting, run) / 32
}

fn summary() -> Vec<SummaryRow> {
    let row = |plan: &Plan, tcp: bool| {
        let ways: &[usize] = if tcp { &[1] } else { &[0, 1] };
        let cell = |way: usize, setting| SummaryCell {
            direction: WAYS[way].to_owned(),
            convergence: setting,
            outage_p50_ms: millis(outage(plan, way, setting, 2)),
            outage_max_ms: millis(outage(plan, way, setting, 3)),
            lost: lost(plan, way, setting, 3),
            flows_hit: if tcp { hit(plan, way).min(2) } else { hit(plan, way) },
            conversations_hit: match plan.outage[way] {
                0 => 0,
                _ if tcp => 2,
                864 | 912 => FLOWS,
                _ => 48,
            },
            flows: if tcp { 4 } else { FLOWS },
            paths: paths(if tcp { plan.paths[way].map(|n| n / 16) } else { plan.paths[way] }),
            goodput_bps: tcp.then_some(287_400_000),
        };
        let mut limits = Vec::new();
        if plan.outage[0] > 0 && !tcp {
            limits = vec![
                "outage to-azure max 960 ms".to_owned(),
                "outage to-onprem max 10 s".to_owned(),
            ];
        } else if plan.restores {
            limits = vec!["lost max 0".to_owned()];
        }
        SummaryRow {
            step: plan.name.to_owned(),
            what: plan.what.to_owned(),
            restores: plan.restores,
            traffic: if tcp { "bulk" } else { "erp" }.to_owned(),
            cells: ways
                .iter()
                .flat_map(|&way| SETTINGS.map(|setting| cell(way, setting)))
                .collect(),
            held: (!limits.is_empty()).then_some(plan.name != "site-loss"),
            limits,
            peak: (!tcp).then(|| PeakUse {
                limiter: if plan.name == "site-loss" {
                    "lon/primary:to-onprem".to_owned()
                } else {
                    "ams/secondary:to-onprem".to_owned()
                },
                peak_bps: if plan.name == "site-loss" { 499_800_000 } else { 312_640_000 },
                rate_bps: if plan.name == "site-loss" { 500_000_000 } else { 1_000_000_000 },
            }),
        }
    };
    PLAN.iter().flat_map(|plan| [row(plan, false), row(plan, true)]).collect()
}

fn assumptions() -> Vec<Assumption> {
    [
        (
            "hub.convergence",
            "withdrawals p50 3000 ms, max 60000 ms; announcements p50 3000 ms, max 60000 ms",
            "section 20: how soon VM hosts follow",
        ),
        (
            "ams.limiter.burst",
            "5 ms to Azure, 5 ms to on-premises",
            "section 20: Azure's burst is unknown",
        ),
        ("ams.bfd.multiplier", "3", "section 20: the MSEE's own is not documented"),
        ("delay MSEE–region", "0.5 ms one way", "a guess: no document gives it"),
        (
            "linger",
            "1000 ms",
            "a guess: how long a route lost in order and without replacement is used",
        ),
        (
            "gateway share",
            "equal",
            "section 20: a gateway SKU's bandwidth is split over its instances, inbound",
        ),
        ("hash", "asymmetric", "section 20: a seed per router"),
    ]
    .map(|(key, value, source)| Assumption {
        key: key.to_owned(),
        value: value.to_owned(),
        source: source.to_owned(),
    })
    .into()
}

fn edge(name: &str, kind: &str, version: &str) -> EdgeReport {
    EdgeReport {
        name: name.to_owned(),
        kind: kind.to_owned(),
        version: version.to_owned(),
        config_sha256: None,
    }
}

fn run_report(convergence: Convergence, run: u32) -> RunReport {
    let mut at = 0;
    let steps = PLAN
        .iter()
        .map(|plan| {
            let step = step_report(plan, at, convergence, run);
            at += plan.seconds * 1000;
            step
        })
        .collect();
    let dropped = [("link-down", 1518 + u64::from(run)), ("no-route", 3626)];
    RunReport {
        run,
        convergence,
        seed: 7 + u64::from(run) * 1_000_003,
        phase_ms: millis(5000 + 37 * u64::from(run)),
        steps,
        conservation: Conservation {
            held: true,
            received: 1_776_190 + u64::from(run),
            originated: 162_849,
            transmitted: 1_776_190,
            queued: 12,
            punted: 161_330,
            dropped: dropped.map(|(reason, n)| (reason.to_owned(), n)).into(),
        },
        host: HostReport {
            worker_gap_ms: Millis::default(),
            peer_gap_ms: Millis::default(),
            late_peer: None,
            lost: 0,
            disturbed: false,
        },
        not_started: Vec::new(),
    }
}

fn step_report(plan: &Plan, at: u64, setting: Convergence, run: u32) -> StepReport {
    let run = u64::from(run);
    let group = |way: usize| GroupReport {
        name: "erp".to_owned(),
        direction: WAYS[way].to_owned(),
        flows: FLOWS,
        sent: plan.seconds * 2000,
        lost: lost(plan, way, setting, run),
        outage_ms: OutageFigures {
            p50: millis(outage(plan, way, setting, run) / 2),
            p99: millis(outage(plan, way, setting, run)),
            max: millis(outage(plan, way, setting, run)),
            min_hit: millis(outage(plan, way, setting, run).saturating_sub(32)),
        },
        latency_us: LatencyFigures { p50: 1650, p99: 2417, max: 17_240 },
        flows_hit: hit(plan, way),
        conversations_hit: if plan.outage[0] > 0 { 48 } else { 0 },
        resolution_ms: millis(32),
        paths: paths(plan.paths[way]),
    };
    let flow = |way: usize, flow: u32| FlowReport {
        name: "erp".to_owned(),
        flow,
        direction: WAYS[way].to_owned(),
        from: "dc1.erp".to_owned(),
        to: "hub.app".to_owned(),
        sent: plan.seconds * 31,
        received: plan.seconds * 31,
        lost: u64::from(u64::from(flow) < hit(plan, way)),
        reordered: 0,
        duplicated: 0,
        resolution_ms: millis(32),
        outage_ms: millis(outage(plan, way, setting, run)),
        path_before: LINKS[0].to_owned(),
        path_after: LINKS[1].to_owned(),
    };
    let stall = outage(plan, 1, setting, run);
    StepReport {
        step: plan.name.to_owned(),
        event: plan.event.map(str::to_owned),
        at_ms: millis(at),
        for_ms: millis(plan.seconds * 1000),
        finished: true,
        flows: (0..2).flat_map(|way| (0..FLOWS as u32).map(move |n| flow(way, n))).collect(),
        groups: vec![group(0), group(1)],
        tcp: vec![TcpReport {
            name: "bulk".to_owned(),
            direction: "to-onprem".to_owned(),
            flows: 4,
            goodput_bps: 287_400_000 - stall * 1000,
            per_second_bps: vec![287_400_000; plan.seconds as usize],
            segments: 492_118,
            retransmitted: stall / 3,
            timeouts: u64::from(stall > 0) * 4,
            longest_stall_ms: millis(stall * 2),
            resets: 0,
            rtt_us: LatencyFigures { p50: 3312, p99: 9871, max: 204_800 },
            paths: paths(plan.paths[1].map(|n| n / 16)),
        }],
        causes: causes(plan, setting),
        drops: if plan.outage[0] > 0 {
            BTreeMap::from([(
                "ams/primary".to_owned(),
                BTreeMap::from([("no-route".to_owned(), 1 + run)]),
            )])
        } else {
            BTreeMap::new()
        },
        limiters: vec![LimiterReport {
            name: "ams/primary:to-onprem".to_owned(),
            rate_bps: 1_000_000_000,
            passed_packets: 620,
            passed_bytes: 317_440,
            dropped_packets: 0,
            passed_bps: 126_976,
            peak_bps: 8_192_000,
        }],
    }
}

fn causes(plan: &Plan, setting: Convergence) -> Vec<Cause> {
    let Some(_) = plan.event else { return Vec::new() };
    let vm = match (setting, plan.later) {
        (Convergence::Documented, later @ 1..) => 709_000 + later * 1000,
        _ => 710_104,
    };
    let fault = format!("{}: {}", plan.name, plan.what);
    let rows: Vec<(u64, &str, &str, &str)> = if plan.restores {
        vec![
            (0, "drill", "fault", &fault),
            (188_211, "ce1", "bfd-up", "ams/primary 172.16.0.2"),
            (189_002, "ams/primary", "bfd-up", "ams/AzurePrivatePeering 172.16.0.1"),
            (404_410, "ams/primary", "bgp-up", "ams/AzurePrivatePeering ce1 (172.16.0.1)"),
            (404_410, "ams/primary", "routes-announced", "ams/AzurePrivatePeering: 1 to ce1"),
            (405_412, "ce1", "fib-updated", "main: 1 set, 0 removed"),
            (407_000, "ams/primary", "first-packet", "flow erp 11 to-azure takes ams/primary"),
            (407_310, "drill", "settled", "nothing changed after this"),
        ]
    } else {
        vec![
            (0, "drill", "fault", &fault),
            (
                708_892,
                "ams/primary",
                "bfd-down",
                "ams/AzurePrivatePeering 172.16.0.1: control detection time expired",
            ),
            (
                708_892,
                "ams/primary",
                "group-rewritten",
                "ams/AzurePrivatePeering: 1 group(s) leave 172.16.0.1 on ams/primary",
            ),
            (
                708_892,
                "ams/primary",
                "bgp-down",
                "ams/AzurePrivatePeering ce1 (172.16.0.1): sent 6/10 BFD Down",
            ),
            (708_892, "ams/primary", "fib-updated", "ams/AzurePrivatePeering: 0 set, 1 removed"),
            (708_992, "ams/primary", "routes-withdrawn", "ams/AzurePrivatePeering: 1 to hub/er#0"),
            (708_992, "ams/primary", "routes-withdrawn", "ams/AzurePrivatePeering: 1 to hub/er#1"),
            (709_402, "hub/er#0", "fib-updated", "main: 1 set, 0 removed"),
            (711_200, "ams/secondary", "first-packet", "flow erp 45 to-onprem takes ams/secondary"),
            (774_602, "ce1", "bfd-down", "ams/primary 172.16.0.2: control detection time expired"),
            (774_602, "ce1", "group-rewritten", "main: 1 group(s) leave 172.16.0.2 on ams/primary"),
            (vm.max(774_602), "hub", "fib-updated", "main: 1 set, 0 removed"),
            (vm.max(774_602), "drill", "settled", "nothing changed after this"),
        ]
    };
    rows.into_iter()
        .map(|(us, node, kind, detail)| Cause {
            at: Instant::ZERO,
            at_ms: micros(us),
            node: node.to_owned(),
            kind: kind.to_owned(),
            detail: detail.to_owned(),
        })
        .collect()
}

fn expectations() -> Vec<ExpectationReport> {
    let rows = [
        (
            "path of erp, through [ams/primary, ams/secondary], during baseline",
            "baseline",
            "erp",
            true,
            true,
            "flows at the end of the step: 61 on ams/primary, 67 on ams/secondary",
        ),
        (
            "outage of erp, direction to-azure, max 960ms, during silent-loss",
            "silent-loss",
            "erp",
            true,
            true,
            "max 800 ms, p99 800 ms, p50 768 ms over 64 flows, 33 of them hit",
        ),
        (
            "flows-hit of erp, between [25%, 75%], during silent-loss",
            "silent-loss",
            "erp",
            true,
            true,
            "61 of 128 flows hit",
        ),
        (
            "outage of erp, direction to-onprem, max 10s, during site-loss",
            "site-loss",
            "erp",
            true,
            false,
            "max 15512 ms, p99 15512 ms, p50 15480 ms over 64 flows, 64 of them hit",
        ),
        (
            "cause-order is [fault, bfd-down, group-rewritten, bgp-down], during site-loss",
            "site-loss",
            "",
            true,
            true,
            "fault +0 ms, bfd-down +708.892 ms, group-rewritten +708.892 ms, bgp-down +708.892 ms",
        ),
        (
            "lost of erp, max 0, during failback",
            "failback",
            "erp",
            true,
            true,
            "0 of 120000 packets lost",
        ),
        (
            "throughput of bulk, min 250Mbps, per 10s, during failback",
            "failback",
            "bulk",
            true,
            false,
            "no packet was sent",
        ),
    ];
    SETTINGS
        .iter()
        .flat_map(|&convergence| {
            rows.map(|(text, step, traffic, ideal, documented, actual)| ExpectationReport {
                text: text.to_owned(),
                convergence,
                step: step.to_owned(),
                traffic: traffic.to_owned(),
                held: if convergence == Convergence::Ideal { ideal } else { documented },
                actual: actual.to_owned(),
                evaluated: documented || traffic != "bulk" || convergence == Convergence::Ideal,
            })
        })
        .collect()
}

fn topology() -> Topology {
    let nodes = [
        ("dc1.erp", "host", 0, "192.168.0.0/22"),
        ("core", "core", 1, "AS 65010"),
        ("ce1", "edge", 2, "AS 65010, frr"),
        ("ce2", "edge", 2, "AS 65010"),
        ("ams/primary provider", "provider", 3, "Equinix Amsterdam, 1000 Mbps"),
        ("ams/secondary provider", "provider", 3, "Equinix Amsterdam, 1000 Mbps"),
        ("lon/primary provider", "provider", 3, "Colt London, 500 Mbps"),
        ("lon/secondary provider", "provider", 3, "Colt London, 500 Mbps"),
        ("ams/primary", "msee", 4, "AS 12076"),
        ("ams/secondary", "msee", 4, "AS 12076"),
        ("lon/primary", "msee", 4, "AS 12076"),
        ("lon/secondary", "msee", 4, "AS 12076"),
        ("hub/er", "gateway", 5, "ErGw2AZ, 2 instances"),
        ("hub", "vnet", 6, "10.1.0.0/16"),
        ("hub.app", "host", 7, "10.1.0.4"),
    ];
    let mut links =
        vec![link("dc1:erp", 0, 1, &[]), link("core-ce1", 1, 2, &[]), link("core-ce2", 1, 3, &[])];
    for (i, name) in LINKS.iter().enumerate() {
        let failed: &[&str] = match i {
            0 => &["silent-loss"],
            1 => &["site-loss"],
            _ => &[],
        };
        links.push(link(&format!("{name}:access"), 2 + i / 2, 4 + i, &[]));
        links.push(link(&format!("{name}:nni"), 4 + i, 8 + i, failed));
        links.push(link(&format!("{name}:core"), 8 + i, 12, &[]));
    }
    links.push(link("hub/er", 12, 13, &[]));
    links.push(link("hub.app", 13, 14, &[]));
    Topology {
        nodes: nodes
            .map(|(name, kind, column, detail)| TopologyNode {
                name: name.to_owned(),
                kind: kind.to_owned(),
                column,
                detail: detail.to_owned(),
            })
            .into(),
        links,
    }
}

fn link(name: &str, from: usize, to: usize, failed_in: &[&str]) -> TopologyLink {
    let failed_in = failed_in.iter().map(|step| (*step).to_owned()).collect();
    TopologyLink { name: name.to_owned(), from, to, failed_in }
}

fn shown(convergence: Convergence) -> Shown {
    Shown {
        convergence,
        run: 3,
        steps: (0..PLAN.len()).map(|i| shown_step(i, convergence)).collect(),
        tables: tables(),
    }
}

fn shown_step(i: usize, setting: Convergence) -> ShownStep {
    let plan = &PLAN[i];
    let before = if i == 0 { plan.paths } else { PLAN[i - 1].paths };
    let bins = (plan.seconds * 1000 / BIN_MS) as usize;
    let timeline = |way: usize, tcp: bool| {
        let out = (outage(plan, way, setting, 3) / BIN_MS) as usize;
        let moved = if plan.restores { 4 } else { out };
        let rate = if tcp { 287_400_000 } else { 8_192_000 };
        let most = if tcp { 4 } else { FLOWS };
        let share = if tcp { hit(plan, way).min(2) } else { hit(plan, way) };
        let down = |bin: usize| if bin < out { share } else { 0 };
        Timeline {
            name: if tcp { "bulk" } else { "erp" }.to_owned(),
            kind: if tcp { "tcp" } else { "probe" }.to_owned(),
            direction: WAYS[way].to_owned(),
            delivered_bps: (0..bins)
                .map(|bin| {
                    let wobble = if tcp { (bin as u64 * 7919 % 23) * 400_000 } else { 0 };
                    (rate - wobble) * (most - down(bin)) / most
                })
                .collect(),
            lost: (0..bins).map(|bin| down(bin) * BIN_MS / 32).collect(),
            paths: (0..4)
                .map(|link| {
                    let scale = if tcp { 16 } else { 1 };
                    let (from, to) = (before[way][link] / scale, plan.paths[way][link] / scale);
                    let failing = plan.outage[way] > 0;
                    let at = |bin: usize| match bin < moved {
                        true if failing && to == 0 => 0,
                        true => from,
                        false => to,
                    };
                    (LINKS[link].to_owned(), (0..bins).map(at).collect())
                })
                .filter(|(_, flows): &(String, Vec<u64>)| flows.iter().any(|n| *n > 0))
                .collect(),
        }
    };
    let out = (outage(plan, 1, setting, 3) / BIN_MS) as usize;
    let series = |n: u64| (0..bins).map(|bin| if bin < out { n } else { 0 }).collect();
    let drops = if plan.outage[0] == 0 {
        Vec::new()
    } else {
        vec![
            DropSeries {
                node: "ams/primary:nni".to_owned(),
                reason: "link-down".to_owned(),
                packets: series(97),
            },
            DropSeries {
                node: "ams/primary".to_owned(),
                reason: "no-route".to_owned(),
                packets: series(1),
            },
        ]
    };
    let rate = |name: &str, rate_bps: u64, most: u64| RateSeries {
        name: name.to_owned(),
        rate_bps,
        passed_bps: (0..bins).map(|bin| most - (bin as u64 * 31 % 17) * most / 100).collect(),
        dropped: (0..bins).map(|bin| u64::from(most == rate_bps) * (bin as u64 % 3)).collect(),
    };
    ShownStep {
        step: plan.name.to_owned(),
        bin_ms: millis(BIN_MS),
        timelines: vec![timeline(0, false), timeline(1, false), timeline(1, true)],
        drops,
        limiters: if plan.name == "site-loss" {
            vec![
                rate("lon/primary:to-onprem", 500_000_000, 500_000_000),
                rate("lon/secondary:to-onprem", 500_000_000, 181_000_000),
            ]
        } else {
            vec![rate("ams/secondary:to-onprem", 1_000_000_000, 312_640_000)]
        },
    }
}

fn tables() -> Vec<Table> {
    let rows = |rows: &[&[&str]]| -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect()
    };
    let moments = |all: [&[&[&str]]; 4], more: u64| -> Vec<Moment> {
        let names = ["before", "silent-loss", "site-loss", "failback"];
        let moment =
            |(at, table): (&str, &[&[&str]])| Moment { at: at.to_owned(), rows: rows(table), more };
        names.into_iter().zip(all).map(moment).collect()
    };
    let table = |node: &str, kind: &str, columns: &[&str], moments: Vec<Moment>| Table {
        node: node.to_owned(),
        kind: kind.to_owned(),
        columns: columns.iter().map(|name| (*name).to_owned()).collect(),
        volatile: columns.iter().position(|name| *name == "Age").into_iter().collect(),
        moments,
    };
    let vnet: &[&str] = &["10.1.0.0/16", "10.1.0.12", "0", "32768", "65515"];
    let other: &[&str] = &["10.1.0.0/16", "10.1.0.13", "0", "32768", "65515"];
    let erp: &[&str] = &["192.168.0.0/22", "172.16.0.1", "100", "0", "65010"];
    let routes = ["Network", "Next hop", "LocPrf", "Weight", "Path"];
    let arp = ["Age", "Interface", "IP address", "MAC address"];
    let ours: &[&str] = &["0", "On-Prem", "172.16.0.1", "02:00:00:00:00:01"];
    let older: &[&str] = &["3", "On-Prem", "172.16.0.1", "02:00:00:00:00:01"];
    let theirs: &[&str] = &["0", "Microsoft", "172.16.0.2", "02:00:00:00:00:02"];
    let summary = ["Neighbor", "V", "AS", "Up/Down", "State/PfxRcd"];
    let up: &[&str] = &["172.16.0.1", "4", "65010", "up", "1"];
    let idle: &[&str] = &["172.16.0.1", "4", "65010", "down", "Idle"];
    let bfd = ["Neighbor", "Interval", "Multiplier", "State"];
    let bfd_up: &[&str] = &["172.16.0.1", "300 ms", "3", "Up"];
    let bfd_down: &[&str] = &["172.16.0.1", "300 ms", "3", "Down"];
    vec![
        table(
            "ams/primary",
            "routes",
            &routes,
            moments([&[vnet, other, erp], &[vnet, other], &[vnet, other], &[vnet, other, erp]], 0),
        ),
        table(
            "ams/primary",
            "arp",
            &arp,
            moments([&[ours, theirs], &[older, theirs], &[older, theirs], &[older, theirs]], 0),
        ),
        table("ams/primary", "bgp", &summary, moments([&[up], &[idle], &[idle], &[up]], 0)),
        table(
            "ams/primary",
            "bfd",
            &bfd,
            moments([&[bfd_up], &[bfd_down], &[bfd_down], &[bfd_up]], 0),
        ),
        table("lon/primary", "routes", &routes, moments([&[vnet, erp]; 4], 312)),
        table("lon/primary", "bgp", &summary, moments([&[up]; 4], 0)),
    ]
}

fn expanded_lab() -> String {
    let mut text = String::from(
        "name: contoso\nseed: 7\nprofile: documented-2026  # default: files.md, Lab\ncircuits:\n",
    );
    for (name, rate) in [("ams", 1000), ("lon", 500)] {
        text += &format!(
            "  - name: {name}\n    serviceProviderProperties: {{ bandwidthInMbps: {rate} }}\n    \
             provider:\n      uni: dot1q  # default\n      mtu: 1500  # default\n      delay: 1ms  # default: a guess\n      \
             carrierFollows: false  # default: section 4 of the reference\n    limiter:\n      toAzure: 5ms  # default: section 20\n"
        );
    }
    text
}

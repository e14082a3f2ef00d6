//! The drills of `fixtures/drills`, run as a user runs them, and what a change board would ask of
//! them.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use msee::config;
use msee::config::drill::{Drill, TrafficKind};
use msee::config::lab::Lab;
use msee::drill::report::{Convergence, FlowReport, Report, StepReport, Verdict, json, terminal};
use msee::model::ConvergenceDelay;

fn load(name: &str) -> (Lab, Drill) {
    support::load_drill(&Path::new("fixtures/drills").join(name).with_extension("yaml"))
}

/// One run of it under each setting; CI makes all of them with the release build.
fn run(name: &str) -> Report {
    let (lab, mut drill) = load(name);
    drill.runs = 1;
    msee::drill::run(&lab, &drill, &mut |_| {})
}

fn step<'a>(report: &'a Report, name: &str) -> &'a StepReport {
    report.runs[0].steps.iter().find(|step| step.step == name).unwrap()
}

fn flows<'a>(
    step: &'a StepReport,
    direction: &'a str,
) -> impl Iterator<Item = &'a FlowReport> + 'a {
    step.flows.iter().filter(move |flow| flow.direction == direction)
}

/// What is wrong with a report of a shipped drill; nothing when all is well.
fn complaints(report: &Report) -> Vec<String> {
    let failed = report.expectations.iter().filter(|expectation| !expectation.held);
    let mut complaints: Vec<_> =
        failed.map(|failed| format!("{}: {}", failed.text, failed.actual)).collect();
    for run in &report.runs {
        complaints.extend(run.not_started.clone());
        let books = &run.conservation;
        let dropped: u64 = books.dropped.values().sum();
        let out = books.transmitted + books.punted + books.queued + dropped;
        if books.received + books.originated != out {
            complaints.push(format!("the books do not balance: {books:?}"));
        }
        if !books.held {
            complaints.push(format!("{books:?}"));
        }
        if books.dropped.contains_key("misdelivered") {
            complaints.push("content of one conversation reached another's host".to_owned());
        }
    }
    complaints
}

macro_rules! shipped {
    ($($test:ident: $name:literal,)+) => {
        $(
            #[test]
            fn $test() {
                let report = run($name);
                assert_eq!(complaints(&report), Vec::<String>::new());
                assert_eq!(report.verdict, Verdict::PassAssuming);
            }
        )+

        const SHIPPED: &[&str] = &[$($name,)+];
    };
}

shipped! {
    quickstart: "quickstart",
    cut_access: "cut-access",
    cut_nni: "cut-nni",
    blackhole_bfd_300: "blackhole-bfd-300",
    blackhole_to_azure: "blackhole-to-azure",
    blackhole_bfd_750: "blackhole-bfd-750",
    blackhole_without_bfd: "blackhole-without-bfd",
    msee_crash: "msee-crash",
    maintenance_prepend: "maintenance-prepend",
    maintenance_disconnect: "maintenance-disconnect",
    neighbor_shutdown: "neighbor-shutdown",
    neighbor_shutdown_documented: "neighbor-shutdown-documented",
    overload: "overload",
    upgrade: "upgrade",
    peering_disable: "peering-disable",
    site_loss: "site-loss",
    active_passive: "active-passive",
    dual_stack: "dual-stack",
    two_customers: "two-customers",
    both_links: "both-links",
    double_fault: "double-fault",
    data_blackhole: "data-blackhole",
    control_blackhole: "control-blackhole",
    replace_device: "replace-device",
    throttle: "throttle",
    failback_10000: "failback-10000",
    tcp_sensitivity: "tcp-sensitivity",
    control_kill: "control-kill",
    control_kill_graceful: "control-kill-graceful",
    frr: "frr",
    bird: "bird",
}

#[test]
fn every_drill_of_the_folder_is_run_and_ends_in_restore() {
    let files = fs::read_dir("fixtures/drills").unwrap().map(|entry| entry.unwrap().path());
    let names: BTreeSet<_> = files
        .map(|path: PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names, SHIPPED.iter().map(|name| (*name).to_owned()).collect());
    for name in SHIPPED {
        let (_, drill) = load(name);
        // One that breaks nothing only measures.
        let last = drill.steps.iter().filter_map(|step| step.event.as_ref()).next_back();
        let ends = last.is_none_or(|last| matches!(last.name(), "restore" | "router-restart"));
        assert!(ends, "{name} ends with {last:?}");
    }
}

/// The flows that lose packets are those that were on the dead link, and no others; the hash puts
/// 40–60 % there.
#[test]
fn the_flows_lost_are_exactly_those_on_the_failed_link() {
    for seed in 1..=3 {
        let (lab, mut drill) = load("blackhole-bfd-300");
        drill.seed = seed;
        drill.runs = 1;
        let report = msee::drill::run(&lab, &drill, &mut |_| {});
        assert_eq!(complaints(&report), Vec::<String>::new(), "seed {seed}");
        for direction in ["to-azure", "to-onprem"] {
            let loss = step(&report, "loss");
            let on_primary: BTreeSet<_> = flows(loss, direction)
                .filter(|flow| flow.path_before == "ams/primary")
                .map(|flow| flow.flow)
                .collect();
            let hit: BTreeSet<_> =
                flows(loss, direction).filter(|flow| flow.lost > 0).map(|flow| flow.flow).collect();
            assert_eq!(hit, on_primary, "{direction}, seed {seed}");
            assert!((400..=600).contains(&hit.len()), "{} of 1,000 {direction}", hit.len());
        }
    }
}

/// With independent hashes about three quarters of the conversations lose one direction or both;
/// with a symmetric one the two directions go together.
#[test]
fn a_symmetric_hash_keeps_both_directions_on_one_link() {
    for (hash, conversations) in [
        (msee::model::FlowHash::Asymmetric, 650..=850),
        (msee::model::FlowHash::Symmetric, 400..=600),
    ] {
        let (mut lab, mut drill) = load("blackhole-bfd-300");
        lab.hash = hash;
        drill.expect.clear();
        let report = msee::drill::run(&lab, &drill, &mut |_| {});
        let hit = step(&report, "loss").groups[0].conversations_hit;
        assert!(conversations.contains(&hit), "{hash:?}: {hit} conversations");
    }
}

#[test]
fn overload_delivers_the_rate_and_counts_the_rest_once() {
    let report = run("overload");
    let overload = step(&report, "overload");
    for way in ["to-azure", "to-onprem"] {
        let name = format!("ams/primary:{way}");
        let limiter = overload.limiters.iter().find(|limiter| limiter.name == name).unwrap();
        let off_ppm = limiter.passed_bps.abs_diff(50_000_000) * 1_000_000 / 50_000_000;
        assert!(off_ppm <= 1_000, "{name}: {} bit/s is {off_ppm} ppm off", limiter.passed_bps);
    }
    let dropped: u64 = overload.limiters.iter().map(|limiter| limiter.dropped_packets).sum();
    let reasons: BTreeMap<_, u64> =
        overload.drops.values().flatten().fold(BTreeMap::new(), |mut sum, (reason, packets)| {
            *sum.entry(reason.as_str()).or_default() += packets;
            sum
        });
    assert_eq!(reasons.get("rate-limited"), Some(&dropped), "{reasons:?}");
}

/// Both links together carry twice the circuit (F-70), and after the upgrade twice that.
#[test]
fn both_links_carry_twice_the_circuit_and_an_upgrade_doubles_it() {
    let report = run("upgrade");
    let passed = |name: &str, way: &str| -> u64 {
        let limiters = step(&report, name).limiters.iter();
        limiters
            .filter(|limiter| limiter.name.ends_with(way))
            .map(|limiter| limiter.passed_bps)
            .sum()
    };
    for way in ["to-azure", "to-onprem"] {
        let before = passed("before", way);
        assert!(before.abs_diff(100_000_000) < 500_000, "{way}: {before} bit/s");
        let after = passed("after", way);
        assert!(
            after.abs_diff(150_000_000) < 1_500_000,
            "{way}: {after} bit/s of 150 Mbps offered"
        );
    }
}

/// F-23: what the old rate carries loses nothing by the upgrade, before, during or after it.
#[test]
fn an_upgrade_loses_nothing_of_what_the_old_rate_carries() {
    for seed in 1..=5 {
        let (lab, mut drill) = load("upgrade");
        drill.seed = seed;
        drill.expect.clear();
        // 80 Mbps over two links of 50 Mbps; the hash puts at most 60 % on one.
        let TrafficKind::Probe { packets_per_second, size } = &mut drill.traffic[0].kind else {
            panic!("the drill sends probes");
        };
        *packets_per_second = 80_000_000 / 8 / u64::from(*size);
        let report = msee::drill::run(&lab, &drill, &mut |_| {});
        for step in &report.runs[0].steps {
            let lost: u64 = step.groups.iter().map(|group| group.lost).sum();
            let dropped: u64 = step.limiters.iter().map(|row| row.dropped_packets).sum();
            assert_eq!((lost, dropped), (0, 0), "seed {seed}, step {}", step.step);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_another_run() {
    let text = |seed| {
        let (lab, mut drill) = load("throttle");
        drill.seed = seed;
        json::write(&msee::drill::run(&lab, &drill, &mut |_| {}))
    };
    assert_eq!(text(7), text(7));
    assert_ne!(text(7), text(8));
}

/// Each run has its own seed and phase, and made alone it is what it was among the others.
#[test]
fn a_run_made_again_is_the_same_run() {
    let (lab, mut drill) = load("control-blackhole");
    drill.runs = 4;
    let all = msee::drill::run(&lab, &drill, &mut |_| {});
    assert_eq!(all.runs.iter().map(|run| run.run).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let seeds: BTreeSet<_> = all.runs.iter().map(|run| run.seed).collect();
    let phases: BTreeSet<_> = all.runs.iter().map(|run| run.phase_ms).collect();
    assert_eq!((seeds.len(), phases.len()), (4, 4));
    for run in [1, 3] {
        let again = msee::drill::replay(&lab, &drill, run, &mut |_| {});
        assert_eq!(again.runs, [all.runs[run as usize - 1].clone()]);
    }
}

/// VM hosts that follow late cost what comes from Azure, up to the documented minute, and nothing
/// else; both verdicts are told, and an expectation can be about one of them.
#[test]
fn both_settings_of_convergence_are_judged() {
    let report = run("quickstart");
    let worst = |setting, direction| {
        let runs = report.runs.iter().filter(|run| run.convergence == setting);
        let groups = runs.flat_map(|run| &run.steps[1].groups);
        let of = groups.filter(|group| group.direction == direction);
        of.map(|group| group.outage_ms.max.micros()).max().unwrap()
    };
    let (ideal, documented) = (Convergence::Ideal, Convergence::Documented);
    assert!(worst(ideal, "to-onprem") < 1_000_000);
    assert!((60_000_000..62_000_000).contains(&worst(documented, "to-onprem")));
    assert!(worst(documented, "to-azure") < 1_000_000);
    let counts: Vec<_> = report.verdicts.iter().map(|row| (row.convergence, row.of)).collect();
    assert_eq!(counts, [(ideal, 9), (documented, 9)]);
    assert_eq!(report.expectations.len(), 18);
}

/// The quick-start holds for any phase of the timers, not for the one it ships with.
#[test]
fn the_quickstart_passes_with_other_seeds() {
    let (lab, mut drill) = load("quickstart");
    (drill.seed, drill.runs) = (100, 4);
    let report = msee::drill::run(&lab, &drill, &mut |_| {});
    assert_eq!(complaints(&report), Vec::<String>::new());
}

/// An expectation that does not hold fails the drill; one that sees no packet fails as not
/// evaluated.
#[test]
fn an_expectation_can_fail() {
    let path = Path::new("fixtures/drills/quickstart.yaml");
    let text = fs::read_to_string(path).unwrap();
    let (mut lab, _) = load("quickstart");
    lab.virtual_networks[0].convergence = ConvergenceDelay::default();
    for (from, to) in [
        ("max: 960ms, in: every-run }   # L-12", "max: 500ms, in: every-run }   # L-12"),
        ("through: ams/secondary }", "through: ams/primary }"),
        ("between: [25%, 75%]", "between: [0%, 10%]"),
        ("is: [fault, bfd-down, group-rewritten, bgp-down]", "is: [bgp-down, fault]"),
        (
            "{ step: failback, do: restore, ",
            "{ step: failback, do: cut, at: \"ams/secondary:nni\", ",
        ),
    ] {
        assert!(text.contains(from), "{from}");
        let changed = text.replace(from, to).replace("min: 600ms, ", "").replace("75s", "5s");
        let mut drill = config::load_drill(path, &changed, &lab).unwrap_or_else(|e| panic!("{e}"));
        drill.runs = 1;
        let report = msee::drill::run(&lab, &drill, &mut |_| {});
        assert_eq!(report.verdict, Verdict::Fail, "{to}");
    }
}

/// The page as a person reads it; `UPDATE_FIXTURES=1` writes it anew.
#[test]
fn the_page_reads_as_it_is_written_down() {
    for name in ["quickstart", "overload", "neighbor-shutdown-documented"] {
        let page = terminal::write(&run(name), terminal::Style { colour: false });
        let path = Path::new("fixtures/reports").join(name).with_extension("txt");
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            fs::write(&path, &page).unwrap();
        }
        assert_eq!(page, fs::read_to_string(&path).unwrap(), "{name}");
        let widest = page.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= terminal::WIDTH, "{name}: {widest} columns");
        assert!(!page.contains('\x1b'));
    }
}

#[test]
fn colour_changes_nothing_but_colour() {
    let report = run("overload");
    let plain = terminal::write(&report, terminal::Style { colour: false });
    let mut coloured = terminal::write(&report, terminal::Style { colour: true });
    while let Some(start) = coloured.find('\x1b') {
        let end = start + coloured[start..].find('m').unwrap();
        coloured.replace_range(start..=end, "");
    }
    let trimmed: Vec<_> = coloured.lines().map(str::trim_end).collect();
    assert_eq!(plain.lines().collect::<Vec<_>>(), trimmed);
}

//! What a drill says and undoes in cases where an easy answer would be wrong: flows that take no
//! link, sessions of one family, routers that are down, states that were so before.

use std::fs;
use std::path::Path;

use msee::config::drill::{Event, Target};
use msee::config::{self, NodeRef, PeeringRef};
use msee::drill::report::{Report, StepReport, Verdict};
use msee::drill::{self, event};
use msee::fabric::{Direction, LinkIndex, Observer};
use msee::lab::Lab;
use msee::model::Instant;
use msee::telemetry::EventKind;

struct Nobody;

impl Observer for Nobody {
    fn frame(&mut self, _: LinkIndex, _: Direction, _: &[u8], _: Instant) {}
}

/// A shipped drill's text with other steps and expectations.
fn run(name: &str, steps: &str, expect: &str) -> Report {
    let path = Path::new("fixtures/drills").join(name).with_extension("yaml");
    let text = fs::read_to_string(&path).unwrap();
    let (head, _) = text.split_once("steps:").unwrap();
    let text = format!("{head}steps:\n{steps}expect:\n{expect}");
    let lab_path = config::drill_lab_path(&path, &text).unwrap();
    let lab = config::load_lab(&lab_path, &fs::read_to_string(&lab_path).unwrap()).unwrap();
    let drill = config::load_drill(&path, &text, &lab).unwrap_or_else(|errors| panic!("{errors}"));
    drill::run(&lab, &drill, &mut |_| {})
}

fn step<'a>(report: &'a Report, name: &str) -> &'a StepReport {
    report.runs[0].steps.iter().find(|step| step.step == name).unwrap()
}

fn held(report: &Report) -> Vec<bool> {
    report.expectations.iter().map(|expectation| expectation.held).collect()
}

fn lab_file(name: &str) -> config::lab::Lab {
    let path = Path::new("fixtures/labs").join(name).with_extension("yaml");
    config::load_lab(&path, &fs::read_to_string(&path).unwrap()).unwrap()
}

fn run_for(lab: &mut Lab, seconds: u64) {
    lab.run_until(lab.now() + std::time::Duration::from_secs(seconds), &mut Nobody);
}

fn restore(lab: &mut Lab, target: Target) {
    let event = Event::Restore { at: vec![target] };
    (event::row(&event).start)(lab, &event);
}

/// With both sessions down nothing reaches a link: no flow is on the one it was seen on last.
#[test]
fn a_flow_that_is_not_seen_is_on_no_link() {
    let report = run(
        "peering-disable",
        "  - { step: baseline, for: 5s, until: converged }
  - { step: disable, do: peering-disable, at: ams/AzurePrivatePeering, for: 10s }
  - { step: failback, do: restore, until: { stable: 5s }, within: 2m }
",
        "  - { that: path, of: erp, during: disable, through: [ams/primary, ams/secondary] }
  - { that: back-to-baseline, during: failback }
",
    );
    assert_eq!(held(&report), [false, true]);
    assert!(!report.expectations[0].evaluated, "{:?}", report.expectations[0]);
    assert!(step(&report, "disable").groups.iter().all(|group| group.paths.is_empty()));
    let failback = step(&report, "failback");
    assert!(failback.flows.iter().all(|flow| flow.path_before.is_empty()));
    let first = failback.causes.iter().find(|cause| cause.kind == "bgp-up").unwrap();
    let packet = failback.causes.iter().find(|cause| cause.kind == "first-packet").unwrap();
    assert!(packet.at_ms.micros() - first.at_ms.micros() < 10_000, "{packet:?}");
}

/// Flows leave one dead link for another before they come to a live one.
#[test]
fn the_first_packet_is_one_that_arrives_and_nothing_follows_settled() {
    for (drill, alive) in [("site-loss", "lon/"), ("active-passive", "ams/secondary")] {
        let steps = "  - { step: baseline, for: 5s, until: converged }
  - { step: loss, do: blackhole, at: [AT], direction: both, for: 5s }
  - { step: failback, do: restore, until: { stable: 5s }, within: 5m }
";
        let at = if drill == "site-loss" {
            "\"ams/primary:nni\", \"ams/secondary:nni\""
        } else {
            "\"ams/primary:nni\""
        };
        let report = run(
            drill,
            &steps.replace("AT", at),
            "  - { that: lost, of: erp, during: failback, max: 0 }\n",
        );
        let loss = step(&report, "loss");
        let packet = loss.causes.iter().find(|cause| cause.kind == "first-packet").unwrap();
        assert!(packet.detail.contains(&format!("takes {alive}")), "{packet:?}");
        for step in ["loss", "failback"].map(|name| self::step(&report, name)) {
            assert_eq!(step.causes.last().unwrap().kind, "settled", "{drill} {}", step.step);
        }
    }
}

/// `after: T` looks from T to the end of the step, whether the step has a length or an end.
#[test]
fn what_must_stay_is_looked_at_until_the_step_ends() {
    let report = run(
        "blackhole-without-bfd",
        "  - { step: baseline, for: 5s, until: converged }
  - { step: loss, do: blackhole, at: \"ams/primary:nni\", until: { session: ams/primary, state: down }, within: 200s }
  - { step: quiet, for: 5s }
  - { step: failback, do: restore, until: { stable: 10s }, within: 5m }
",
        "  - { that: session, session: ams/primary, state: down, during: loss }
  - { that: session, session: ams/primary, state: down, during: loss, after: 10s }
  - { that: session, session: ams/primary, state: down, during: quiet, after: 1s }
  - { that: route, node: ce1, prefix: 10.1.0.0/16, best: ams/secondary, during: quiet, after: 1s }
  - { that: route, node: ce1, prefix: 10.1.0.0/16, best: ams/secondary, during: loss, after: 10s }
",
    );
    let held = held(&report);
    assert_eq!(held[..4], [true, false, true, true], "{:#?}", report.expectations);
}

#[test]
fn a_session_is_up_when_both_families_are() {
    let report = run(
        "dual-stack",
        "  - { step: baseline, for: 5s, until: converged }
  - { step: off, do: peering-disable, at: ams/AzurePrivatePeering, family: ipv6, until: { session: ams/primary, state: down }, within: 5s }
  - { step: failback, do: restore, until: { session: ams/primary, state: up }, within: 30s }
",
        "  - { that: session, session: ams/primary, family: both, state: up, during: failback }
",
    );
    assert!(step(&report, "off").finished);
    assert_eq!(held(&report), [true], "{:#?}", report.expectations);
}

/// What a router dropped before it died is not taken off what the other drops.
#[test]
fn a_dead_routers_limiters_hide_no_drops() {
    let report = run(
        "upgrade",
        "  - { step: baseline, for: 5s, until: converged }
  - { step: crash, do: router-crash, at: ams/secondary, for: 3s }
  - { step: failback, do: restore, until: { stable: 5s }, within: 1m }
",
        "  - { that: limiter-drops, at: ams/primary, during: crash, min: 25000 }
  - { that: limiter-drops, at: ams, during: crash, min: 25000 }
",
    );
    let [primary, both] = report.expectations.as_slice() else { panic!() };
    assert!(primary.held);
    assert_eq!(both.actual, primary.actual);
}

#[test]
fn a_restore_names_each_place_once() {
    let report = run(
        "peering-disable",
        "  - { step: baseline, for: 2s, until: converged }
  - { step: disable, do: peering-disable, at: ams/AzurePrivatePeering, for: 2s }
  - { step: enable, do: peering-enable, at: ams/AzurePrivatePeering, until: { stable: 2s } }
  - { step: failback, do: restore, until: { stable: 2s }, within: 2m }
",
        "  - { that: lost, of: erp, during: failback, max: 0 }\n",
    );
    let told = &step(&report, "failback").causes[0].detail;
    assert_eq!(told, "failback: restore ams/AzurePrivatePeering");
}

/// A family that the lab file disables is not what an event disabled.
#[test]
fn a_restore_enables_no_more_of_a_peering_than_the_file_does() {
    let mut file = lab_file("dual-stack");
    let peering = &mut file.circuits[0].peerings[0];
    peering.ipv6.as_mut().unwrap().enabled = false;
    let place = PeeringRef { circuit: "ams".to_owned(), peering_type: peering.peering_type };
    let mut lab = Lab::new(&file, 1);
    lab.set_peering(&place, config::drill::Families::Both, false);
    restore(&mut lab, Target::Peering(place));
    let enabled = |family: fn(&std::net::IpAddr) -> bool| {
        let state = lab.snapshot("ams/primary").unwrap();
        let mut rows = state.vrfs.iter().flat_map(|vrf| &vrf.sessions);
        rows.find(|row| row.neighbor.starts_with("ce1") && family(&row.peer)).unwrap().enabled
    };
    assert!(enabled(std::net::IpAddr::is_ipv4));
    assert!(!enabled(std::net::IpAddr::is_ipv6));
}

/// Of a gateway's instances a restore starts the one that is down, and leaves the other alone.
#[test]
fn a_restore_starts_only_what_is_down() {
    let mut lab = Lab::new(&lab_file("active-active"), 1);
    run_for(&mut lab, 5);
    let gateway =
        |instance| NodeRef::Gateway { vnet: "hub".to_owned(), gateway: "er".to_owned(), instance };
    lab.crash(&gateway(Some(0)));
    run_for(&mut lab, 1);
    let before = lab.events().len();
    restore(&mut lab, Target::Node(gateway(None)));
    run_for(&mut lab, 5);
    assert_eq!(lab.sessions_missing(), [""; 0]);
    let downs = lab.events()[before..].iter();
    let downs: Vec<_> = downs.filter(|event| event.kind == EventKind::CarrierDown).collect();
    assert!(downs.is_empty(), "{downs:?}");
}

/// `after: T` counts what was sent from T on: the outage before it is another expectation's.
#[test]
fn packets_are_counted_from_after_on() {
    let steps = "  - { step: baseline, for: 5s, until: converged }
  - { step: loss, do: blackhole, at: \"ams/primary:nni\", for: 6s }
  - { step: failback, do: restore, until: { stable: 5s }, within: 5m }
";
    let report = run(
        "active-passive",
        steps,
        "  - { that: outage, of: erp, during: loss, max: 100ms }
  - { that: lost, of: erp, during: loss, max: 0 }
  - { that: flows-hit, of: erp, during: loss, between: [0, 0] }
  - { that: outage, of: erp, during: loss, max: 100ms, after: 2s }
  - { that: lost, of: erp, during: loss, max: 0, after: 2s }
  - { that: flows-hit, of: erp, during: loss, between: [0, 0], after: 2s }
  - { that: lost, of: erp, max: 0, after: 2s }
  - { that: lost, of: erp, during: failback, max: 0, after: 1m }
",
    );
    let expected = [false, false, false, true, true, true, true, false];
    assert_eq!(held(&report), expected, "{:#?}", report.expectations);
    assert!(!report.expectations[7].evaluated, "{:?}", report.expectations[7]);

    let report = run(
        "blackhole-without-bfd",
        steps,
        "  - { that: outage, of: erp, during: loss, max: 4500ms }
  - { that: outage, of: erp, during: loss, max: 4500ms, after: 5s }
  - { that: lost, of: erp, during: loss, min: 1, after: 5s }
",
    );
    assert_eq!(held(&report), [false, true, true], "{:#?}", report.expectations);
}

/// A flow that took the link only by the end was not there from `after` on.
#[test]
fn a_path_that_must_stay_is_looked_at_until_the_step_ends() {
    let report = run(
        "active-passive",
        "  - { step: baseline, for: 5s, until: converged }
  - { step: loss, do: blackhole, at: \"ams/primary:nni\", for: 6s }
  - { step: failback, do: restore, until: { stable: 5s }, within: 5m }
",
        "  - { that: path, of: erp, during: loss, through: ams/secondary }
  - { that: path, of: erp, during: loss, through: ams/secondary, after: 2s }
  - { that: path, of: erp, during: loss, through: ams/secondary, after: 100ms }
",
    );
    assert_eq!(held(&report), [true, true, false], "{:#?}", report.expectations);
}

#[test]
fn drops_and_flaps_are_counted_from_after_on() {
    let report = run(
        "upgrade",
        "  - { step: baseline, for: 5s, until: converged }
  - { step: before, for: 10s }
  - { step: reset, do: bgp-reset, at: ams/primary, for: 10s }
",
        "  - { that: limiter-drops, at: ams, during: before, min: 1 }
  - { that: limiter-drops, at: ams, during: before, min: 1, after: 7250ms }
  - { that: session, session: ams/primary, flaps: 1, during: reset }
  - { that: session, session: ams/primary, flaps: 0, during: reset, after: 5s }
",
    );
    assert_eq!(held(&report), [true; 4], "{:#?}", report.expectations);
    let dropped = |index: usize| {
        let (count, _) = report.expectations[index].actual.split_once(' ').unwrap();
        count.parse::<u64>().unwrap()
    };
    let (whole, late) = (dropped(0), dropped(1));
    assert!((late * 100 / whole).abs_diff(27) < 2, "{late} of {whole}");
}

/// A step that did not end in time fails a drill, also one that expects nothing of it.
#[test]
fn no_drill_passes_with_a_step_that_did_not_end() {
    let report = run(
        "active-passive",
        "  - { step: baseline, for: 2s, until: converged }
  - { step: loss, do: cut, at: \"ams/primary:access\", until: converged, within: 5s }
",
        "  - { that: lost, of: erp, during: baseline, max: 0 }\n",
    );
    assert_eq!(held(&report), [true]);
    assert!(!step(&report, "loss").finished);
    assert_eq!(report.verdict, Verdict::Fail);
}

/// What a router counts after its start is told whole, however much it counted before.
#[test]
fn a_restarted_routers_counters_are_those_of_the_step() {
    let report = run(
        "upgrade",
        "  - { step: baseline, for: 10s, until: converged }
  - { step: restart, do: router-restart, at: ams/secondary, for: 5s }
",
        "  - { that: limiter-drops, at: ams/secondary, during: restart, min: 1 }\n",
    );
    let step = step(&report, "restart");
    let secondary = step.limiters.iter().filter(|row| row.name.starts_with("ams/secondary:to-"));
    let told: u64 = secondary.map(|row| row.dropped_packets).sum();
    assert_eq!(report.expectations[0].actual, format!("{told} packets dropped"));
    assert!(told > 0);
    assert!(step.drops.contains_key("ams/secondary"), "{:?}", step.drops);
}

/// Sessions with a router that a drill crashed are to be down: the rest converges without them,
/// and not before they are.
#[test]
fn a_lab_converges_around_a_crashed_router() {
    let report = run(
        "msee-crash",
        "  - { step: baseline, for: 5s, until: converged }
  - { step: crash, do: router-crash, at: ams/primary, until: converged, within: 5m }
  - { step: gateway, do: router-crash, at: hub/er#0, until: converged, within: 5m }
  - { step: failback, do: restore, until: converged, within: 5m }
",
        "  - { that: session, session: ams/primary, state: down, during: crash }
  - { that: session, session: ams/primary, state: up, during: failback }
",
    );
    assert!(report.runs[0].steps.iter().all(|step| step.finished));
    assert_eq!(held(&report), [true, true], "{:#?}", report.expectations);

    // The CE's hold time is what tells it.
    let report = run(
        "blackhole-without-bfd",
        "  - { step: baseline, for: 5s, until: converged }
  - { step: crash, do: router-crash, at: ams/primary, until: converged, within: 5m }
",
        "  - { that: session, session: ams/primary, state: down, during: crash }\n",
    );
    assert!(step(&report, "crash").finished);
    assert_eq!(held(&report), [true], "{:#?}", report.expectations);
}

/// A gateway that is too small for its circuit says so.
#[test]
fn a_gateways_limiter_is_told_when_it_drops() {
    let lab_path = Path::new("fixtures/labs/quickstart.yaml");
    let lab = fs::read_to_string(lab_path).unwrap().replace("ErGw2AZ", "ErGw1AZ");
    let lab = config::load_lab(lab_path, &lab).unwrap();
    let text = "lab: ../labs/quickstart.yaml
traffic:
  - { name: erp, from: dc1.erp, to: hub.app, directions: both, flows: 64, rate: 1500Mbps, size: 1400 }
steps:
  - { step: overload, for: 2s, until: converged }
expect: []
";
    let path = Path::new("fixtures/drills/gateway.yaml");
    let drill = config::load_drill(path, text, &lab).unwrap_or_else(|errors| panic!("{errors}"));
    let report = drill::run(&lab, &drill, &mut |_| {});
    let limiters = &step(&report, "overload").limiters;
    let named = |name: &str| limiters.iter().find(|row| row.name == name);
    for name in ["hub/er#0 inbound", "hub/er#1 inbound"] {
        assert!(named(name).is_some_and(|row| row.dropped_packets > 1000), "{limiters:#?}");
    }
}

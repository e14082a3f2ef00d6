//! A lab on several forwarding threads is the lab that it is on one.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use msee::config::drill::Directions;
use msee::config::lab::Lab as LabFile;
use msee::config::{CircuitLink, NodeRef, Place, Segment};
use msee::fabric::{Direction, Fault, LinkIndex, Observer};
use msee::lab::{Execution, Lab, Ports};
use msee::model::{Instant, LinkRole};
use msee::telemetry::EventKind;

struct Nobody;

impl Observer for Nobody {
    fn frame(&mut self, _: LinkIndex, _: Direction, _: &[u8], _: Instant) {}
}

/// The quick start's, whose access links follow the carrier of the provider's.
fn file() -> LabFile {
    let (mut lab, _) = support::load_drill(Path::new("fixtures/drills/quickstart.yaml"));
    lab.circuits.iter_mut().for_each(|circuit| circuit.provider.carrier_follows = true);
    lab
}

fn on(workers: usize) -> Lab {
    let execution = Execution { program: None, workers };
    Lab::on_wire(&file(), 1, Ports::new(), Ports::new(), execution)
}

fn converge(lab: &mut Lab) {
    let deadline = lab.now() + Duration::from_mins(1);
    while !lab.is_converged() {
        lab.run_until(lab.now() + Duration::from_millis(100), &mut Nobody);
        assert!(lab.totals().held);
        assert!(lab.now() < deadline, "{:?}", lab.sessions_missing());
    }
}

/// Who saw which carrier go or come, act by act.
fn carriers(mut lab: Lab) -> Vec<BTreeSet<(String, EventKind, String)>> {
    let at = |segment| Place { circuit: "ams".to_owned(), link: LinkRole::Primary, segment };
    let msee = NodeRef::Msee(CircuitLink { circuit: "ams".to_owned(), link: LinkRole::Primary });
    let gateway =
        NodeRef::Gateway { vnet: "hub".to_owned(), gateway: "er".to_owned(), instance: Some(0) };
    let edge = NodeRef::SiteRouter("ce1".to_owned());
    let cut =
        |segment| move |lab: &mut Lab| lab.break_at(&at(segment), Directions::Both, Fault::Cut);
    let mend = |segment| move |lab: &mut Lab| lab.mend_at(&at(segment));
    let acts: &[&dyn Fn(&mut Lab)] = &[
        &cut(Segment::Access),
        &mend(Segment::Access),
        &cut(Segment::Nni),
        &mend(Segment::Nni),
        &cut(Segment::Core),
        &mend(Segment::Core),
        &|lab| lab.crash(&msee),
        &|lab| lab.revive(&msee),
        &|lab| lab.crash(&gateway),
        &|lab| lab.revive(&gateway),
        &|lab| lab.crash(&edge),
        &|lab| lab.revive(&edge),
    ];
    converge(&mut lab);
    let mut seen = Vec::new();
    for act in acts {
        let before = lab.events_recorded();
        act(&mut lab);
        lab.run_until(lab.now() + Duration::from_millis(200), &mut Nobody);
        assert!(lab.totals().held);
        let (_, events) = lab.events_since(before);
        let carriers = events
            .iter()
            .filter(|event| matches!(event.kind, EventKind::CarrierDown | EventKind::CarrierUp));
        seen.push(carriers.map(|e| (e.node.clone(), e.kind, e.detail.clone())).collect());
    }
    seen
}

#[test]
fn carrier_is_lost_and_comes_where_it_does_with_one() {
    let expected = carriers(Lab::new(&file(), 1));
    assert!(expected.iter().all(|seen| !seen.is_empty()), "{expected:#?}");
    for workers in [2, 4] {
        assert_eq!(carriers(on(workers)), expected, "{workers} workers");
    }
}

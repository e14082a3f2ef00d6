//! What the search has found, each as the few acts that showed it.

use std::time::Duration;

use msee::config::drill::Directions;
use msee::config::{CircuitLink, NodeRef, Place, Segment};
use msee::fabric::{self, Fault, LinkIndex, Observer};
use msee::lab::Lab;
use msee::model::{Instant, LinkRole};
use msee::telemetry::EventKind;

use crate::books::Books;
use crate::generate::{self, Dice};

const MOMENT: Duration = Duration::from_millis(50);

/// What a router says when carrier returns waited for its next timer.
#[test]
fn nothing_waits_in_a_router_when_carrier_returns() {
    for mut lab in labs() {
        lab.break_at(&access(), Directions::Both, Fault::Cut);
        run(&mut lab, Duration::from_secs(1));
        lab.mend_at(&access());
        run(&mut lab, Duration::ZERO);
        let waiting: Vec<_> = lab.node_ledgers().filter(|(_, ledger)| ledger.queued > 0).collect();
        assert!(waiting.is_empty(), "{waiting:?}");
    }
}

/// Frames that a router had not yet handed to a link stayed in use for ever.
#[test]
fn what_a_crashed_router_was_about_to_send_is_dropped() {
    for mut lab in labs() {
        lab.break_at(&access(), Directions::Both, Fault::Cut);
        run(&mut lab, Duration::from_secs(1));
        lab.mend_at(&access());
        lab.crash(&NodeRef::Msee(link()));
        lab.crash(&NodeRef::SiteRouter(edge(&lab)));
        run(&mut lab, MOMENT);
        let down = edge(&lab);
        let queued: Vec<_> = lab.node_ledgers().filter(|(name, _)| *name == down).collect();
        assert_eq!(queued[0].1.queued, 0);
        assert_eq!(Books::of(&lab).faults(), Vec::<String>::new());
    }
}

/// An operator's act waited for the next packet to control, or timer.
#[test]
fn a_drain_is_announced_at_once() {
    for mut lab in labs() {
        let drained = lab.now();
        lab.drain(&link(), Some(8));
        assert!(!lab.is_converged(), "there is something to announce");
        run(&mut lab, MOMENT);
        let msee = lab.routers_of(&NodeRef::Msee(link())).remove(0);
        let announced = lab.events().iter().any(|event| {
            event.at == drained && event.node == msee && event.kind == EventKind::RoutesAnnounced
        });
        assert!(announced);
    }
}

/// Labs that are up, and quiet: without BFD only keepalives are sent.
fn labs() -> impl Iterator<Item = Lab> {
    (0..3).map(|seed| {
        let mut file = generate::world(&mut Dice::new(seed, "lab")).lab;
        for peering in file.circuits.iter_mut().flat_map(|circuit| &mut circuit.peerings) {
            peering.bfd.enabled = false;
        }
        for router in file.sites.iter_mut().flat_map(|site| &mut site.routers) {
            router.bfd.enabled = false;
        }
        let mut lab = Lab::new(&file, seed);
        run(&mut lab, Duration::from_secs(10));
        assert!(lab.is_converged(), "{:?}", lab.sessions_missing());
        lab
    })
}

fn link() -> CircuitLink {
    CircuitLink { circuit: "c00".into(), link: LinkRole::Primary }
}

fn access() -> Place {
    Place { circuit: "c00".into(), link: LinkRole::Primary, segment: Segment::Access }
}

fn edge(lab: &Lab) -> String {
    let (_, router) = lab.file().edge_of("c00", LinkRole::Primary).expect("a circuit has an edge");
    router.name.clone()
}

fn run(lab: &mut Lab, span: Duration) {
    lab.run_until(lab.now() + span, &mut Nobody);
}

struct Nobody;

impl Observer for Nobody {
    fn frame(&mut self, _: LinkIndex, _: fabric::Direction, _: &[u8], _: Instant) {}
}

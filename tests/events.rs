//! What events do to a lab, seen from outside: by its traffic, its wires and its routers' tables.

use std::path::Path;
use std::time::Duration;

use msee::config::drill::{Drill, Event, Target};
use msee::config::lab::Lab as File;
use msee::config::{self, CircuitLink, NodeRef, Place, Segment, SessionRef};
use msee::drill::event;
use msee::drill::report::{Report, RunReport, StepReport};
use msee::fabric::{Direction, LinkIndex, Observer};
use msee::lab::Lab;
use msee::lab::watch::Watch;
use msee::model::{Bandwidth, Instant, LinkRole};
use msee::router::SessionRow;
use msee::wire::{arp, ethertype, vlan};

/// `PROVIDER` and `CE1` are replaced by settings of the provider and of the site's edge.
const LAB: &str = r#"
seed: 7
circuits:
  - name: ams
    serviceProviderProperties: { serviceProviderName: Equinix, peeringLocation: Amsterdam, bandwidthInMbps: 100 }
    provider: { delay: 1ms, PROVIDER }
    peerings:
      - { peeringType: AzurePrivatePeering, peerASN: 65010, vlanId: 100, sharedKey: "Lab4711x",
          primaryPeerAddressPrefix: 172.16.0.0/30, secondaryPeerAddressPrefix: 172.16.0.4/30 }
sites:
  - name: dc1
    asn: 65010
    networks: [ { name: erp, prefix: 192.168.0.0/22 } ]
    routers:
      - name: ce1
        uplinks: [ { circuit: ams, link: primary }, { circuit: ams, link: secondary } ]
        CE1
      - { name: core, gatewayOf: [erp], ibgp: [ce1] }
virtualNetworks:
  - name: hub
    addressPrefixes: [10.1.0.0/16]
    gateways: [ { name: er, sku: ErGw2AZ, connections: [ { circuit: ams } ] } ]
    convergence: ideal
"#;

fn file(provider: &str, ce1: &str) -> File {
    let text = LAB.replace("PROVIDER", provider).replace("CE1", ce1);
    config::load_lab(Path::new("lab.yaml"), &text).unwrap_or_else(|errors| panic!("{errors}"))
}

struct Nobody;

impl Observer for Nobody {
    fn frame(&mut self, _: LinkIndex, _: Direction, _: &[u8], _: Instant) {}
}

fn run_for(lab: &mut Lab, seconds: u64) {
    lab.run_until(lab.now() + Duration::from_secs(seconds), &mut Nobody);
}

fn started(file: &File) -> Lab {
    let mut lab = Lab::new(file, 1);
    run_for(&mut lab, 30);
    assert!(lab.is_converged(), "{:?}", lab.sessions_missing());
    lab
}

fn start(lab: &mut Lab, event: &Event) {
    (event::row(event).start)(lab, event);
}

fn restore(lab: &mut Lab, target: Target) {
    start(lab, &Event::Restore { at: vec![target] });
}

fn primary() -> CircuitLink {
    CircuitLink { circuit: "ams".to_owned(), link: LinkRole::Primary }
}

/// A drill of these steps, whose `bgp-reset` is replaced by another event.
fn drill(file: &File, traffic: &str, steps: &str, event: Option<Event>) -> Report {
    let text = format!("lab: lab.yaml\ntraffic: [ {{ {traffic} }} ]\nsteps:\n{steps}expect: []\n");
    let drill = config::load_drill(Path::new("drill.yaml"), &text, file);
    let mut drill: Drill = drill.unwrap_or_else(|errors| panic!("{errors}"));
    for step in &mut drill.steps {
        if matches!(step.event, Some(Event::BgpReset { .. })) && event.is_some() {
            step.event.clone_from(&event);
        }
    }
    let report = msee::drill::run(file, &drill, &mut |_| {});
    assert_eq!(report.runs[0].not_started, Vec::<String>::new());
    assert!(report.runs[0].conservation.held);
    report
}

fn step<'a>(run: &'a RunReport, name: &str) -> &'a StepReport {
    run.steps.iter().find(|step| step.step == name).unwrap()
}

const PROBES: &str = "name: erp, kind: probe, from: dc1.erp, to: hub.app, directions: both, \
                      flows: 8, rate: 800pps, size: 256";

/// Forwarding goes on while a control process is away, and traffic moves without loss when its
/// neighbours find out: they withdraw what they had from it, as without graceful restart. The only
/// edge of a site has no other way, so it is silent until its neighbours have come back to it.
#[test]
fn a_dead_control_process_costs_no_packet_where_there_is_another_way() {
    let (vnet, gateway) = ("hub".to_owned(), "er".to_owned());
    let routers = [
        (NodeRef::Msee(primary()), true),
        (NodeRef::SiteRouter("ce1".to_owned()), false),
        (NodeRef::Gateway { vnet, gateway, instance: Some(0) }, true),
    ];
    for (router, another) in routers {
        let event = Event::ControlKill { at: vec![router.clone()] };
        let steps = "  - { step: baseline, for: 2s }\n\
                     \x20 - { step: dead, do: bgp-reset, at: ams/primary, for: 4s }\n\
                     \x20 - { step: back, until: converged, within: 4m }\n";
        let report = drill(&file("", ""), PROBES, steps, Some(event));
        let run = &report.runs[0];
        let lost = |name| step(run, name).groups.iter().map(|group| group.lost).sum::<u64>();
        assert_eq!((lost("dead"), lost("back") == 0), (0, another), "{router:?}");
        assert!(step(run, "back").finished);
    }
}

/// Gratuitous ARP to Azure, and what asks for the MSEE.
#[derive(Default)]
struct Arps {
    announcements: u64,
    questions: u64,
}

impl Observer for Arps {
    fn frame(&mut self, _: LinkIndex, direction: Direction, bytes: &[u8], _: Instant) {
        let Ok(tags) = vlan::Tags::parse(bytes) else { return };
        if tags.ethertype != ethertype::ARP || direction != Direction::Forward {
            return;
        }
        let view = arp::View::new(&bytes[tags.payload_offset..]).unwrap();
        let arp = arp::Repr::parse(&view).unwrap();
        self.announcements += u64::from(arp.sender == arp.target);
        self.questions += u64::from(arp.operation == arp::Operation::Request);
    }
}

fn mac_of_ce1(lab: &Lab) -> String {
    let arp = lab.snapshot("ams/primary").unwrap().arp;
    let row = arp.iter().find(|row| row.address.to_string() == "172.16.0.1").unwrap();
    row.mac.clone()
}

/// With or without gratuitous ARP the new device asks for the MSEE first, by which the MSEE learns
/// its MAC (RFC 826): its own entry would have stayed for hours.
#[test]
fn a_replaced_device_is_found_by_what_it_asks() {
    for gratuitous_arp in [true, false] {
        let mut lab = started(&file("", ""));
        let before = mac_of_ce1(&lab);
        let nni = lab.nni("ams", LinkRole::Primary).unwrap();
        lab.watch(nni);
        let mut arps = Arps::default();
        start(&mut lab, &Event::ReplaceDevice { at: vec!["ce1".to_owned()], gratuitous_arp });
        lab.run_until(lab.now() + Duration::from_millis(100), &mut arps);
        assert_eq!(arps.announcements > 0, gratuitous_arp);
        assert!(arps.questions > arps.announcements);
        let after = mac_of_ce1(&lab);
        assert_ne!(before, after);
        run_for(&mut lab, 30);
        assert!(lab.is_converged(), "{:?}", lab.sessions_missing());

        start(&mut lab, &Event::ReplaceDevice { at: vec!["ce1".to_owned()], gratuitous_arp });
        run_for(&mut lab, 1);
        assert!(![&before, &after].contains(&&mac_of_ce1(&lab)));
        restore(&mut lab, Target::Node(NodeRef::SiteRouter("ce1".to_owned())));
        run_for(&mut lab, 30);
        assert_eq!(mac_of_ce1(&lab), before);
        assert!(lab.is_converged() && lab.totals().held);
    }
}

/// Hosts and neighbours send to the new device, and to the first one after a restore.
#[test]
fn traffic_goes_on_through_a_replaced_device() {
    for router in ["ce1", "core"] {
        let event = Event::ReplaceDevice { at: vec![router.to_owned()], gratuitous_arp: false };
        let steps = "  - { step: baseline, for: 1s }\n\
                     \x20 - { step: swap, do: bgp-reset, at: ams/primary, until: converged, within: 5m }\n\
                     \x20 - { step: after, for: 2s }\n\
                     \x20 - { step: restored, do: restore, until: converged, within: 5m }\n\
                     \x20 - { step: at-last, for: 2s }\n";
        let report = drill(&file("", ""), PROBES, steps, Some(event));
        for name in ["after", "at-last"] {
            let step = step(&report.runs[0], name);
            assert!(step.groups.iter().all(|group| group.lost == 0), "{router} {name}");
        }
    }
}

/// What is sent to the device that was there before is for nobody.
#[test]
fn a_replaced_device_drops_what_is_for_the_old_one() {
    let mut lab = started(&file("", ""));
    let old: Vec<u8> = {
        let mac = mac_of_ce1(&lab);
        mac.split([':', '-']).map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect()
    };
    start(&mut lab, &Event::ReplaceDevice { at: vec!["ce1".to_owned()], gratuitous_arp: false });
    let mut frame = old;
    frame.extend([2, 0, 0, 0, 0, 1, 0x81, 0x00, 0, 100, 0x08, 0x00]);
    frame.resize(64, 0);
    let place =
        Place { circuit: "ams".to_owned(), link: LinkRole::Primary, segment: Segment::Access };
    let dropped = |lab: &Lab| {
        let drops = lab.counters("ce1").unwrap().drops;
        drops.iter().find(|(reason, _)| reason == "not-for-us").map_or(0, |(_, n)| *n)
    };
    let before = dropped(&lab);
    lab.send_from_outside(&place, Direction::Backward, &frame);
    run_for(&mut lab, 1);
    assert!(dropped(&lab) > before);
}

/// A provider's 50 Mbps under a circuit of 100 Mbps carry 50 each way.
#[test]
fn a_providers_throttle_limits_below_the_circuit() {
    const MBPS: u64 = 80;
    let traffic = format!(
        "name: load, kind: probe, from: dc1.erp, to: hub.app, directions: both, flows: 1, \
         rate: {}pps, size: 1250",
        MBPS * 100
    );
    let throttle =
        Event::ProviderRate { at: vec!["ams".to_owned()], rate: Some(Bandwidth::from_mbps(50)) };
    let of_file = Event::ProviderRate { at: vec!["ams".to_owned()], rate: None };
    let steps = "  - { step: before, for: 2s }\n\
                 \x20 - { step: changed, do: bgp-reset, at: ams/secondary, for: 2s }\n\
                 \x20 - { step: restored, do: restore, at: ams/secondary, for: 2s }\n";
    for (provider, event, expected) in
        [("", throttle, [MBPS, 50]), ("rateInMbps: 50", of_file, [50, MBPS])]
    {
        let report = drill(&file(provider, ""), &traffic, steps, Some(event));
        for (name, mbps) in ["before", "changed"].into_iter().zip(expected) {
            for group in &step(&report.runs[0], name).groups {
                let through = (group.sent - group.lost) * MBPS / group.sent;
                assert!(through.abs_diff(mbps) <= 1, "{provider} {name}: {through} Mbps");
            }
        }
    }
}

#[test]
fn a_providers_throttle_is_restored_to_that_of_the_file() {
    let target = || Target::Circuit("ams".to_owned());
    let rates = |lab: &Lab| -> Vec<String> {
        let rows = lab.counters("Equinix Amsterdam").unwrap().limiters;
        rows.iter().map(|row| format!("{} {}", row.name, row.rate)).collect()
    };
    for provider in ["", "rateInMbps: 70, policesControl: false"] {
        let mut lab = started(&file(provider, ""));
        let before = rates(&lab);
        assert_eq!(before.is_empty(), provider.is_empty());
        let rate = Some(Bandwidth::from_mbps(20));
        start(&mut lab, &Event::ProviderRate { at: vec!["ams".to_owned()], rate });
        assert_eq!(rates(&lab).len(), 4);
        assert!(rates(&lab).iter().all(|row| row.ends_with("20 Mbps")), "{:?}", rates(&lab));
        restore(&mut lab, target());
        assert_eq!(rates(&lab), before);
        start(&mut lab, &Event::ProviderRate { at: vec!["ams".to_owned()], rate: None });
        assert!(rates(&lab).is_empty());
    }
}

/// An end that is shut refuses connections instead of taking and closing them.
#[test]
fn a_shut_session_answers_with_a_reset() {
    let mut lab = started(&file("", ""));
    start(&mut lab, &Event::BgpShutdown { at: vec![SessionRef::Link(primary())] });
    run_for(&mut lab, 1);
    let mut watch = Watch::new(&mut lab);
    lab.run_until(lab.now() + Duration::from_secs(30), &mut watch);
    let seen = watch.finish(&mut lab);
    let nni = lab.nni("ams", LinkRole::Primary).unwrap();
    let tags = (Some(lab.file().circuits[0].stag.get()), Some(100));
    let [customer, microsoft] = ["172.16.0.1", "172.16.0.2"].map(|text| text.parse().unwrap());
    let asked = seen.with(nni, Direction::Backward, tags).segments(microsoft, customer);
    let answered = seen.with(nni, Direction::Forward, tags).segments(customer, microsoft);
    assert!(asked.syns > 2);
    assert_eq!((answered.resets, answered.syn_acks), (asked.syns, 0));
    restore(&mut lab, Target::Session(SessionRef::Link(primary())));
    run_for(&mut lab, 30);
    assert!(lab.is_converged(), "{:?}", lab.sessions_missing());
}

/// 10,000 prefixes beside the site's own; what Azure shows as StatePfxRcd counts them all.
#[test]
fn originated_prefixes_are_announced_and_counted() {
    let ce1 = "originates: [ { prefix: 20.0.0.0/24, count: 9998 }, { prefix: 0.0.0.0/0 } ]";
    let lab = started(&file("", ce1));
    let rows = sessions(&lab, "ams/primary");
    let row = rows.iter().find(|row| row.neighbor == "ce1").unwrap();
    assert_eq!(row.prefixes_received, 10_000);
    let rows = sessions(&lab, "hub/er#0");
    assert!(
        rows.iter().any(|row| row.neighbor == "ams/primary" && row.prefixes_received >= 10_000)
    );
    let limit = |ipv6| lab.prefix_limit(&SessionRef::Link(primary()), ipv6);
    assert_eq!((limit(false), limit(true)), (Some(4_000), Some(100)));
}

fn sessions(lab: &Lab, router: &str) -> Vec<SessionRow> {
    let vrfs = lab.snapshot(router).unwrap().vrfs.into_iter();
    vrfs.flat_map(|vrf| vrf.sessions).collect()
}

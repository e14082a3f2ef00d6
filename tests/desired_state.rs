//! Desired state as a diff: the same twice changes nothing, one after another ends where the last
//! alone does, each change costs what its row says, and numbers that nobody writes do not run out.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use msee::azure;
use msee::config;
use msee::control::domain::NEIGHBOR_FIELDS;
use msee::fabric::{Direction, LinkIndex, Observer};
use msee::io::Frames;
use msee::lab::Lab;
use msee::model::{
    Bandwidth, Effect, Encapsulation, Instant, LimiterConfig, MacAddr, OriginatedPrefix,
    RouterConfig, Service, VlanId,
};
use msee::router::{ATTACHMENT_FIELDS, Router, Snapshot};

struct Nobody;

impl Observer for Nobody {
    fn frame(&mut self, _: LinkIndex, _: Direction, _: &[u8], _: Instant) {}
}

fn file() -> config::lab::Lab {
    let path = Path::new("fixtures/labs/active-active.yaml");
    config::load_lab(path, &fs::read_to_string(path).unwrap()).unwrap()
}

fn config_of(name: &str) -> RouterConfig {
    let compiled = azure::compile(&file());
    compiled.routers.into_iter().find(|router| router.name == name).unwrap()
}

/// What of a snapshot configuration alone decides: no counters, no states.
fn shape(snapshot: &Snapshot) -> String {
    let mut lines = BTreeSet::new();
    for vrf in &snapshot.vrfs {
        for session in &vrf.sessions {
            let (name, peer, asn) = (&session.neighbor, session.peer, session.asn);
            lines.insert(format!("{} {name} {peer} {asn} {}", vrf.name, session.enabled));
        }
        for route in &vrf.routes {
            let from: Vec<_> = route.paths.iter().map(|path| path.from.as_str()).collect();
            lines.insert(format!("{} {} {from:?}", vrf.name, route.prefix));
        }
    }
    lines.extend(snapshot.attachments.iter().map(|attachment| attachment.name.clone()));
    lines.extend(
        snapshot.limiters.iter().map(|limiter| format!("{} {}", limiter.name, limiter.rate)),
    );
    lines.extend(snapshot.bfd.iter().map(|bfd| format!("bfd {} {}", bfd.attachment, bfd.peer)));
    lines.into_iter().collect::<Vec<_>>().join("\n")
}

/// Ways to differ from a configuration, named.
fn variants(config: &RouterConfig) -> Vec<(&'static str, RouterConfig)> {
    let mut variants = Vec::new();
    let mut vary = |name, change: &dyn Fn(&mut RouterConfig)| {
        let mut changed = config.clone();
        change(&mut changed);
        assert_ne!(&changed, config, "{name}");
        variants.push((name, changed));
    };
    vary("rate", &|config| config.limiters[0].rate = Bandwidth::from_mbps(2_000));
    vary("limiter added", &|config| {
        let (rate, burst) = (Bandwidth::from_mbps(50), Duration::from_millis(5));
        config.limiters.push(LimiterConfig { name: "more".to_owned(), rate, burst });
    });
    vary("md5", &|config| config.vrfs[0].neighbors[0].md5 = Some("other".to_owned()));
    vary("session disabled", &|config| config.vrfs[0].neighbors[0].enabled = false);
    vary("session removed", &|config| drop(config.vrfs[0].neighbors.remove(0)));
    vary("bfd off", &|config| config.vrfs[0].neighbors[0].bfd = None);
    vary("vlan", &|config| {
        let (outer, inner) = (VlanId::new(9).unwrap(), VlanId::new(10).unwrap());
        config.attachments[0].encapsulation = Encapsulation::QinQ { outer, inner };
    });
    vary("attachment removed", &|config| {
        let gone = config.attachments.remove(0).name;
        config.vrfs[0].neighbors.retain(|neighbor| neighbor.attachment != gone);
    });
    vary("mtu", &|config| config.attachments[0].mtu = 1_400);
    vary("table", &|config| config.vrfs[0].max_paths = 1);
    vary("port's MAC", &|config| config.ports[0].mac = MacAddr([2, 9, 9, 9, 9, 9]));
    vary("VRF removed", &|config| {
        let gone = config.vrfs.remove(0).name;
        config.attachments.retain(|attachment| attachment.service != Service::Vrf(gone.clone()));
    });
    vary("prefix", &|config| {
        config.vrfs[0]
            .originated
            .push(OriginatedPrefix { prefix: "10.99.0.0/16".parse().unwrap() });
    });
    variants
}

/// Lets what waits for a timer of the tables happen.
fn settled(mut router: Router) -> Snapshot {
    let mut frames = Frames::new();
    let now = Instant::from_secs(3);
    router.handle_timeout(&mut frames, now);
    while let Some((_, frame)) = router.poll_transmit() {
        frames.free(frame);
    }
    router.snapshot(now)
}

#[test]
fn one_after_another_ends_where_the_last_alone_does() {
    let base = config_of("ams/primary");
    for (from_name, from) in variants(&base).into_iter().chain([("base", base.clone())]) {
        for (to_name, to) in variants(&base).into_iter().chain([("base", base.clone())]) {
            let mut changed = Router::new(&from, 1, Instant::ZERO);
            changed.apply(&to, Instant::from_secs(1));
            let fresh = Router::new(&to, 1, Instant::ZERO);
            let (changed, fresh) = (settled(changed), settled(fresh));
            assert_eq!(shape(&changed), shape(&fresh), "{from_name} then {to_name}");
        }
    }
}

#[test]
fn the_same_twice_changes_nothing() {
    let mut lab = Lab::new(&file(), 1);
    lab.run_until(Instant::from_secs(5), &mut Nobody);
    let events = lab.events().len();
    // A bandwidth that it has already compiles to the configurations that run already.
    lab.set_bandwidth("ams", Bandwidth::from_mbps(1_000));
    lab.run_until(Instant::from_secs(10), &mut Nobody);
    assert_eq!(lab.events().len(), events, "{:?}", lab.events().last());
}

/// A rate is live (F-23): no session, no route, no BFD notices.
#[test]
fn an_upgrade_touches_the_limiters_alone() {
    let mut lab = Lab::new(&file(), 1);
    lab.run_until(Instant::from_secs(5), &mut Nobody);
    let before = lab.events().len();
    lab.set_bandwidth("ams", Bandwidth::from_mbps(2_000));
    lab.run_until(Instant::from_secs(10), &mut Nobody);
    let kinds: BTreeSet<_> = lab.events()[before..].iter().map(|event| event.kind.name()).collect();
    assert_eq!(kinds, BTreeSet::from(["limiter-changed"]));
}

/// A field without a row would be ignored when it changes.
#[test]
fn every_field_has_a_row() {
    let config = config_of("ams/primary");
    let fields = |value: serde_json::Value| -> BTreeSet<String> {
        let names = value.as_object().unwrap().keys().cloned();
        names.filter(|name| name != "name").collect()
    };
    let attachment = serde_json::to_value(&config.attachments[0]).unwrap();
    let rows = ATTACHMENT_FIELDS.iter().map(|field| field.name.to_owned()).collect();
    assert_eq!(fields(attachment), rows);
    let neighbor = serde_json::to_value(&config.vrfs[0].neighbors[0]).unwrap();
    let rows = NEIGHBOR_FIELDS.iter().map(|field| field.name.to_owned()).collect();
    assert_eq!(fields(neighbor), rows);
    let effect = |name| NEIGHBOR_FIELDS.iter().find(|field| field.name == name).unwrap().effect;
    assert_eq!([effect("md5"), effect("export")], [Effect::ResetsSession, Effect::Live]);
}

/// Each router has an identifier of its own, also where an octet is full.
#[test]
fn identifiers_go_past_an_octet() {
    assert_eq!(azure::router_id(0), Ipv4Addr::new(100, 127, 0, 1));
    assert_eq!(azure::router_id(255), Ipv4Addr::new(100, 127, 1, 0));
}

/// The attachment to the CE is the core router's 256th.
#[test]
fn a_site_may_have_hundreds_of_hosts() {
    let mut file = file();
    let hosts = &mut file.sites[0].networks[0].hosts;
    let first = hosts[0].clone();
    for number in 1..255_u8 {
        let mut host = first.clone();
        host.name = format!("h{number}");
        host.addresses = vec![IpAddr::from([192, 168, 3, number])];
        hosts.push(host);
    }
    assert_eq!(Lab::new(&file, 1).hosts().count(), 256);
}

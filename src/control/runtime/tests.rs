use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::thread;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::process::serve;
use super::*;
use crate::config;
use crate::control::message::{Outcome, ToControl};
use crate::control::plane::Attachment;
use crate::lab::Lab;
use crate::model::{
    AttachmentIndex, BfdDownReason, BfdParameters, GroupIndex, MacAddr, Member, Notice, PortIndex,
    Prefix, PuntClass, Punted, RouterConfig,
};
use crate::sys::clock;
use crate::sys::process::Program;
use crate::telemetry::EventKind;

fn address() -> impl Strategy<Value = IpAddr> {
    let four = any::<u32>().prop_map(|bits| Ipv4Addr::from(bits).into());
    let six = any::<u128>().prop_map(|bits| Ipv6Addr::from(bits).into());
    prop_oneof![four, six]
}

fn prefix() -> impl Strategy<Value = Prefix> {
    (address(), any::<u8>()).prop_map(|(address, length)| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        Prefix::new(address, length % (most + 1)).unwrap().trunc()
    })
}

fn attachment() -> impl Strategy<Value = AttachmentIndex> {
    any::<u16>().prop_map(AttachmentIndex)
}

fn mac() -> impl Strategy<Value = MacAddr> {
    any::<[u8; 6]>().prop_map(MacAddr)
}

fn class() -> impl Strategy<Value = PuntClass> {
    prop_oneof![
        Just(PuntClass::Arp),
        Just(PuntClass::Ndp),
        Just(PuntClass::Tcp),
        Just(PuntClass::Local),
        Just(PuntClass::TtlExpired),
        any::<u16>().prop_map(|mtu| PuntClass::TooLarge { mtu }),
        (attachment(), address())
            .prop_map(|(egress, next_hop)| PuntClass::Glean { egress, next_hop }),
    ]
}

fn notice() -> impl Strategy<Value = Notice> {
    let packet = vec(any::<u8>(), 0..2000);
    let punted =
        (attachment(), class(), mac(), packet).prop_map(|(attachment, class, source, packet)| {
            Notice::Punted(Punted { attachment, class, source, packet })
        });
    let bfd = (attachment(), address(), any::<bool>()).prop_map(|(attachment, peer, up)| {
        let reason = BfdDownReason::NeighborRestarted;
        if up {
            Notice::BfdUp { attachment, peer }
        } else {
            Notice::BfdDown { attachment, peer, reason }
        }
    });
    let carrier = (any::<u16>(), any::<bool>())
        .prop_map(|(port, up)| Notice::Carrier { port: PortIndex(port), up });
    prop_oneof![punted, bfd, carrier]
}

fn change() -> impl Strategy<Value = Change> {
    let vrf = || any::<u16>().prop_map(VrfIndex);
    let group = || any::<u16>().prop_map(GroupIndex);
    let route = (vrf(), prefix(), proptest::option::of(group()))
        .prop_map(|(vrf, prefix, group)| Change::Route { vrf, prefix, group });
    let member = (attachment(), proptest::option::of(address()), any::<u8>())
        .prop_map(|(attachment, next_hop, ordinal)| Member { attachment, next_hop, ordinal });
    let group = (vrf(), group(), vec(member, 0..8))
        .prop_map(|(vrf, group, members)| Change::Group { vrf, group, members });
    let neighbor = (attachment(), address(), proptest::option::of(mac()))
        .prop_map(|(attachment, address, mac)| Change::Neighbor { attachment, address, mac });
    let span = || any::<u32>().prop_map(|micros| Duration::from_micros(micros.into()));
    let bfd = (attachment(), address(), span(), span()).prop_map(|(attachment, peer, tx, rx)| {
        let session = Some(BfdParameters {
            local: peer,
            desired_min_tx: tx,
            required_min_rx: rx,
            detect_mult: 3,
        });
        Change::Bfd { attachment, peer, session }
    });
    prop_oneof![route, group, neighbor, bfd]
}

fn passes<M: Serialize + DeserializeOwned + PartialEq + Debug>(message: &M) {
    let mut incoming = Incoming { bytes: encode(message), ..Incoming::new() };
    assert_eq!(incoming.next::<M>().unwrap().as_ref(), Some(message));
    assert_eq!(incoming.taken, incoming.bytes.len());
}

proptest! {
    #[test]
    fn what_is_told_is_what_is_heard(at in any::<u64>(), notice in notice()) {
        passes(&Told { at: Instant::from_nanos(at), message: ToControl::Notice(notice) });
    }

    #[test]
    fn what_is_said_is_what_is_done(changes in vec(change(), 0..50), node in ".*", at in any::<u64>()) {
        let at = Instant::from_nanos(at);
        let event = Event { at, detail: node.clone(), node, kind: EventKind::BgpUp };
        passes(&Said::Changes(changes));
        passes(&Said::Events(vec![event]));
    }

    #[test]
    fn nonsense_is_an_error_and_a_part_is_waited_for(bytes in vec(any::<u8>(), 0..200)) {
        let mut incoming = Incoming { bytes, ..Incoming::new() };
        while let Ok(Some(_)) = incoming.next::<Said>() {}
    }
}

/// The routers of a lab that has something of everything.
fn configurations() -> Vec<RouterConfig> {
    let path = Path::new("fixtures/labs/active-active.yaml");
    let lab =
        Lab::new(&config::load_lab(path, &std::fs::read_to_string(path).unwrap()).unwrap(), 1);
    let names: Vec<_> = lab.router_names().map(str::to_owned).collect();
    names.iter().map(|name| lab.desired(name).unwrap().clone()).collect()
}

#[test]
fn every_vrf_of_a_lab_passes() {
    for config in configurations().into_iter().flat_map(|router| router.vrfs) {
        let attachments = BTreeMap::from([(config.name.clone(), AttachmentIndex(7))]);
        let message = ToControl::SetVrf { index: VrfIndex(0), config, attachments };
        passes(&Told { at: Instant::ZERO, message });
    }
}

/// A remote whose control is a thread of the test, or nobody: what stands for its process only
/// sleeps.
fn remote() -> (Remote, UnixStream) {
    let sleeper = Program {
        program: Path::new("/bin/sleep"),
        arguments: vec!["1000".into()],
        network: None,
        mounts: None,
        log: None,
    };
    let (socket, theirs) = UnixStream::pair().unwrap();
    socket.set_nonblocking(true).unwrap();
    let hello = Hello {
        router: "ce1".to_owned(),
        router_id: Ipv4Addr::new(10, 0, 0, 1),
        seed: 1,
        zero: clock::monotonic(),
    };
    (Remote::new(sleeper.spawn().unwrap(), socket, &hello), theirs)
}

fn punted(class: PuntClass) -> ToControl {
    let (attachment, source) = (AttachmentIndex(0), MacAddr([2; 6]));
    ToControl::Notice(Notice::Punted(Punted { attachment, class, source, packet: vec![0; 1000] }))
}

#[test]
fn a_process_that_does_not_listen_costs_punted_packets_and_no_more() {
    let (mut remote, _theirs) = remote();
    let mut taken = 0;
    for _ in 0..10_000 {
        taken += u32::from(remote.tell(punted(PuntClass::Tcp), Instant::ZERO));
        remote.flush();
    }
    assert!((1_000..3_000).contains(&taken), "{taken}");
    assert!(remote.tell(punted(PuntClass::Arp), Instant::ZERO), "another class has room");
    for _ in 0..10_000 {
        assert!(remote.tell(ToControl::SetAnnounces(true), Instant::ZERO));
    }
    remote.read().unwrap();
    assert!(!remote.is_settled());
}

#[test]
fn a_process_that_never_listens_is_given_up() {
    let (mut remote, _theirs) = remote();
    let neighbor = "x".repeat(1 << 20);
    for _ in 0..65 {
        let neighbor = neighbor.clone();
        assert!(remote.tell(ToControl::Reset { vrf: VrfIndex(0), neighbor }, Instant::ZERO));
    }
    assert!(remote.read().is_err());
}

#[test]
fn a_process_says_what_follows_from_what_it_is_told_and_ends_with_the_socket() {
    let (mut remote, theirs) = remote();
    let process = thread::spawn(move || serve(&theirs));
    let routers = configurations();
    let router = routers.iter().find(|router| router.name == "ce1").unwrap();
    let mut attachments = BTreeMap::new();
    for (index, attachment) in router.attachments.iter().enumerate() {
        let index = AttachmentIndex(index as u16);
        attachments.insert(attachment.name.clone(), index);
        let known = Attachment {
            name: attachment.name.clone(),
            vrf: VrfIndex(0),
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            mtu: attachment.mtu,
            addresses: attachment.addresses.iter().map(|each| each.address).collect(),
            carrier: true,
            on_link: attachment.addresses.iter().map(|each| each.on_link).collect(),
        };
        remote.tell(ToControl::SetAttachment { index, attachment: known }, Instant::ZERO);
    }
    let config = router.vrfs[0].clone();
    let neighbors = config.neighbors.len();
    remote.tell(ToControl::SetVrf { index: VrfIndex(0), config, attachments }, Instant::ZERO);
    assert!(!remote.is_settled());
    while !remote.is_settled() {
        remote.read().unwrap();
    }
    let mut has_route = false;
    while let Some(outcome) = remote.poll() {
        match outcome {
            Outcome::Changes(changes) => {
                has_route |= changes.iter().any(|change| matches!(change, Change::Route { .. }));
            }
            Outcome::Inject(_) => assert!(has_route, "installed, then advertised"),
        }
    }
    assert!(has_route);
    assert_eq!(remote.state().peers(VrfIndex(0)).len(), neighbors);
    assert!(!remote.routes(VrfIndex(0)).is_empty());
    drop(remote);
    process.join().unwrap().unwrap();
}

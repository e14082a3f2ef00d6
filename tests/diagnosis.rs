//! Customer edges that are configured wrong: what a drill that does not come up says about each.
//! First lines are compared exactly, since they are what a person acts on.

use std::path::Path;
use std::time::Duration;

use msee::config::drill::Directions;
use msee::config::lab::Lab as File;
use msee::config::{self, Place, Segment};
use msee::drill::report::Verdict;
use msee::fabric::{Fault, FaultScope};
use msee::lab::Lab;
use msee::lab::diagnosis::diagnose;
use msee::lab::watch::Watch;
use msee::model::LinkRole;

/// `PRIMARY` is replaced by settings of the uplink to the primary link.
const LAB: &str = "
seed: 7
circuits:
  - name: ams
    stag: 2101
    serviceProviderProperties: { serviceProviderName: Equinix, peeringLocation: Amsterdam, bandwidthInMbps: 1000 }
    peerings:
      - peeringType: AzurePrivatePeering
        peerASN: 65010
        vlanId: 100
        primaryPeerAddressPrefix: 172.16.0.0/30
        secondaryPeerAddressPrefix: 172.16.0.4/30
sites:
  - name: dc1
    asn: 65010
    networks: [ { name: erp, prefix: 192.168.0.0/22 } ]
    routers:
      - name: ce1
        uplinks: [ { circuit: ams, link: primary, PRIMARY }, { circuit: ams, link: secondary } ]
      - { name: core, gatewayOf: [erp], ibgp: [ce1] }
virtualNetworks:
  - name: hub
    addressPrefixes: [10.1.0.0/16]
    gateways: [ { name: er, connections: [ { circuit: ams } ] } ]
    convergence: ideal
";

const IPV6: &str = r#"172.16.0.4/30
        ipv6PeeringConfig:
          primaryPeerAddressPrefix: "2001:db8:ffff::/126"
          secondaryPeerAddressPrefix: "2001:db8:ffff::4/126""#;

fn dual_stack() -> String {
    let lab = LAB.replace("172.16.0.4/30", IPV6);
    lab.replace(
        "addressPrefixes: [10.1.0.0/16]",
        "addressPrefixes: [10.1.0.0/16, \"2001:db8:1::/48\"]",
    )
}

fn with_key(lab: &str) -> String {
    lab.replace("vlanId: 100\n", "vlanId: 100\n        sharedKey: \"Lab4711x\"\n")
}

/// What a drill says of a lab that does not come up; nothing when it does.
fn diagnoses(lab: &str, uplink: &str) -> Vec<String> {
    let lab = load(&lab.replace("PRIMARY", uplink));
    let drill = "lab: lab.yaml\ntraffic: [ { name: erp, kind: probe, from: dc1.erp, to: hub.app, \
                 directions: both, flows: 2, rate: 20pps, size: 256 } ]\n\
                 steps: [ { step: baseline, for: 1s } ]\nexpect: []\n";
    let drill = config::load_drill(Path::new("drill.yaml"), drill, &lab);
    let drill = drill.unwrap_or_else(|errors| panic!("{errors}"));
    let report = msee::drill::run(&lab, &drill, &mut |_| {});
    let told = report.runs[0].not_started.clone();
    assert_eq!(report.verdict == Verdict::Invalid, !told.is_empty());
    assert!(report.runs[0].conservation.held);
    told
}

fn load(text: &str) -> File {
    config::load_lab(Path::new("lab.yaml"), text).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The first lines; every other line is evidence, and indented.
fn first_lines(told: &[String]) -> Vec<&str> {
    let evidence = told.iter().flat_map(|text| text.lines().skip(1));
    assert!(evidence.clone().all(|line| line.starts_with("  ")), "{told:?}");
    assert_eq!(told.is_empty(), evidence.count() == 0);
    told.iter().map(|text| text.lines().next().unwrap()).collect()
}

#[test]
fn a_right_lab_has_no_diagnosis() {
    for lab in [LAB.to_owned(), with_key(LAB), dual_stack()] {
        assert_eq!(diagnoses(&lab, ""), Vec::<String>::new());
    }
}

#[test]
fn a_tag_where_none_is_taken() {
    let lab = LAB.replace("    stag: 2101\n", "    stag: 2101\n    provider: { uni: untagged }\n");
    assert_eq!(
        first_lines(&diagnoses(&lab, "vlanId: 200")),
        [
            "ams/primary: no ARP reply from 172.16.0.1 on S2101/C100; frames ce1 sends with tag 200: \
          29, the provider takes no tag there. Check vlanId and uni."
        ]
    );
}

#[test]
fn a_link_without_a_router() {
    let lab = LAB.replace(", { circuit: ams, link: secondary }", "");
    assert_eq!(
        first_lines(&diagnoses(&lab, "")),
        ["ams/secondary: no router is on this link. Give one an uplink { circuit: ams, link: \
          secondary }."]
    );
}

/// Faults of the link itself, which no file has: carrier that is lost, and frames that vanish.
#[test]
fn a_link_that_carries_nothing() {
    let place = |segment| Place { circuit: "ams".to_owned(), link: LinkRole::Primary, segment };
    let (access, nni) = (place(Segment::Access), place(Segment::Nni));
    let faults = [
        (
            &access,
            Fault::Cut,
            "the access link has no carrier at ce1. Look at the port and its link.",
        ),
        (&nni, Fault::Cut, "the provider's link has no carrier at the MSEE. Look at the provider."),
        (
            &access,
            Fault::Blackhole(FaultScope::All),
            "no frame from ce1 on S2101/C100; on the access link: 17. Look at the provider.",
        ),
    ];
    for (place, fault, expected) in faults {
        let mut lab = Lab::new(&load(&LAB.replace("PRIMARY", "")), 1);
        lab.break_at(place, Directions::Both, fault);
        let mut watch = Watch::new(&mut lab);
        lab.run_until(lab.now() + Duration::from_mins(1), &mut watch);
        let observed = watch.finish(&mut lab);
        let told = diagnose(&lab, &observed);
        assert_eq!(first_lines(&told), [format!("ams/primary: {expected}")]);
    }
}

#[test]
fn a_wrong_inner_tag() {
    assert_eq!(
        first_lines(&diagnoses(LAB, "vlanId: 200")),
        ["ams/primary: no ARP reply from 172.16.0.1 on S2101/C100; frames seen on \
              S2101/C200: 29. Check vlanId."],
    );
}

#[test]
fn swapped_halves_of_the_subnet() {
    assert_eq!(
        first_lines(&diagnoses(LAB, "address: 172.16.0.2")),
        ["ams/primary: 172.16.0.2 is used by ce1; the customer has the first usable \
              address 172.16.0.1, Microsoft the second (6.1). Check the addresses at ce1."],
    );
    assert_eq!(
        first_lines(&diagnoses(&dual_stack(), "address: \"2001:db8:ffff::2\"")),
        ["ams/primary (IPv6): 2001:db8:ffff::2 is used by ce1; the customer has the \
              first usable address 2001:db8:ffff::1, Microsoft the second (6.1). Check the \
              addresses at ce1."],
    );
}

#[test]
fn another_subnet() {
    assert_eq!(
        first_lines(&diagnoses(LAB, "address: 172.16.0.9")),
        ["ams/primary: 172.16.0.9 is used by ce1; the customer has the first usable \
              address 172.16.0.1, Microsoft the second (6.1). Check the addresses at ce1."],
    );
}

#[test]
fn a_wrong_asn() {
    let lab = LAB.replace("asn: 65010\n", "asn: 65011\n");
    assert_eq!(
        first_lines(&diagnoses(&lab, "")),
        [
            "ams/primary: ce1 opens as AS 65011, peerASN is 65010: 2/2 Bad Peer AS. Check \
              peerASN and the ASN of ce1.",
            "ams/secondary: ce1 opens as AS 65011, peerASN is 65010: 2/2 Bad Peer AS. \
              Check peerASN and the ASN of ce1."
        ],
    );
}

#[test]
fn keys_that_do_not_agree() {
    assert_eq!(
        first_lines(&diagnoses(&with_key(LAB), "sharedKey: \"\"")),
        ["ams/primary: the MSEE signs its BGP segments (TCP-MD5), ce1 does not; a \
              router with a key drops what is not signed. Set the sharedKey of the peering \
              at ce1."],
    );
    assert_eq!(
        first_lines(&diagnoses(LAB, "sharedKey: Other1")),
        ["ams/primary: ce1 signs its BGP segments (TCP-MD5), the MSEE does not; a \
              router with a key drops what is not signed. Set the key as sharedKey of the \
              peering, or take it off ce1."],
    );
    assert_eq!(
        first_lines(&diagnoses(&with_key(LAB), "sharedKey: Other1")),
        ["ams/primary: ce1 and the MSEE sign their BGP segments (TCP-MD5) and neither \
              answers the other: the keys differ. Check sharedKey."],
    );
}

#[test]
fn ttl_security() {
    for lab in [LAB.to_owned(), with_key(LAB)] {
        assert_eq!(
            first_lines(&diagnoses(&lab, "ttlSecurity: true")),
            ["ams/primary: ce1's BGP segments arrive with TTL 255 and it answers nothing \
              that arrives with TTL 1: ttl-security or multihop; sessions to an MSEE are \
              single hop, without GTSM (section 20). Take it off the neighbor at ce1."],
        );
    }
}

//! What the snapshots in `fixtures/edges` cannot show: trunks with two tags, names of interfaces.

use super::*;
use crate::config;
use crate::model::VlanId;

fn customer(case: &str, router: &str) -> Customer {
    let path = std::path::PathBuf::from(format!("fixtures/edges/{case}/lab.yaml"));
    let text = std::fs::read_to_string(&path).unwrap();
    Customer::of(&config::load_lab(&path, &text).unwrap(), router).unwrap()
}

/// Both links of the circuit on one port, told apart by the outer tag.
fn trunk() -> Customer {
    let mut customer = customer("two-uplinks", "ce1");
    for (outer, link) in [2101, 2102].into_iter().zip(&mut customer.links) {
        let [outer, inner] = [outer, 100].map(|tag| VlanId::new(tag).unwrap());
        link.encapsulation = Encapsulation::QinQ { outer, inner };
        link.port = "eth1".to_owned();
        link.interface = sub_interface(&link.port, link.encapsulation);
    }
    customer
}

fn lines_with<'a>(text: &'a str, part: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.contains(part)).collect()
}

#[test]
fn a_trunk_has_both_tags_in_every_language() {
    let customer = trunk();
    let [frr, bird, ios, junos] = [0, 1, 2, 3].map(|row| (FORMATS[row].configuration)(&customer));
    for linux in [&frr, &bird] {
        let added: Vec<_> = lines_with(linux, "ip link add link");
        assert_eq!(added.len(), 4, "{added:?}");
        assert!(added[1].ends_with("link eth1.2101 name eth1.2101.100 type vlan id 100"));
        assert_eq!(lines_with(linux, "ip link set dev eth1 up").len(), 1, "the port once");
    }
    assert_eq!(lines_with(&frr, "interface eth1.2102.100").len(), 1);
    assert_eq!(
        lines_with(&ios, "second-dot1q"),
        [
            " encapsulation dot1Q 2101 second-dot1q 100",
            " encapsulation dot1Q 2102 second-dot1q 100"
        ]
    );
    assert_eq!(lines_with(&junos, "tagging"), ["set interfaces eth1 flexible-vlan-tagging"]);
    assert_eq!(lines_with(&junos, "vlan-tags outer 0x8100.2101 inner 0x8100.100").len(), 1);
}

/// A snapshot cannot tell whether two units of a Junos port are the same one.
#[test]
fn sub_interfaces_of_a_trunk_are_apart() {
    let junos = junos::configuration(&trunk());
    let described = lines_with(&junos, "description ams/");
    let units: std::collections::BTreeSet<_> = described
        .iter()
        .filter(|line| line.contains("interfaces"))
        .map(|line| line.split(' ').nth(4))
        .collect();
    assert_eq!(units.len(), 2, "{described:?}");
}

#[test]
fn in_a_lab_the_configuration_is_that_of_the_paste_with_another_opening() {
    let customer = customer("dual-stack", "ce1");
    let both =
        [Ports::SubInterfaces, Ports::Plain].map(|ports| frr::configuration(&customer, ports));
    assert_ne!(both[0], both[1]);
    let [paste, lab] = both.map(|text| {
        let counts = |line: &&str| !line.starts_with('!');
        text.lines().filter(counts).map(str::to_owned).collect::<Vec<_>>()
    });
    assert_eq!(paste, lab);
}

#[test]
fn names_of_interfaces_fit_into_linux_and_stay_apart() {
    assert_eq!(interface_inside("to:ce1", 0), "to-ce1");
    assert_eq!(interface_inside("lan:a-host-with-15", 3), "lan-a-host-wi.3");
    let customer = customer("core", "core-of-the-first-site");
    let names: Vec<_> = customer.links.iter().map(|link| link.interface.as_str()).collect();
    assert_eq!(names, ["to-ce1", "to-ce2"]);
    let customer = self::customer("core", "ce1");
    assert_eq!(customer.links[1].interface, "to-core-of-th.1");
    assert!(customer.links.iter().all(|link| link.interface.len() <= INTERFACE_NAME_LEN_MAX));
}

#[test]
fn a_router_that_is_not_there_has_no_configuration() {
    let path = std::path::Path::new("fixtures/labs/quickstart.yaml");
    let lab = config::load_lab(path, &std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(Customer::of(&lab, "ce1").is_some());
    assert!(Customer::of(&lab, "hub").is_none());
}

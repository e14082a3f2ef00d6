use std::path::Path;

use super::*;
use crate::config::load_lab;

const QUICKSTART: &str = include_str!("../../../fixtures/labs/quickstart.yaml");
const DUAL_STACK: &str = include_str!("../../../fixtures/labs/dual-stack.yaml");

fn wiring(text: &str) -> Wiring {
    Wiring::of(&load_lab(Path::new("lab.yaml"), text).expect("the lab is fine")).unwrap()
}

fn node_names(wiring: &Wiring) -> Vec<&str> {
    wiring.nodes.iter().map(|node| node.name.as_str()).collect()
}

fn link<'w>(wiring: &'w Wiring, node: &str, interface: &str) -> &'w Link {
    let there = |link: &&Link| link.node.node == node && link.node.interface == interface;
    wiring.links.iter().find(there).unwrap_or_else(|| panic!("{node} has no {interface}"))
}

fn address(text: &str, on_link: &str) -> AddressOnLink {
    AddressOnLink { address: text.parse().unwrap(), on_link: on_link.parse().unwrap() }
}

#[test]
fn each_host_has_a_namespace_and_a_link_to_the_port_compiled_for_it() {
    let wiring = wiring(QUICKSTART);
    assert_eq!(node_names(&wiring), ["dc1.erp", "hub.app"]);
    assert_eq!(wiring.bypasses, []);
    let host = link(&wiring, "dc1.erp", "eth0");
    assert_eq!((host.router.router.as_str(), host.router.port.as_str()), ("ce1", "lan:erp"));
    assert_eq!(host.router.interface, "dc1.erp");
    assert_eq!(host.node.addresses, [address("192.168.0.10", "192.168.0.0/22")]);
    assert_eq!(host.node.gateways, ["192.168.0.1".parse::<IpAddr>().unwrap()]);
    // What is on the host's block is behind its router as well.
    assert!(!host.node.connected);
    let vm = link(&wiring, "hub.app", "eth0");
    assert_eq!((vm.router.router.as_str(), vm.router.port.as_str()), ("hub", "host:app"));
    assert_eq!((vm.node.mtu, vm.router.mtu), (1400, 1508));
    assert_eq!(vm.node.gateways, ["10.1.0.1".parse::<IpAddr>().unwrap()]);
    assert_ne!(host.node.mac, vm.node.mac);
}

#[test]
fn behind_models_of_hosts_only_kernels_with_tcp_flows_have_addresses() {
    let tcp = BTreeSet::from(["dc1.erp".to_owned()]);
    let wiring = wiring(QUICKSTART).for_models(&tcp);
    let host = &link(&wiring, "dc1.erp", "eth0").node;
    assert_eq!(host.addresses, [address("192.168.0.10", "192.168.0.0/22")]);
    // As the model has it (L-26).
    assert_eq!(host.mtu, HOST_MTU);
    let vm = &link(&wiring, "hub.app", "eth0").node;
    assert!(vm.addresses.is_empty() && vm.gateways.is_empty());
}

#[test]
fn an_external_edge_has_its_uplinks_by_name_and_its_lan_past_the_built_in_routers() {
    let file = QUICKSTART.replace("- name: ce1", "- name: ce1\n        kind: frr").replace(
        "uplinks: [ { circuit: ams, link: primary }",
        "uplinks: [ { circuit: ams, link: primary, port: wan0 }",
    );
    let wiring = wiring(&file);
    assert_eq!(node_names(&wiring), ["dc1.erp", "hub.app", "ce1"]);
    let uplink = link(&wiring, "ce1", "wan0.100");
    assert_eq!(uplink.name, "ams/primary:access");
    assert_eq!(uplink.router.router, "Equinix Amsterdam");
    assert_eq!(uplink.router.port, "uni:ams/primary");
    assert_eq!(uplink.router.tag, VlanId::new(100).ok());
    assert_eq!(uplink.node.addresses, [], "FRR sets them");
    let [bypass] = &wiring.bypasses[..] else { panic!("{:?}", wiring.bypasses) };
    let [host, edge] = &bypass.ends;
    assert_eq!((host.node.as_str(), edge.node.as_str()), ("dc1.erp", "ce1"));
    assert_eq!(edge.interface, "lan-erp");
    assert_eq!(edge.addresses, [address("192.168.0.1", "192.168.0.10/32")]);
}

#[test]
fn an_untagged_uplink_is_the_port_itself() {
    let file = QUICKSTART
        .replace("stag: 2101", "stag: 2101\n    provider: { uni: untagged }")
        .replace("- name: ce1", "- name: ce1\n        kind: bird");
    let wiring = wiring(&file);
    let uplinks: Vec<_> = wiring.links.iter().filter(|link| link.node.node == "ce1").collect();
    assert_eq!(uplinks.len(), 2);
    assert_eq!(uplinks[0].node.addresses, [address("172.16.0.1", "172.16.0.1/30")]);
    assert!(uplinks[0].node.connected);
    for uplink in uplinks {
        assert_eq!(uplink.router.tag, None);
        assert!(!uplink.node.interface.contains('.'), "{}", uplink.node.interface);
    }
}

#[test]
fn routers_of_a_site_are_joined_past_the_built_in_ones_where_both_are_external() {
    let one = DUAL_STACK.replace("- name: ce1", "- name: ce1\n        kind: frr");
    let joined = link(&wiring(&one), "ce1", "to-core").clone();
    assert_eq!((joined.router.router.as_str(), joined.router.port.as_str()), ("core", "to:ce1"));
    assert_eq!(joined.node.addresses.len(), 2);
    let both = one.replace("{ name: core,", "{ name: core, kind: frr,");
    let wiring = wiring(&both);
    let between = wiring.bypasses.iter().find(|bypass| bypass.name == "ce1–core").unwrap();
    let [a, b] = &between.ends;
    assert_eq!((a.interface.as_str(), b.interface.as_str()), ("to-core", "to-ce1"));
    assert!(a.addresses[0].on_link.contains(&b.addresses[0].address));
}

#[test]
fn names_of_the_kernel_are_short_and_unique() {
    let mut names = InterfaceNames::default();
    let made: Vec<_> = ["hub.app", "hub.app", "headquarters.erp-1", "headquarters.erp-2", "lo"]
        .map(|wanted| names.make(wanted))
        .into();
    assert_eq!(made, ["hub.app", "hub.app~1", "headquarters.~1", "headquarters.~2", "lo~1"]);
    assert!(made.iter().all(|name| name.len() <= INTERFACE_NAME_MAX));
}

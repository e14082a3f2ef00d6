//! The lab as a picture: nodes in columns from the site's hosts to the VNets', and the links that
//! the drill's events were done to.

use std::collections::BTreeMap;

use crate::azure;
use crate::config::drill::{Drill, Event, Target};
use crate::config::lab::Lab;
use crate::config::{NodeRef, Segment, SessionRef};
use crate::drill::report::{Topology, TopologyLink, TopologyNode};
use crate::model::LinkRole;

/// Columns, by the kind of node.
const COLUMNS: [&str; 7] = ["host", "core", "edge", "provider", "msee", "gateway", "vnet"];

/// The picture of a lab; `failed_in` names the steps of the drill.
pub fn draw(file: &Lab, drill: &Drill) -> Topology {
    let mut picture = Picture::default();
    picture.sites(file);
    picture.circuits(file);
    picture.virtual_networks(file);
    for step in &drill.steps {
        let Some(event) = step.event.as_ref().filter(|event| breaks(event)) else { continue };
        for target in event.targets() {
            picture.mark(file, &target, &step.name);
        }
    }
    picture.topology
}

/// Whether an event makes something worse.
const fn breaks(event: &Event) -> bool {
    !matches!(
        event,
        Event::Restore { .. }
            | Event::PeeringEnable { .. }
            | Event::Bandwidth { .. }
            | Event::ProviderRate { .. }
            | Event::Announce { .. }
    )
}

#[derive(Default)]
struct Picture {
    topology: Topology,
    places: BTreeMap<String, usize>,
}

impl Picture {
    fn node(&mut self, name: &str, kind: &str, detail: String) -> usize {
        if let Some(&place) = self.places.get(name) {
            return place;
        }
        let column = COLUMNS.iter().position(|other| *other == kind).unwrap_or(0) as u8;
        // The VNets' hosts stand behind the VNets, as the sites' stand before the sites.
        let column = if kind == "vm" { COLUMNS.len() as u8 } else { column };
        let place = self.topology.nodes.len();
        let (name, kind) = (name.to_owned(), kind.to_owned());
        self.places.insert(name.clone(), place);
        self.topology.nodes.push(TopologyNode { name, kind, column, detail });
        place
    }

    fn link(&mut self, name: String, from: usize, to: usize) {
        self.topology.links.push(TopologyLink { name, from, to, failed_in: Vec::new() });
    }

    fn sites(&mut self, file: &Lab) {
        for site in &file.sites {
            for router in &site.routers {
                let kind = if router.uplinks.is_empty() { "core" } else { "edge" };
                self.node(&router.name, kind, format!("AS {}", site.asn));
            }
            for router in &site.routers {
                for other in router.ibgp.iter().filter(|other| router.name < **other) {
                    let ends = [&router.name, other].map(|name| self.places[name]);
                    self.link(format!("{}–{other}", router.name), ends[0], ends[1]);
                }
            }
            for network in &site.networks {
                for host in &network.hosts {
                    let name = format!("{}.{}", site.name, host.name);
                    let place = self.node(&name, "host", network.prefix.to_string());
                    if let Some(router) = site.gateway_of(&network.name) {
                        let gateway = self.places[&router.name];
                        self.link(name, place, gateway);
                    }
                }
            }
        }
    }

    fn circuits(&mut self, file: &Lab) {
        for circuit in &file.circuits {
            let detail = format!("{} {}", circuit.name, circuit.bandwidth);
            let provider = azure::provider_name(circuit);
            for link in LinkRole::BOTH {
                let place = format!("{}/{link}", circuit.name);
                let name = format!("{provider} {link}");
                let cross_connect = self.node(&name, "provider", detail.clone());
                let msee = azure::msee_name(file, circuit, link);
                let msee = self.node(&msee, "msee", circuit.peering_location.clone());
                if let Some((_, edge)) = file.edge_of(&circuit.name, link) {
                    let edge = self.places[&edge.name];
                    self.link(format!("{place}:access"), edge, cross_connect);
                }
                self.link(format!("{place}:nni"), cross_connect, msee);
            }
        }
    }

    fn virtual_networks(&mut self, file: &Lab) {
        for vnet in &file.virtual_networks {
            let prefixes: Vec<_> = vnet.address_prefixes.iter().map(ToString::to_string).collect();
            let vnet_place = self.node(&vnet.name, "vnet", prefixes.join(", "));
            for gateway in &vnet.gateways {
                let name = format!("{}/{}", vnet.name, gateway.name);
                let detail = format!("{:?}, {} instances", gateway.sku, gateway.instances());
                let place = self.node(&name, "gateway", detail);
                for connection in &gateway.connections {
                    let Some(circuit) = file.circuit(&connection.circuit) else { continue };
                    for link in LinkRole::BOTH {
                        let msee = self.places[&azure::msee_name(file, circuit, link)];
                        self.link(format!("{}/{link}:core", circuit.name), msee, place);
                    }
                }
                self.link(name, place, vnet_place);
            }
            for host in &vnet.hosts {
                let name = format!("{}.{}", vnet.name, host.name);
                let addresses: Vec<_> = host.addresses.iter().map(ToString::to_string).collect();
                let place = self.node(&name, "vm", addresses.join(", "));
                self.link(name, vnet_place, place);
            }
        }
    }

    /// Marks what an event was done to.
    fn mark(&mut self, file: &Lab, target: &Target, step: &str) {
        match target {
            Target::Place(place) => {
                let segment = match place.segment {
                    Segment::Access => "access",
                    Segment::Nni => "nni",
                    Segment::Core => "core",
                };
                self.mark_link(&format!("{}/{}:{segment}", place.circuit, place.link), step);
            }
            Target::Session(SessionRef::Link(place)) | Target::Link(place) => {
                self.mark_link(&format!("{}/{}:access", place.circuit, place.link), step);
                self.mark_link(&format!("{}/{}:nni", place.circuit, place.link), step);
            }
            Target::Session(SessionRef::Between(a, b)) => {
                let ends = [a, b].map(|node| self.place_of(file, node));
                if let [Some(a), Some(b)] = ends {
                    self.mark_links(step, |link| {
                        (link.from, link.to) == (a, b) || (link.from, link.to) == (b, a)
                    });
                }
            }
            Target::Node(node) => {
                if let Some(place) = self.place_of(file, node) {
                    self.mark_links(step, |link| link.from == place || link.to == place);
                }
            }
            Target::Peering(peering) => {
                for link in LinkRole::BOTH {
                    self.mark_link(&format!("{}/{link}:access", peering.circuit), step);
                    self.mark_link(&format!("{}/{link}:nni", peering.circuit), step);
                }
            }
            Target::Circuit(_) => {}
        }
    }

    fn place_of(&self, file: &Lab, node: &NodeRef) -> Option<usize> {
        let name = match node {
            NodeRef::SiteRouter(name) => name.clone(),
            NodeRef::Msee(place) => {
                azure::msee_name(file, file.circuit(&place.circuit)?, place.link)
            }
            NodeRef::Gateway { vnet, gateway, .. } => format!("{vnet}/{gateway}"),
        };
        self.places.get(&name).copied()
    }

    fn mark_link(&mut self, name: &str, step: &str) {
        self.mark_links(step, |link| link.name == name);
    }

    fn mark_links(&mut self, step: &str, is: impl Fn(&TopologyLink) -> bool) {
        for link in self.topology.links.iter_mut().filter(|link| is(link)) {
            if !link.failed_in.iter().any(|other| other == step) {
                link.failed_in.push(step.to_owned());
            }
        }
    }
}

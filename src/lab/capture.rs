//! Captures of what a lab's links carry: of all of them, or for a client of those of a node.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::azure;
use crate::fabric::{Direction, LinkCapture, LinkIndex, RealTime};
use crate::io::capture::{Capture, CaptureError, Written};
use crate::lab::{Lab, show, sites};
use crate::model::{Instant, LinkRole};
use crate::sys::clock;

/// Captures for clients at a time.
const CLIENTS_MAX: usize = 4;

/// Where a client may capture, and replay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct PortOf {
    pub node: String,
    /// Empty for a host, which has one.
    pub port: String,
    pub link: LinkIndex,
    /// Away from the node.
    pub outbound: Direction,
}

impl PortOf {
    /// As in the capture, and what a client may ask for.
    pub fn name(&self) -> String {
        if self.port.is_empty() { self.node.clone() } else { [&*self.node, &self.port].join("/") }
    }
}

impl Lab {
    /// Writes what every link carries and every router drops to a new pcapng file, until
    /// [`Lab::end_capture`]. Virtual time begins at the epoch.
    pub fn capture(&mut self, file: File) {
        let mut capture = LinkCapture::new(Capture::new(file, self.zero()));
        self.add_links(&mut capture, |_| true);
        for (name, &router) in &self.routers {
            capture.add_router(router, name);
        }
        self.fabric.capture(capture);
    }

    /// Sends a client what a node's ports carry, or one of them, with what the node drops of it; or
    /// what a link carries, as drills call it. It goes on until the client ends it, as long as
    /// [`Lab::tend_captures`] is called.
    ///
    /// # Errors
    /// There is no such place, or there are too many captures; for a person.
    pub fn capture_for(&mut self, client: UnixStream, place: &str) -> Result<(), String> {
        if self.fabric.captures() >= CLIENTS_MAX {
            return Err(format!("{CLIENTS_MAX} captures are running; end one of them"));
        }
        let mut capture = LinkCapture::new(Capture::to_client(client, self.zero()));
        let ports = self.all_ports();
        let of_place = self.ports_at(&ports, place);
        for port in &of_place {
            capture.add_port(port.link, &port.name(), port.outbound);
        }
        let nodes: BTreeSet<_> = of_place.iter().map(|port| &port.node).collect();
        for (name, &router) in self.routers.iter().filter(|(name, _)| nodes.contains(name)) {
            capture.add_router(router, name);
        }
        if of_place.is_empty() && !self.add_links(&mut capture, |name| name == place) {
            return Err(show::unknown("node, port or link", place, names_of(&ports)));
        }
        self.fabric.capture(capture);
        Ok(())
    }

    /// The one port that a place is: a node's only one, or one of it.
    ///
    /// # Errors
    /// It is none, or several; for a person.
    pub(super) fn port_at(&self, place: &str) -> Result<PortOf, String> {
        let ports = self.all_ports();
        let mut found = self.ports_at(&ports, place);
        match found.len() {
            0 => Err(show::unknown("node or port", place, names_of(&ports))),
            1 => Ok(found.remove(0)),
            _ => {
                let names: Vec<_> = found.iter().map(PortOf::name).collect();
                Err(format!("{place} has several ports; name one of {}", names.join(", ")))
            }
        }
    }

    /// Adds the links that are called so, in drills or in reports. False when there is none.
    fn add_links(&self, capture: &mut LinkCapture, is_asked: impl Fn(&str) -> bool) -> bool {
        let nodes = self.routers.iter().chain(&self.hosts);
        let names: BTreeMap<_, _> = nodes.map(|(name, node)| (*node, name.as_str())).collect();
        let mut found = false;
        for (link, name, ends) in self.fabric.links() {
            // A node that is neither is a port of the host.
            let ends = ends.map(|node| names.get(&node).copied().unwrap_or("the host's port"));
            let places = self.places_of(link);
            if is_asked(name) || places.split(", ").any(&is_asked) {
                capture.add_link(link, if places.is_empty() { name } else { &places }, ends);
                found = true;
            }
        }
        found
    }

    /// Sends clients what they take, and ends captures that are over.
    pub fn tend_captures(&mut self) {
        self.fabric.tend_captures();
    }

    /// All of a node or one of it; none where no node is called so.
    fn ports_at(&self, ports: &[PortOf], place: &str) -> Vec<PortOf> {
        let find = |node: &str, port: Option<&str>| -> Vec<_> {
            let is_known = ports.iter().any(|port| port.node == node);
            let nodes = if is_known { None } else { show::routers(self, Some(node)).ok() };
            let nodes = nodes.unwrap_or_else(|| BTreeSet::from([node.to_owned()]));
            let is = |other: &&PortOf| {
                nodes.contains(&other.node) && port.is_none_or(|port| other.port == port)
            };
            ports.iter().filter(is).cloned().collect()
        };
        // Both names may have slashes.
        let cuts = place.match_indices('/').map(|(at, _)| (&place[..at], Some(&place[at + 1..])));
        let mut found =
            std::iter::once((place, None)).chain(cuts).map(|(node, port)| find(node, port));
        found.find(|found| !found.is_empty()).unwrap_or_default()
    }

    /// Of routers and hosts, those outside included.
    fn all_ports(&self) -> Vec<PortOf> {
        let routers = self.routers.iter().flat_map(|(name, &node)| {
            let names = &self.desired[name].ports;
            self.fabric[node].ports_of(node).map(move |(port, link, outbound)| {
                let port = names[port.index()].name.clone();
                PortOf { node: name.clone(), port, link, outbound }
            })
        });
        let compiled = azure::compile(&self.file).links.into_iter();
        let compiled: Vec<_> = compiled.chain(sites::compile(&self.file).links).collect();
        let outside = |name: &String| {
            let ends = compiled.iter().filter(|link| link.name == *name).flat_map(|l| &l.ends);
            ends.clone().find(|(router, _)| self.is_external(router)).cloned()
        };
        let others = self.hosts.iter().chain(&self.ports).flat_map(|(name, &node)| {
            let (node_name, port) = outside(name).unwrap_or_else(|| (name.clone(), String::new()));
            self.fabric[node].ports_of(node).map(move |(_, link, outbound)| {
                let (node, port) = (node_name.clone(), port.clone());
                PortOf { node, port, link, outbound }
            })
        });
        routers.chain(others).collect()
    }

    /// Wall clock at which the time of the lab began; virtual time begins at the epoch.
    fn zero(&self) -> Duration {
        let began = |time: &RealTime| clock::wall().saturating_sub(time.now().since(Instant::ZERO));
        self.clock.as_ref().map_or(Duration::ZERO, began)
    }

    /// What a provider–MSEE link is called in drills: `ams/primary:nni`, for each circuit on it.
    fn places_of(&self, link: LinkIndex) -> String {
        let circuits = self.file.circuits.iter().map(|circuit| circuit.name.as_str());
        let places = circuits.flat_map(|circuit| LinkRole::BOTH.map(|role| (circuit, role)));
        let here = places.filter(|(circuit, role)| self.nni(circuit, *role) == Some(link));
        let names = here.map(|(circuit, role)| format!("{circuit}/{role}:nni"));
        names.collect::<Vec<_>>().join(", ")
    }

    /// Ends a capture; none where none was begun.
    pub fn end_capture(&mut self) -> Option<Result<Written, CaptureError>> {
        self.fabric.end_capture().map(LinkCapture::finish)
    }
}

/// What ports and their nodes are called, each once.
fn names_of(ports: &[PortOf]) -> impl Iterator<Item = String> {
    let names = ports.iter().flat_map(|port| [port.node.clone(), port.name()]);
    names.collect::<BTreeSet<_>>().into_iter()
}

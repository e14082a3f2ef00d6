//! A capture of everything that a lab's links carry.

use std::collections::BTreeMap;
use std::fs::File;
use std::time::Duration;

use crate::fabric::{LinkCapture, LinkIndex, RealTime};
use crate::io::capture::{Capture, CaptureError, Written};
use crate::lab::Lab;
use crate::model::{Instant, LinkRole};
use crate::sys::clock;

impl Lab {
    /// Writes what every link carries to a new pcapng file, until [`Lab::end_capture`]. Virtual time
    /// begins at the epoch.
    pub fn capture(&mut self, file: File) {
        let began = |time: &RealTime| clock::wall().saturating_sub(time.now().since(Instant::ZERO));
        let zero = self.clock.as_ref().map_or(Duration::ZERO, began);
        let nodes = self.routers.iter().chain(&self.hosts);
        let names: BTreeMap<_, _> = nodes.map(|(name, node)| (*node, name.as_str())).collect();
        let mut capture = LinkCapture::new(Capture::new(file, zero));
        for (link, name, ends) in self.fabric.links() {
            // A node that is neither is a port of the host.
            let ends = ends.map(|node| names.get(&node).copied().unwrap_or("the host's port"));
            let places = self.places_of(link);
            let name = if places.is_empty() { name } else { &places };
            capture.add_link(link, name, ends);
        }
        self.fabric.capture(capture);
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

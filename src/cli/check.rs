//! `msee check FILE`: what a lab or drill file means, or everything that is wrong with it.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::files::{lab_of, open, render};
use crate::cli::tell;
use crate::config::drill::{Drill, TrafficKind};
use crate::config::lab::Lab;
use crate::config::{FileKind, Source};
use clap::Args;

/// Check a lab or drill file
///
/// Finds every problem of the file at once. A drill is checked against its lab.
#[derive(Args, Debug)]
pub struct Check {
    /// A lab, or a drill: a file with `steps:`
    file: PathBuf,
    /// Print the whole file with every default and every value of an extended file, and where it is from
    #[arg(long)]
    expand: bool,
}

impl Check {
    pub fn run(&self) -> ExitCode {
        tell(self.outcome())
    }

    fn outcome(&self) -> Result<String, String> {
        let source = open(&self.file)?;
        match source.kind() {
            FileKind::Lab => self.lab(&source),
            FileKind::Drill => self.drill(&source),
        }
    }

    fn lab(&self, source: &Source) -> Result<String, String> {
        if self.expand {
            return source.expanded_lab().map_err(render);
        }
        source.lab().map(|lab| lab_summary(&lab)).map_err(render)
    }

    fn drill(&self, source: &Source) -> Result<String, String> {
        let lab = lab_of(source)?;
        if self.expand {
            return source.expanded_drill(&lab).map_err(render);
        }
        let drill = source.drill(&lab).map_err(render)?;
        Ok(format!("{}{}", lab_summary(&lab), drill_summary(&drill)))
    }
}

fn lab_summary(lab: &Lab) -> String {
    let mut lines = vec![format!("lab {}: fine", lab.name)];
    for circuit in &lab.circuits {
        let (bandwidth, location) = (circuit.bandwidth, &circuit.peering_location);
        lines.push(format!(
            "  circuit {}: {bandwidth} at {location}, outer tag {}",
            circuit.name, circuit.stag
        ));
    }
    for site in &lab.sites {
        let routers: Vec<_> = site.routers.iter().map(|router| router.name.as_str()).collect();
        let networks: Vec<_> =
            site.networks.iter().map(|network| network.prefix.to_string()).collect();
        lines.push(format!(
            "  site {} (AS {}): {} behind {}",
            site.name,
            site.asn,
            networks.join(", "),
            routers.join(", ")
        ));
    }
    for vnet in &lab.virtual_networks {
        let prefixes: Vec<_> = vnet.address_prefixes.iter().map(ToString::to_string).collect();
        let connections = vnet.gateways.iter().flat_map(|gateway| &gateway.connections);
        let circuits: Vec<_> = connections.map(|connection| connection.circuit.as_str()).collect();
        lines.push(format!(
            "  VNet {}: {}, connected to {}",
            vnet.name,
            prefixes.join(", "),
            circuits.join(", ")
        ));
    }
    lines.join("\n") + "\n"
}

fn drill_summary(drill: &Drill) -> String {
    let mut lines = vec![format!("drill {}: fine", drill.name)];
    for traffic in &drill.traffic {
        let how = match traffic.kind {
            TrafficKind::Probe { .. } => {
                format!("{} flows, one packet in {:?} each", traffic.flows, traffic.resolution())
            }
            TrafficKind::Tcp { rate: Some(rate) } => {
                format!("{} TCP connections, {rate} together", traffic.flows)
            }
            TrafficKind::Tcp { rate: None } => {
                format!("{} TCP connections, as fast as they go", traffic.flows)
            }
        };
        lines.push(format!("  traffic {}: {} → {}, {how}", traffic.name, traffic.from, traffic.to));
    }
    for step in &drill.steps {
        let event = step.event.as_ref().map_or("waits", |event| event.name());
        lines.push(format!("  step {}: {event}", step.name));
    }
    lines.push(format!("  {} expectations, {} run(s)", drill.expect.len(), drill.runs));
    lines.join("\n") + "\n"
}

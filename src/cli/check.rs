//! `msee check FILE`: what a lab or drill file means, or everything that is wrong with it.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::files::{load_drill, read, render};
use crate::cli::{COULD_NOT_RUN, print};
use crate::config::drill::Drill;
use crate::config::lab::Lab;
use crate::config::{self, FileKind};
use clap::Args;

/// Check a lab or drill file
///
/// Finds every problem of the file at once. A drill is checked against its lab.
#[derive(Args, Debug)]
pub struct Check {
    /// A lab, or a drill: a file with `steps:`
    file: PathBuf,
    /// Print the whole file with every default and where it is from
    #[arg(long)]
    expand: bool,
}

impl Check {
    pub fn run(&self) -> ExitCode {
        match self.outcome() {
            Ok(text) => print(&text),
            Err(text) => {
                eprint!("{text}");
                ExitCode::from(COULD_NOT_RUN)
            }
        }
    }

    fn outcome(&self) -> Result<String, String> {
        let text = read(&self.file)?;
        match config::kind_of(&text) {
            FileKind::Lab => self.lab(&text),
            FileKind::Drill => self.drill(&text),
        }
    }

    fn lab(&self, text: &str) -> Result<String, String> {
        let lab = config::load_lab(&self.file, text).map_err(render)?;
        if self.expand {
            return config::expand_lab(&self.file, text).map_err(render);
        }
        Ok(lab_summary(&lab))
    }

    fn drill(&self, text: &str) -> Result<String, String> {
        let (lab, drill) = load_drill(&self.file)?;
        if self.expand {
            return config::expand_drill(&self.file, text, &lab).map_err(render);
        }
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
        lines.push(format!(
            "  traffic {}: {} → {}, {} flows, one packet in {:?} each",
            traffic.name,
            traffic.from,
            traffic.to,
            traffic.flows,
            traffic.resolution(),
        ));
    }
    for step in &drill.steps {
        let event = step.event.as_ref().map_or("waits", |event| event.name());
        lines.push(format!("  step {}: {event}", step.name));
    }
    lines.push(format!("  {} expectations, {} run(s)", drill.expect.len(), drill.runs));
    lines.join("\n") + "\n"
}

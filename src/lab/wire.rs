//! What a lab's links are made of.

use std::io;
use std::path::Path;

use thiserror::Error;

use crate::config::lab::Lab as LabFile;
use crate::io::Port;
use crate::io::packet::{Mode, PacketPort};
use crate::lab::daemons::Daemons;
use crate::lab::kernel_tcp;
use crate::lab::wiring::{Namespaces, NodeEnd, Wiring};
use crate::lab::{Lab, Ports};
use crate::sys::packet::{self, Interface};

/// Where a lab's frames go.
#[derive(Clone, Copy, Debug)]
pub enum Wire<'w> {
    /// Simulated time; all links in memory.
    Virtual,
    /// The host's clock; hosts are reached over veth pairs.
    Veth {
        wiring: &'w Wiring,
        namespaces: &'w Namespaces,
        daemons: &'w Daemons,
        /// See [`Lab::on_wire`].
        program: Option<&'w Path>,
    },
}

/// Why a lab's ports could not be opened.
#[derive(Debug, Error)]
pub enum WireError {
    #[error(transparent)]
    Packet(#[from] packet::Error),
    #[error("namespace {name}: {source}")]
    Namespace { name: String, source: io::Error },
}

impl Wire<'_> {
    /// As in reports.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Virtual => "virtual",
            Self::Veth { .. } => "veth",
        }
    }

    /// Whether several labs can be at once on this wire.
    pub const fn is_shared(&self) -> bool {
        matches!(self, Self::Virtual)
    }

    /// A lab with hosts of its own, which send a drill's traffic but TCP on veth pairs: that is the
    /// kernels' of the hosts that have addresses. On veth pairs the routers that are
    /// programs of somebody else's are those that run in the namespaces.
    pub fn lab(&self, file: &LabFile, seed: u64) -> Result<Lab, WireError> {
        match self {
            Self::Virtual => Ok(Lab::new(file, seed)),
            Self::Veth { wiring, namespaces, daemons, program } => {
                let (near, far) = (wiring.ports()?, far_ports(wiring, namespaces)?);
                let mut lab = Lab::on_wire(file, seed, near, far, *program);
                lab.set_operator(daemons.operator());
                Ok(lab)
            }
        }
    }
}

/// The ends of the links in the namespaces of the hosts, also where a host is behind a router that
/// is outside.
fn far_ports(wiring: &Wiring, namespaces: &Namespaces) -> Result<Ports, WireError> {
    let links = wiring.links.iter().map(|link| (&link.name, &link.node));
    let bypasses = wiring.bypasses.iter();
    let behind = bypasses.flat_map(|bypass| bypass.ends.iter().map(|end| (&bypass.name, end)));
    let open = |(link, end): (&String, &NodeEnd)| {
        let name = &end.node;
        let failed = |source| WireError::Namespace { name: name.clone(), source };
        let opened = namespaces[name.as_str()].run(|| {
            if !end.addresses.is_empty() {
                kernel_tcp::prepare().map_err(failed)?;
            }
            Ok::<_, WireError>(open(&end.interface)?)
        });
        let port = opened.map_err(failed)??;
        let port: Box<dyn Port> = Box::new(port);
        Ok((link.clone(), port))
    };
    links.chain(behind).filter(|(_, end)| wiring.is_host(&end.node)).map(open).collect()
}

fn open(interface: &str) -> Result<PacketPort, packet::Error> {
    PacketPort::open(Interface::by_name(interface)?, Mode::VnetHdr)
}

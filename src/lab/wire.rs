//! What a lab's links are made of.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::config::lab::Lab as LabFile;
use crate::fabric::{Direction, LinkIndex, Observer};
use crate::io::Port;
use crate::io::packet::{Mode, PacketPort};
use crate::lab::attach::Lent;
use crate::lab::daemons::Daemons;
use crate::lab::kernel_tcp;
use crate::lab::wiring::{Namespaces, NodeEnd, Wiring};
use crate::lab::{Execution, Lab, Ports};
use crate::model::Instant;
use crate::sys::packet::{self, Interface};

/// How long the sessions of a lab that ends may take to say so, and between two looks whether they have.
const CLOSED_WITHIN: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(20);

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
        /// Ports of the user's own routers.
        attached: &'w Lent,
        execution: Execution<'w>,
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
    /// programs of somebody else's are those that run in the namespaces, and attached ones.
    pub fn lab(&self, file: &LabFile, seed: u64) -> Result<Lab, WireError> {
        match self {
            Self::Virtual => Ok(Lab::new(file, seed)),
            Self::Veth { wiring, namespaces, daemons, attached, execution } => {
                let (mut near, far) = (wiring.ports()?, far_ports(wiring, namespaces)?);
                near.extend(attached.lend());
                let mut lab = Lab::on_wire(file, seed, near, far, *execution);
                lab.set_operator(daemons.operator());
                Ok(lab)
            }
        }
    }

    /// Ends a lab. To routers of the user's own, which go on and meet the next lab, its sessions end
    /// with a word: without one they would wait for a timer, and answer the next lab with the last
    /// one's routes.
    pub fn end(&self, mut lab: Lab) {
        let Self::Veth { attached, .. } = self else { return };
        if attached.is_empty() {
            return;
        }
        lab.close_sessions();
        let end = lab.now() + CLOSED_WITHIN;
        while lab.now() < end && lab.sessions().any(|(_, session)| session.established) {
            lab.run_until(lab.now() + LOOK, &mut Nobody);
        }
        lab.run_until(lab.now() + LOOK, &mut Nobody);
        attached.take_back(&mut lab);
    }
}

/// Nobody looks at the last frames of a lab.
struct Nobody;

impl Observer for Nobody {
    fn frame(&mut self, _: LinkIndex, _: Direction, _: &[u8], _: Instant) {}
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

//! Acts of an operator that are not state: what is done once, or undone by its opposite.

use crate::control::message::ToControl;
use crate::model::Instant;
use crate::router::Router;

/// One act.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Close a BGP session; it comes up again by itself.
    Reset { vrf: String, neighbor: String },
    /// Announce every route of a VRF with so many more of the own ASN in front (L-49).
    Drain { vrf: String, prepends: u8 },
    /// End a drain.
    Undrain { vrf: String },
}

/// A row for each act: its name and what it does, in the order the help shows them.
pub const OPERATIONS: &[(&str, &str)] = &[
    ("reset", "close a BGP session; it comes up again by itself"),
    ("drain", "prepend the own ASN on all that a VRF announces, so that traffic leaves first"),
    ("undrain", "end a drain"),
];

impl Router {
    /// Carries out one act. A VRF or neighbour that does not exist is left alone, and while the
    /// control process is dead only a drain is kept in mind.
    pub fn operate(&mut self, operation: &Operation, now: Instant) {
        let vrf = match operation {
            Operation::Reset { vrf, .. }
            | Operation::Drain { vrf, .. }
            | Operation::Undrain { vrf } => vrf,
        };
        let Some(&vrf) = self.names.vrfs.get(vrf) else { return };
        let message = match operation {
            Operation::Reset { neighbor, .. } => {
                ToControl::Reset { vrf, neighbor: neighbor.clone() }
            }
            Operation::Drain { prepends, .. } => {
                self.drained.insert(vrf, *prepends);
                ToControl::Drain { vrf, prepends: Some(*prepends) }
            }
            Operation::Undrain { .. } => {
                self.drained.remove(&vrf);
                ToControl::Drain { vrf, prepends: None }
            }
        };
        self.control.tell(message, now);
        self.deadline = now;
    }
}

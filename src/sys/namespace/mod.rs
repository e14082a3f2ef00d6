//! Namespaces: the one a lab lives in ([`Sandbox`]), one for each of its nodes
//! ([`NetworkNamespace`]), and the way into both from outside ([`join`]).

mod denied;
mod join;
mod network;
mod sandbox;

pub use denied::Denied;
pub use join::{JoinError, join};
pub use network::{FOLDER, NetworkNamespace, interface_setting};
pub use sandbox::{Inside, Parent, Progress, Sandbox, SandboxError};

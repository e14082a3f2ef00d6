//! Namespaces: the one a lab lives in ([`Sandbox`]), one for each of its nodes
//! ([`NetworkNamespace`], and [`MountNamespace`] where its programs have files of their own), and
//! the way into them from outside ([`join`]).

mod denied;
mod join;
mod mount;
mod network;
mod sandbox;

pub use denied::Denied;
pub use join::{JoinError, join};
pub use mount::MountNamespace;
pub use network::{FOLDER, NetworkNamespace, interface_setting, kernel_setting};
pub use sandbox::{Inside, Parent, Progress, Sandbox, SandboxError};

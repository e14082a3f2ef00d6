//! The way into a running sandbox from another process of the same user.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{
    ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces, unshare_unsafe,
};
use thiserror::Error;

use crate::sys::namespace::{MountNamespace, NetworkNamespace};

#[derive(Debug, Error)]
pub enum JoinError {
    #[error("the lab's namespaces: {0}")]
    Sandbox(io::Error),
    #[error("namespaces of {name}: {source}")]
    Node { name: String, source: io::Error },
}

/// Moves this process, which must have one thread only, into the namespaces of the sandbox whose
/// init is `init`, and into those of its node `node`, which becomes the host's name. Its children
/// are processes of the sandbox; itself it stays outside of its pid namespace.
pub fn join(init: Pid, node: &str) -> Result<(), JoinError> {
    enter_sandbox(init).map_err(JoinError::Sandbox)?;
    let entered = enter_node(node).and_then(|()| own_view(node));
    entered.map_err(|source| JoinError::Node { name: node.to_owned(), source })
}

fn enter_node(node: &str) -> io::Result<()> {
    let network = NetworkNamespace::open(node)?;
    let mounts = MountNamespace::open(node)?;
    network.enter()?;
    mounts.map_or(Ok(()), |mounts| mounts.enter())
}

fn enter_sandbox(init: Pid) -> io::Result<()> {
    let namespaces = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::PROCESS_ID
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME;
    let init_fd: OwnedFd = pidfd_open(init, PidfdFlags::empty())?;
    // To enter the user namespace one is in already is an error.
    let user = |process: &str| fs::read_link(format!("/proc/{process}/ns/user"));
    let same_user = user("self")? == user(&init.as_raw_nonzero().to_string())?;
    let user = if same_user { ThreadNameSpaceType::empty() } else { ThreadNameSpaceType::USER };
    Ok(move_into_thread_name_spaces(init_fd.as_fd(), namespaces | user)?)
}

/// What programs read under /sys, and the host's name in their prompts, is the node's.
#[allow(unsafe_code)]
fn own_view(node: &str) -> io::Result<()> {
    // SAFETY: of the flags only FILES can take file descriptors away from other threads.
    // JUSTIFICATION: mounts and the host's name are for the one command alone.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::NEWUTS) }?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    // A container may hide parts of /sys and so forbid it; then /sys stays what it was.
    let _ = mount("sysfs", "/sys", "sysfs", flags, None);
    rustix::system::sethostname(node.as_bytes())?;
    Ok(())
}

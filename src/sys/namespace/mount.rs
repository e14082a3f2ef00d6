//! A mount namespace with a name, for programs of a node that have files of their own.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// Where the names are; the sandbox makes it.
pub(super) const FOLDER: &str = "/run/mntns";

/// A namespace held open: it lives, and has its name, as long as this value.
///
/// The name is a link to the open file of the process that made it. It cannot be bound like a
/// network namespace: kernels from 6.18 on number namespaces by processor, and refuse to bind one
/// whose number happens to be lower than that of the namespace it would be bound in.
#[derive(Debug)]
pub struct MountNamespace {
    file: File,
}

impl MountNamespace {
    /// A new one with a name: what this thread sees, with each source of `binds` in the
    /// place of its target, one after another.
    ///
    /// # Errors
    /// The name is taken, a path is not there, or the caller is not in a sandbox.
    pub fn create(name: &str, binds: &[(PathBuf, PathBuf)]) -> io::Result<Self> {
        // The thread leaves for the new namespace and ends; the others stay where they are.
        let made = thread::scope(|scope| scope.spawn(|| make(binds)).join());
        let namespace = made.expect("it does not panic")?;
        let (pid, fd) = (std::process::id(), namespace.file.as_raw_fd());
        symlink(format!("/proc/{pid}/fd/{fd}"), path_of(name))?;
        Ok(namespace)
    }

    /// One that has a name; none where the node has none of its own.
    pub fn open(name: &str) -> io::Result<Option<Self>> {
        match File::open(path_of(name)) {
            Ok(file) => Ok(Some(Self { file })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Moves this process, which must have one thread only, into it.
    pub fn enter(&self) -> io::Result<()> {
        Ok(move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Mount))?)
    }
}

impl AsFd for MountNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn path_of(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// Moves the calling thread into a new namespace.
#[allow(unsafe_code)]
fn make(binds: &[(PathBuf, PathBuf)]) -> io::Result<MountNamespace> {
    // SAFETY: of the flags only FILES can take file descriptors away from other threads.
    // JUSTIFICATION: the only way to a further namespace without another process.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    for (source, target) in binds {
        mount_bind(source, target)?;
    }
    Ok(MountNamespace { file: File::open("/proc/thread-self/ns/mnt")? })
}

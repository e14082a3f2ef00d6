//! A network namespace with a name, as `ip netns` keeps them.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::thread;

use rustix::mount::mount_bind;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// Where `ip netns` looks for names.
pub const FOLDER: &str = "/run/netns";

/// A namespace held open: it lives at least as long as this value.
#[derive(Debug)]
pub struct NetworkNamespace {
    file: File,
}

impl NetworkNamespace {
    /// A new one, bound to its name, with its loopback down as the kernel makes it.
    ///
    /// # Errors
    /// The name is taken, or the caller may not make namespaces: it is not in a sandbox.
    pub fn create(name: &str) -> io::Result<Self> {
        let path = path_of(name);
        File::create_new(&path)?;
        // The thread leaves for the new namespace and ends; the others stay where they are.
        thread::scope(|scope| scope.spawn(|| make(&path)).join().expect("it does not panic"))
    }

    /// One that has a name.
    pub fn open(name: &str) -> io::Result<Self> {
        File::open(path_of(name)).map(|file| Self { file })
    }

    /// One that has a name, or that of a process.
    pub fn find(name_or_pid: &str) -> io::Result<Self> {
        match name_or_pid.parse::<u32>() {
            Ok(pid) => File::open(format!("/proc/{pid}/ns/net")).map(|file| Self { file }),
            Err(_) => Self::open(name_or_pid),
        }
    }

    /// The one this thread is in.
    pub fn current() -> io::Result<Self> {
        File::open("/proc/thread-self/ns/net").map(|file| Self { file })
    }

    /// Calls `inside` on a thread that is in this namespace and returns what it gives. A socket
    /// that is opened there stays in the namespace wherever it is used.
    pub fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> io::Result<T> {
        let enter = || {
            self.enter()?;
            Ok(inside())
        };
        thread::scope(|scope| match scope.spawn(enter).join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Calls `inside` with this thread in the namespace, and brings it back: no other thread is
    /// started, which some things have to come before.
    pub fn visit<T>(&self, inside: impl FnOnce() -> T) -> io::Result<T> {
        let own = Self::current()?;
        self.enter()?;
        let outcome = inside();
        own.enter()?;
        Ok(outcome)
    }

    /// Moves this thread into it.
    pub fn enter(&self) -> io::Result<()> {
        Ok(move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))?)
    }
}

impl AsFd for NetworkNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Sets `net.FAMILY.conf.INTERFACE.KEY` of the namespace this thread is in; the host's own is never
/// reached from inside a sandbox. A kernel that has no such setting (no IPv6) needs none.
pub fn interface_setting(family: &str, interface: &str, key: &str, value: &str) -> io::Result<()> {
    kernel_setting(&format!("net/{family}/conf/{interface}/{key}"), value)
}

/// The same for any setting of the namespace, by its path below `/proc/sys`.
pub fn kernel_setting(path: &str, value: &str) -> io::Result<()> {
    match std::fs::write(Path::new("/proc/sys").join(path), value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

fn path_of(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// Moves the calling thread into a new namespace and binds that to `path`.
#[allow(unsafe_code)]
fn make(path: &Path) -> io::Result<NetworkNamespace> {
    // SAFETY: of the flags only FILES can take file descriptors away from other threads.
    // JUSTIFICATION: the only way to a further namespace without another process.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
    let namespace = NetworkNamespace::current()?;
    mount_bind("/proc/thread-self/ns/net", path)?;
    Ok(namespace)
}

//! A process in namespaces of its own, which end with it, and it with its parent.
//!
//! ```text
//! outer ──clone(user mount pid net uts)──► init, pid 1 ──fork──► the lab
//!   host's namespaces; waits,                reaps, forwards      does the work
//!   forwards SIGINT and SIGTERM              signals
//! ```
//!
//! Whichever of the three dies, however, the others follow: the kernel tells init of its parent's
//! death, init ends with the lab, the kernel ends whatever is in a pid namespace whose init ended,
//! and with the last process of it go its mounts, its network namespaces and their links.

use std::fs;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{
    DumpableBehavior, Gid, Pid, PidfdFlags, Signal, Uid, WaitOptions, WaitStatus, getegid, geteuid,
    getpid, kill_process, pidfd_open, pidfd_send_signal, set_dumpable_behavior,
    set_parent_process_death_signal, setpgid, wait, waitpid,
};
use thiserror::Error;

use crate::sys::namespace::{Denied, mount as mounts, network};
use crate::sys::process::{Signals, exit_code, fork, has_ended, leave_terminal, thread_count};

/// What init is sent when its parent has died; nobody else sends it.
const PARENT_DIED: Signal = Signal::USR2;
/// A request to end, forwarded inwards.
const ENDING: [Signal; 3] = [Signal::INT, Signal::TERM, Signal::HUP];
/// What the lab says to its parent when it is ready. Anything else is the text of an error, or the
/// one byte of a [`Denied`].
const READY: u8 = 0;

/// The way to a sandbox from outside: its init, and what it says.
#[derive(Debug)]
pub struct Sandbox {
    init: OwnedFd,
    pid: Pid,
    signals: Signals,
    /// None once nobody is left to say anything.
    said: Option<PipeReader>,
    failure: Vec<u8>,
    asked_to_end: bool,
}

/// How far a sandbox is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    Ready,
    /// With this exit code.
    Ended(u8),
}

/// What the process inside has of the world outside.
#[derive(Debug)]
pub struct Inside {
    signals: Signals,
    said: Arc<PipeWriter>,
}

/// The process outside, as the one inside sees it.
#[derive(Debug)]
pub struct Parent {
    said: Arc<PipeWriter>,
}

#[derive(Debug, Error)]
pub enum SandboxError {
    /// A mistake of the program: only a process with one thread can be copied whole.
    #[error("{0} threads run already; a sandbox begins before the second one")]
    Threads(usize),
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("{step}: {source}")]
    System { step: &'static str, source: io::Error },
    /// What the process inside said before it ended.
    #[error("{0}")]
    Inside(String),
}

/// The text before an error of the system.
fn at(step: &'static str) -> impl Fn(io::Error) -> SandboxError {
    move |source| SandboxError::System { step, source }
}

impl Sandbox {
    /// Starts `inside` as the first process of new namespaces; its result is the exit code.
    ///
    /// Root stays root in the host's user namespace; anybody else is root in one of its own. There,
    /// /proc shows this sandbox, /run and /var/tmp are empty, and no mount reaches the host.
    /// `parent_died` is called when the process that called this died before the sandbox did.
    ///
    /// # Errors
    /// The host does not allow it, or this process has a second thread.
    pub fn start(
        inside: impl FnOnce(Inside) -> u8,
        parent_died: impl FnOnce(),
    ) -> Result<Self, SandboxError> {
        let threads = thread_count().map_err(at("/proc/self/task"))?;
        if threads != 1 {
            return Err(SandboxError::Threads(threads));
        }
        // A program with file capabilities is not dumpable, and its /proc entries are root's.
        set_dumpable_behavior(DumpableBehavior::Dumpable)
            .map_err(|error| at("PR_SET_DUMPABLE")(error.into()))?;
        let _ = io::stdout().flush();
        let waited_for = [&ENDING[..], &[Signal::CHILD, PARENT_DIED]].concat();
        let signals = Signals::block(&waited_for).map_err(at("signalfd"))?;
        let (said, saying) = io::pipe().map_err(at("pipe"))?;
        let outer = pidfd_open(getpid(), PidfdFlags::empty())
            .map_err(|error| at("pidfd_open")(error.into()))?;
        let user = (geteuid(), getegid());
        let (pid, own_user) = clone_into_namespaces().map_err(refused("clone"))?;
        let Some(pid) = pid else {
            drop(said);
            let user = own_user.then_some(user);
            let init = Init { outer, user, signals, said: saying };
            init.run(inside, parent_died);
        };
        drop(saying);
        let init =
            pidfd_open(pid, PidfdFlags::empty()).map_err(|error| at("pidfd_open")(error.into()))?;
        Ok(Self { init, pid, signals, said: Some(said), failure: Vec::new(), asked_to_end: false })
    }

    /// Its init as the host sees it: the way into its namespaces.
    pub const fn init(&self) -> Pid {
        self.pid
    }

    /// Sleeps until it is ready, and, called again, until it has ended. A request to end is
    /// forwarded; a second one ends everything at once.
    ///
    /// # Errors
    /// It ended, and said why.
    pub fn wait(&mut self) -> Result<Progress, SandboxError> {
        loop {
            self.sleep();
            self.forward_signals();
            if self.listen() {
                return Ok(Progress::Ready);
            }
            let ended = waitpid(Some(self.pid), WaitOptions::NOHANG);
            if let Some((_, status)) = ended.map_err(|error| at("waitpid")(error.into()))? {
                // The last words may have come after the look into the pipe.
                self.listen();
                return self.ended(status);
            }
        }
    }

    /// Sleeps until a signal or a word from inside is there.
    fn sleep(&self) {
        let signals = PollFd::new(&self.signals, PollFlags::IN);
        let mut fds = vec![signals];
        fds.extend(self.said.as_ref().map(|said| PollFd::new(said, PollFlags::IN)));
        // An interrupted wait is followed by another.
        let _ = poll(&mut fds, None);
    }

    fn forward_signals(&mut self) {
        while let Some(signal) = self.signals.next() {
            if ENDING.contains(&signal) {
                let signal = if self.asked_to_end { Signal::KILL } else { signal };
                self.asked_to_end = true;
                // It may have ended by itself.
                let _ = pidfd_send_signal(&self.init, signal);
            }
        }
    }

    /// Reads what the process inside says, if it says anything, and tells whether it is ready.
    fn listen(&mut self) -> bool {
        let Some(said) = &mut self.said else { return false };
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        if poll(&mut [PollFd::new(said, PollFlags::IN)], Some(&now)) != Ok(1) {
            return false;
        }
        let mut words = vec![0; 4096];
        let length = said.read(&mut words).unwrap_or(0);
        words.truncate(length);
        if words.is_empty() {
            self.said = None;
        }
        let ready = words.contains(&READY);
        self.failure.extend(words.into_iter().filter(|&byte| byte != READY));
        ready
    }

    fn ended(&mut self, status: WaitStatus) -> Result<Progress, SandboxError> {
        if self.failure.is_empty() {
            return Ok(Progress::Ended(exit_code(status)));
        }
        if let [code] = self.failure[..]
            && let Some(denied) = Denied::from_code(code)
        {
            return Err(denied.into());
        }
        Err(SandboxError::Inside(String::from_utf8_lossy(&self.failure).into_owned()))
    }
}

/// Nothing of it outlives this value.
impl Drop for Sandbox {
    fn drop(&mut self) {
        if pidfd_send_signal(&self.init, Signal::KILL).is_ok() {
            let _ = waitpid(Some(self.pid), WaitOptions::empty());
        }
    }
}

impl Inside {
    /// Tells the parent that the lab is ready. With `detach` nothing is printed from here on. What is
    /// returned gets SIGINT, SIGTERM or SIGHUP when the lab is to end.
    pub fn ready(self, detach: bool) -> io::Result<Signals> {
        if detach {
            leave_terminal()?;
        }
        (&*self.said).write_all(&[READY])?;
        Ok(self.signals)
    }

    /// Whether it is to end before it was ready.
    pub fn is_asked_to_end(&self) -> bool {
        self.signals.next().is_some()
    }

    /// Where to tell why the lab failed.
    pub fn parent(&self) -> Parent {
        Parent { said: Arc::clone(&self.said) }
    }
}

impl Parent {
    /// Tells it why the lab ends. Returns the exit code to end with.
    pub fn fail(&self, reason: &str) -> u8 {
        // A parent that has gone needs no reason.
        let _ = (&*self.said).write_all(reason.as_bytes());
        1
    }
}

/// The first process of a sandbox.
struct Init {
    /// The process that made it.
    outer: OwnedFd,
    /// Who this is outside, where it has a user namespace of its own.
    user: Option<(Uid, Gid)>,
    signals: Signals,
    said: PipeWriter,
}

impl Init {
    fn run(mut self, inside: impl FnOnce(Inside) -> u8, parent_died: impl FnOnce()) -> ! {
        let followed = set_parent_process_death_signal(Some(PARENT_DIED));
        if followed.is_err() || has_ended(self.outer.as_fd()) {
            parent_died();
            exit(1);
        }
        let lab = match self.prepare().and_then(|()| start_lab(&self.said, inside)) {
            Ok(lab) => lab,
            Err(error) => {
                let words = match error {
                    SandboxError::Denied(denied) => vec![denied.code()],
                    error => error.to_string().into_bytes(),
                };
                // A parent that has gone needs no reason.
                let _ = self.said.write_all(&words);
                exit(1);
            }
        };
        drop(self.said);
        // Who reads the lab's output learns of its end by the end of that.
        let _ = leave_terminal();
        loop {
            let signal = self.signals.wait();
            if signal == PARENT_DIED {
                parent_died();
                exit(1);
            }
            if ENDING.contains(&signal) {
                // It may have ended by itself.
                let _ = kill_process(lab, signal);
            }
            // Orphans of the lab's processes become init's.
            while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                if pid == lab {
                    exit(exit_code(status));
                }
            }
        }
    }

    /// From the copy of a process to the init of a world of its own.
    fn prepare(&self) -> Result<(), SandboxError> {
        // What a terminal sends to its foreground group goes to the outer process alone, so that the
        // lab ends in order and its processes are not hit one by one.
        setpgid(None, None).map_err(|error| at("setpgid")(error.into()))?;
        if let Some((uid, gid)) = self.user {
            become_root(uid, gid).map_err(refused("/proc/self/uid_map"))?;
        }
        mount_anew().map_err(refused("the mounts of the lab"))
    }
}

/// An error that may be the host's refusal.
fn refused(step: &'static str) -> impl Fn(io::Error) -> SandboxError {
    move |error| match Denied::from_error(&error) {
        Some(denied) => denied.into(),
        None => at(step)(error),
    }
}

/// What a sandbox has of its own; the user namespace of whoever is not root beside them.
const NAMESPACES: libc::c_int =
    libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWNET | libc::CLONE_NEWUTS;

/// A copy of this process in new namespaces: no id in the copy, and whether the copy has a user
/// namespace of its own.
fn clone_into_namespaces() -> io::Result<(Option<Pid>, bool)> {
    if geteuid().is_root() {
        match clone(NAMESPACES) {
            // Root of a container may be without the capability and have user namespaces.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
            outcome => return outcome.map(|child| (child, false)),
        }
    }
    clone(NAMESPACES | libc::CLONE_NEWUSER).map(|child| (child, true))
}

/// `fork` with flags of clone(2): no id in the child, the child's id in the parent.
#[allow(unsafe_code)]
fn clone(flags: libc::c_int) -> io::Result<Option<Pid>> {
    let flags = libc::c_long::from(flags | libc::SIGCHLD);
    // SAFETY: without CLONE_VM the child is a copy that shares no memory, and [`Sandbox::start`]
    // has made sure that there is no second thread whose locks it would inherit held. Null for the
    // stack and the thread ids, and none of the flags that would read them.
    // JUSTIFICATION: the child has to be pid 1 of a namespace that the parent is not in, which
    // `unshare` followed by `fork` cannot do without another process in between.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(Pid::from_raw(pid as i32)) }
}

/// Starts the lab's process, whose exit code is what `inside` returns. Init is another one: it
/// reaps whatever becomes its child, which would take the exit codes of its own children from the
/// lab.
fn start_lab(said: &PipeWriter, inside: impl FnOnce(Inside) -> u8) -> Result<Pid, SandboxError> {
    let said = Arc::new(said.try_clone().map_err(at("dup"))?);
    let lab = fork(|| {
        let signals = Signals::block(&ENDING).expect("it worked in the parent");
        inside(Inside { signals, said })
    });
    lab.map_err(at("fork"))
}

/// Ends init at once: what is in its copies of the parent's buffers is the parent's to write.
#[allow(unsafe_code)]
fn exit(code: u8) -> ! {
    // SAFETY: it only ends the process.
    // JUSTIFICATION: `process::exit` would run the parent's exit handlers in init as well.
    unsafe { libc::_exit(i32::from(code)) }
}

/// In a new user namespace: the user outside is root inside, the only one there is.
fn become_root(uid: Uid, gid: Gid) -> io::Result<()> {
    // A group that was taken from the user to deny something could be left otherwise (CVE-2014-8989).
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/gid_map", format!("0 {} 1", gid.as_raw()))?;
    fs::write("/proc/self/uid_map", format!("0 {} 1", uid.as_raw()))
}

/// Mounts that are only the sandbox's: /proc with its processes, and room for the names of its
/// network namespaces and the files of its routers.
fn mount_anew() -> io::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("proc", "/proc", "proc", flags | MountFlags::NOEXEC, None)?;
    for folder in ["/run", "/var/tmp"] {
        mount("tmpfs", folder, "tmpfs", flags, None)?;
    }
    fs::create_dir(network::FOLDER)?;
    fs::create_dir(mounts::FOLDER)
}

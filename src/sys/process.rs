//! Signals as something that is read, and processes that belong to a lab.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, getpid, kill_process, pidfd_open,
    set_parent_process_death_signal, waitpid,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Exit code of a process that a signal ended, beside the signal's number, as shells have it.
const SIGNALLED: i32 = 128;
/// Exit code of a process that panicked, as Rust programs have it.
const PANICKED: i32 = 101;

/// Signals that are blocked in this thread, and in threads and processes it starts, and wait here
/// to be read. Programs that are started here get an empty mask again: [`Command`] leaves it.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
}

impl Signals {
    /// Blocks these and no others. Call it before any thread starts: one that does not block them
    /// would take them.
    #[allow(unsafe_code)]
    pub fn block(signals: &[Signal]) -> io::Result<Self> {
        // SAFETY: `sigset_t` is plain data that `sigemptyset` fills before anything reads it, and
        // every pointer is to a live local. `signalfd` returns a descriptor nobody else owns.
        // JUSTIFICATION: neither std nor rustix has a safe call for signal masks.
        unsafe {
            let mut set = mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in signals {
                libc::sigaddset(&raw mut set, signal.as_raw());
            }
            let nothing = std::ptr::null_mut();
            let error = libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, nothing);
            if error != 0 {
                return Err(io::Error::from_raw_os_error(error));
            }
            let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self { fd: OwnedFd::from_raw_fd(fd) })
        }
    }

    /// The next one, if one has come.
    pub fn next(&self) -> Option<Signal> {
        /// Of a `signalfd_siginfo`, which begins with the signal's number.
        const RECORD_LEN: usize = mem::size_of::<libc::signalfd_siginfo>();
        let mut record = [0; RECORD_LEN];
        match rustix::io::read(&self.fd, &mut record) {
            Ok(RECORD_LEN) => {
                let number = u32::from_ne_bytes(record[..4].try_into().expect("four bytes"));
                Signal::from_named_raw(number as i32)
            }
            _ => None,
        }
    }

    /// Sleeps until one comes.
    pub fn wait(&self) -> Signal {
        loop {
            if let Some(signal) = self.next() {
                return signal;
            }
            // An interrupted wait begins again.
            let _ = poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], None);
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

/// A program to be started in a namespace of the lab.
#[derive(Debug)]
pub struct Program<'a> {
    pub program: &'a Path,
    pub arguments: Vec<OsString>,
    /// Network namespace; this thread's if none.
    pub network: Option<BorrowedFd<'a>>,
    /// Mount namespace; this thread's if none.
    pub mounts: Option<BorrowedFd<'a>>,
    /// Where its output goes, behind what is there; to this process's own if none.
    pub log: Option<&'a Path>,
}

/// A process of the lab, ended when this value is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Program<'_> {
    /// Starts it. Inside a sandbox no process outlives the lab, whoever started it.
    #[allow(unsafe_code)]
    pub fn spawn(&self) -> io::Result<Process> {
        let mut command = Command::new(self.program);
        command.args(&self.arguments).stdin(Stdio::null());
        if let Some(log) = self.log {
            let log = File::options().create(true).append(true).open(log)?;
            command.stdout(log.try_clone()?).stderr(log);
        }
        let network = self.network.map(|fd| fd.try_clone_to_owned()).transpose()?;
        let mounts = self.mounts.map(|fd| fd.try_clone_to_owned()).transpose()?;
        let enter = move || {
            unblock_all()?;
            for (namespace, kind) in
                [(&network, LinkNameSpaceType::Network), (&mounts, LinkNameSpaceType::Mount)]
            {
                if let Some(namespace) = namespace {
                    move_into_link_name_space(namespace.as_fd(), Some(kind))?;
                }
            }
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes system calls only.
        // JUSTIFICATION: a namespace is entered by the thread that is to be in it.
        unsafe { command.pre_exec(enter) };
        Ok(Process { child: command.spawn()? })
    }
}

impl Process {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits until it has ended, and returns how.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    /// Asks it to end (SIGTERM).
    pub fn terminate(&self) -> io::Result<()> {
        let pid = Pid::from_child(&self.child);
        Ok(kill_process(pid, Signal::TERM)?)
    }

    /// Ends it at once and waits for that.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        self.child.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended is only waited for.
        let _ = self.kill();
    }
}

/// Starts a program that talks over a socket, its standard input, and has nothing else of this
/// process: no terminal, no descriptor. It has this thread's signal mask.
///
/// This process is not copied for it, however large it is: without anything to be done between fork
/// and exec, [`Command`] uses `posix_spawn`.
pub fn spawn_on_socket(program: &Path, arguments: &[&str], socket: OwnedFd) -> io::Result<Process> {
    let mut command = Command::new(program);
    // Its path may be that of this process's program, which says nothing.
    command.arg0("msee").args(arguments);
    command.stdin(socket).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(Process { child: command.spawn()? })
}

/// Runs a program with this process's terminal, input and output, and returns its exit code. What
/// asks this process to end asks the program; should this process be killed, so is the program.
#[allow(unsafe_code)]
pub fn run_in_foreground(program: &OsStr, arguments: &[OsString]) -> io::Result<u8> {
    // What a terminal sends goes to the program as well, which decides what comes of it.
    let signals =
        Signals::block(&[Signal::INT, Signal::QUIT, Signal::TERM, Signal::HUP, Signal::CHILD])?;
    let parent = pidfd_open(getpid(), PidfdFlags::empty())?;
    let mut command = Command::new(program);
    command.args(arguments);
    let die_together = move || {
        unblock_all()?;
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let gone = has_ended(parent.as_fd());
        if gone { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    };
    // SAFETY: the closure makes three system calls and allocates nothing.
    // JUSTIFICATION: prctl(2) speaks for the process that calls it.
    unsafe { command.pre_exec(die_together) };
    let child = command.spawn()?;
    let pid = Pid::from_child(&child);
    loop {
        match signals.wait() {
            Signal::CHILD => {
                if let Some((_, status)) = waitpid(Some(pid), WaitOptions::NOHANG)? {
                    return Ok(exit_code(status));
                }
            }
            // It may have ended by itself.
            signal @ (Signal::TERM | Signal::HUP) => drop(kill_process(pid, signal)),
            _ => {}
        }
    }
}

/// Gives this thread an empty signal mask.
#[allow(unsafe_code)]
pub fn unblock_all() -> io::Result<()> {
    // SAFETY: `sigset_t` is plain data that `sigemptyset` fills before anything reads it, and every
    // pointer is to a live local. Both calls are async-signal-safe.
    // JUSTIFICATION: neither std nor rustix has a safe call for signal masks.
    let error = unsafe {
        let mut set = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut())
    };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// Starts a copy of this process, which has one thread, that does `inside` and ends with the exit
/// code it returns.
#[allow(unsafe_code)]
pub fn fork(inside: impl FnOnce() -> u8) -> io::Result<Pid> {
    assert_eq!(thread_count()?, 1, "only a process with one thread can be copied whole");
    // SAFETY: there is one thread, so the child inherits no lock that somebody holds.
    // JUSTIFICATION: std only starts programs; a lab's processes share what has been read and made.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if let Some(pid) = Pid::from_raw(pid) {
        return Ok(pid);
    }
    // Whatever happens, this process never returns into the program of its parent.
    let outcome = catch_unwind(AssertUnwindSafe(inside));
    std::process::exit(outcome.map_or(PANICKED, i32::from));
}

/// As shells tell how a process ended.
pub fn exit_code(status: WaitStatus) -> u8 {
    let signal = status.terminating_signal().map(|signal| SIGNALLED + signal);
    status.exit_status().or(signal).unwrap_or(1) as u8
}

/// Whether a process, given by its pidfd, has ended, though nobody may have waited for it.
pub fn has_ended(process: BorrowedFd<'_>) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::from_borrowed_fd(process, PollFlags::IN)], Some(&now)) == Ok(1)
}

/// Waits until a process, given by its pidfd, has ended; false if it has not within that time.
pub fn wait_for_end(process: &OwnedFd, at_most: Duration) -> bool {
    let at_most = Timespec { tv_sec: at_most.as_secs() as i64, tv_nsec: 0 };
    poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&at_most)) == Ok(1)
}

/// How many threads this process has.
pub fn thread_count() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// Sends standard input, output and error nowhere: whoever started this has gone.
pub fn leave_terminal() -> io::Result<()> {
    let nowhere = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nowhere)?;
    rustix::stdio::dup2_stdout(&nowhere)?;
    Ok(rustix::stdio::dup2_stderr(&nowhere)?)
}

//! The operator of routers that are programs of somebody else's: what a drill does in the customer's
//! name is said to them in their own words, at their own console; and the operator's hands, which take
//! the power from such a router and give it back.
//!
//! As with built-in routers there is a desired configuration, and what is said is the difference to
//! the last one. When the operator leaves, everything is as the lab's file has it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::mem;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::sleep;
use std::time::Duration;

use thiserror::Error;

use crate::lab::daemons::DaemonError;
use crate::lab::edge::run::{self, BIRD_OTHER, BIRD_SOCKET, Orders, lines_between};
use crate::lab::programs::Programs;
use crate::model::RouterConfig;
use crate::sys::process::Process;

/// Name of the log with what consoles answered, in the folder of a router's logs.
const LOG: &str = "operator.log";
/// BIRD answers within this, or never.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Least code of an answer of BIRD that says that it did not do what it was told.
const BIRD_FAILED: u16 = 8000;
/// Between two looks whether a router is ready, of an operator who leaves.
const LOOK: Duration = Duration::from_millis(20);

/// Somebody at the consoles of a lab's outside routers.
#[derive(Debug, Default)]
pub struct Operator {
    consoles: BTreeMap<String, Console>,
}

/// Why a router is not what it was told to be.
#[derive(Debug, Error)]
pub enum OperatorError {
    #[error("console: {0}")]
    Console(#[from] io::Error),
    #[error(transparent)]
    Start(#[from] DaemonError),
}

/// The console of a router, and its power switch.
#[derive(Debug)]
pub struct Console {
    programs: Arc<Mutex<Programs>>,
    how: run::Console,
    /// What the router is by the lab's file, and what it was last told to be.
    configured: Option<(RouterConfig, RouterConfig)>,
    /// What was said last and may still be listened to.
    speaking: Option<Speaking>,
    power: Power,
}

#[derive(Debug)]
enum Speaking {
    Vtysh(Process),
    /// And how many answers are to come.
    Birdc(BufReader<UnixStream>, usize),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Power {
    On,
    Off,
    /// It is not ready to be told anything.
    Starting,
}

impl Console {
    pub fn new(how: &run::Console, programs: Arc<Mutex<Programs>>) -> Self {
        let (how, power) = (how.clone(), Power::On);
        Self { programs, how, configured: None, speaking: None, power }
    }

    /// Says what leads from the last configuration to this one, at once or when the router is ready.
    /// Returns before the router has done it.
    fn tell(&mut self, config: &RouterConfig) -> io::Result<()> {
        let Some((read, told)) = &mut self.configured else { return Ok(()) };
        let told = mem::replace(told, config.clone());
        match self.power {
            Power::On => {
                let read = read.clone();
                self.say(&read, &told, config)
            }
            Power::Off | Power::Starting => Ok(()),
        }
    }

    fn say(
        &mut self,
        read: &RouterConfig,
        told: &RouterConfig,
        config: &RouterConfig,
    ) -> io::Result<()> {
        // One after the other.
        let heard = self.listen();
        let programs = self.programs.lock().expect("nobody panics who holds them");
        self.speaking = match &self.how {
            run::Console::Vtysh(program) => {
                vtysh(&programs, program, &lines_between(told, config))?
            }
            run::Console::Birdc(text) => {
                let orders = run::orders(text, read, [told, config]).map_err(io::Error::other)?;
                birdc(&programs, text, orders)?
            }
        };
        heard
    }

    /// Returns when the router has done what it was told.
    fn listen(&mut self) -> io::Result<()> {
        match self.speaking.take() {
            None => Ok(()),
            Some(Speaking::Vtysh(mut console)) => console.wait().map(drop),
            Some(Speaking::Birdc(socket, answers)) => {
                let log = self.programs().logs().join(LOG);
                hear(socket, answers, &log)
            }
        }
    }

    /// A router that starts has the configuration of its file; when it is ready it is told the rest.
    fn start(&mut self) {
        self.speaking = None;
        self.programs().begin_again();
        self.power = Power::Starting;
    }

    /// Goes on with starting, if it is to be started.
    fn advance(&mut self) -> Result<(), OperatorError> {
        if self.power != Power::Starting {
            return Ok(());
        }
        let advanced = self.programs().advance();
        if !advanced.inspect_err(|_| self.power = Power::Off)? {
            return Ok(());
        }
        self.power = Power::On;
        let Some((read, told)) = self.configured.clone() else { return Ok(()) };
        Ok(self.say(&read, &read, &told)?)
    }

    /// Makes everything as the lab's file has it.
    fn leave(&mut self) -> Result<(), OperatorError> {
        if let Some((read, told)) = &mut self.configured {
            if self.power == Power::On {
                let read = read.clone();
                self.tell(&read)?;
            } else {
                told.clone_from(read);
            }
        }
        if self.power == Power::Off {
            self.start();
        }
        while self.power == Power::Starting {
            self.advance()?;
            sleep(LOOK);
        }
        Ok(self.listen()?)
    }

    fn programs(&self) -> MutexGuard<'_, Programs> {
        self.programs.lock().expect("nobody panics who holds them")
    }
}

/// Gives FRR's console lines, if there are any.
fn vtysh(programs: &Programs, program: &Path, lines: &[String]) -> io::Result<Option<Speaking>> {
    if lines.is_empty() {
        return Ok(None);
    }
    let arguments = lines.iter().flat_map(|line| ["-c".into(), line.into()]);
    programs.spawn(program, arguments.collect(), LOG).map(Speaking::Vtysh).map(Some)
}

/// Gives BIRD its orders, if there are any, as birdc does. `text` is the configuration it was started
/// with.
fn birdc(programs: &Programs, text: &str, orders: Orders) -> io::Result<Option<Speaking>> {
    let mut commands = orders.commands;
    if let Some(configuration) = orders.configuration {
        let [path, seen] = BIRD_OTHER;
        if configuration == text {
            commands.push("configure".to_owned());
        } else {
            fs::write(programs.private().join(path), configuration)?;
            commands.push(format!("configure \"{seen}\""));
        }
    }
    if commands.is_empty() {
        return Ok(None);
    }
    let mut socket = UnixStream::connect(programs.private().join(BIRD_SOCKET))?;
    socket.set_read_timeout(Some(ANSWER_WITHIN))?;
    let lines: String = commands.iter().flat_map(|command| [command, "\n"]).collect();
    socket.write_all(lines.as_bytes())?;
    // It greets first.
    Ok(Some(Speaking::Birdc(BufReader::new(socket), 1 + commands.len())))
}

/// Writes so many answers of BIRD into a log. The last line of each has its code and a blank, those
/// before it a code and a dash, or a blank.
///
/// # Errors
/// It does not answer, or says that something did not work.
fn hear(socket: BufReader<UnixStream>, answers: usize, log: &Path) -> io::Result<()> {
    let mut log = File::options().create(true).append(true).open(log)?;
    let mut left = answers;
    let mut failed = None;
    for line in socket.lines() {
        let line = line?;
        writeln!(log, "{line}")?;
        let code = line.get(..4).and_then(|code| code.parse::<u16>().ok());
        let Some(code) = code.filter(|_| line[4..].starts_with(' ')) else { continue };
        if code >= BIRD_FAILED {
            failed = failed.or(Some(line));
        }
        left -= 1;
        if left == 0 {
            return failed.map_or(Ok(()), |line| Err(io::Error::other(line)));
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

impl Operator {
    pub const fn new(consoles: BTreeMap<String, Console>) -> Self {
        Self { consoles }
    }

    /// What a router is by its file; nothing is said.
    pub fn begin(&mut self, config: &RouterConfig) {
        if let Some(console) = self.consoles.get_mut(&config.name) {
            console.configured = Some((config.clone(), config.clone()));
        }
    }

    pub fn has_console(&self, router: &str) -> bool {
        self.consoles.contains_key(router)
    }

    /// Makes a router what `config` says. Of a router without a console, nothing.
    ///
    /// # Errors
    /// The console could not be started, or what it was told before could not be done.
    pub fn tell(&mut self, config: &RouterConfig) -> Result<(), OperatorError> {
        let console = self.consoles.get_mut(&config.name);
        Ok(console.map_or(Ok(()), |console| console.tell(config))?)
    }

    /// Kills a router's programs.
    pub fn cut_power(&mut self, router: &str) {
        if let Some(console) = self.consoles.get_mut(router) {
            console.speaking = None;
            console.programs().crash();
            console.power = Power::Off;
        }
    }

    /// Starts a router's programs anew. What runs is killed.
    pub fn start(&mut self, router: &str) {
        self.consoles.get_mut(router).into_iter().for_each(Console::start);
    }

    pub fn is_off(&self, router: &str) -> bool {
        self.consoles.get(router).is_some_and(|console| console.power == Power::Off)
    }

    /// Goes on with starting routers; those that did not start, or not as they were told to be, and why.
    pub fn advance(&mut self) -> Vec<(String, OperatorError)> {
        let consoles = self.consoles.iter_mut();
        consoles.filter_map(|(name, it)| Some((name.clone(), it.advance().err()?))).collect()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        for console in self.consoles.values_mut() {
            // A router that has ended is as its file says when it is started again.
            let _ = console.leave();
        }
    }
}

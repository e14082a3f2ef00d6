//! `msee lab do EVENT`: what a drill can do to a lab, done to one that runs.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use clap::Args;

use crate::cli::print;
use crate::cli::service::{Done, Happened, Request};
use crate::cli::show::connect;
use crate::lab::socket::Connection;
use crate::sys::clock;

/// How long `--watch` without a number looks on.
const WATCH: &str = "3";
/// How often it looks.
const LOOK: Duration = Duration::from_millis(100);

const EXAMPLES: &str = "\
Examples:
  msee lab do cut --at ams/primary:nni            carrier is lost between provider and MSEE
  msee lab do cut at=ams/primary:nni --watch      and three seconds of what follows from it
  msee lab do impair --at ams/primary --loss 1% --delay 20ms
  msee lab do maintenance --at ams/primary --category BgpDisconnect
  msee lab do restore                             undoes everything
  msee lab do --lab quickstart restore            in one lab of several

The events and their keys are those of a drill's `do:`; `msee drill --list` explains each.";

/// Do something to a running lab: break it, work on it, restore it.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Act {
    /// As after `do:` in a drill.
    event: String,
    /// The event's keys, as --key value or key=value; the same key again makes a list.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "KEY VALUE")]
    keys: Vec<String>,
    /// The lab's name, where several run.
    #[arg(long)]
    lab: Option<String>,
    /// Look on for so many seconds and tell what happens.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = WATCH)]
    #[arg(require_equals = true, value_parser = clap::value_parser!(u64).range(1..=3600))]
    watch: Option<u64>,
}

/// What the words behind the event mean.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Words {
    lab: Option<String>,
    watch: Option<u64>,
    /// In the order in which they came.
    keys: Vec<(String, Vec<String>)>,
}

impl Act {
    pub fn run(&self) -> Result<ExitCode, String> {
        let words = Words::read(&self.keys).map_err(|error| format!("msee: {error}\n"))?;
        self.act(words).map_err(|error| format!("msee: {error}\n"))
    }

    fn act(&self, words: Words) -> Result<ExitCode, String> {
        let mut connection = connect(words.lab.or(self.lab.clone()).as_deref())?;
        let request = Request::Do { event: self.event.clone(), keys: words.keys };
        let done: Done = connection.ask(&request).map_err(|error| error.to_string())?;
        print(&format!("{}\n", done.what));
        let watched = Duration::from_secs(words.watch.or(self.watch).unwrap_or(0));
        tell(&mut connection, &done, watched)
    }
}

/// Prints what has happened since, and for so long what happens.
fn tell(connection: &mut Connection, done: &Done, watched: Duration) -> Result<ExitCode, String> {
    let end = clock::monotonic() + watched;
    let mut since = done.events;
    loop {
        let happened: Happened =
            connection.ask(&Request::Events { since }).map_err(|error| error.to_string())?;
        since = happened.next;
        for event in happened.events {
            let at_ms = event.at_us.saturating_sub(done.at_us) as f64 / 1000.0;
            let (node, kind, detail) = (event.node, event.kind, event.detail);
            print(&format!("{at_ms:>9.1} ms  {node:<16}  {kind:<17} {detail}\n"));
        }
        if clock::monotonic() >= end {
            return Ok(ExitCode::SUCCESS);
        }
        sleep(LOOK);
    }
}

impl Words {
    fn read(words: &[String]) -> Result<Self, String> {
        let mut read = Self::default();
        let mut words = words.iter().map(String::as_str).peekable();
        while let Some(word) = words.next() {
            let (key, value) = match (word.strip_prefix("--"), word.split_once('=')) {
                (Some("watch"), _) => ("watch", WATCH.to_owned()),
                (_, Some((key, value))) => (key.trim_start_matches('-'), value.to_owned()),
                (Some(key), None) => {
                    let value = words.next().ok_or_else(|| format!("--{key}: without a value"))?;
                    (key, value.to_owned())
                }
                (None, None) => {
                    return Err(format!("`{word}` is neither --key value nor key=value"));
                }
            };
            match key {
                "lab" => read.lab = Some(value),
                "watch" => {
                    let seconds = value.parse();
                    read.watch = Some(seconds.map_err(|_| format!("watch: {value} seconds"))?);
                }
                key => read.add(camel_case(key), value),
            }
        }
        Ok(read)
    }

    fn add(&mut self, key: String, value: String) {
        match self.keys.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => values.push(value),
            None => self.keys.push((key, vec![value])),
        }
    }
}

/// `bandwidth-in-mbps` as drill files have it: `bandwidthInMbps`.
fn camel_case(key: &str) -> String {
    let mut parts = key.split('-');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        text.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        text.extend(letters);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::event::EVENTS;

    fn read(line: &str) -> Result<Words, String> {
        Words::read(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn keys_are_read_in_either_form_and_twice_is_a_list() {
        let both = read("--at ams/primary at=lon/primary --loss=1% --lab q --watch").unwrap();
        let list = |values: &[&str]| values.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            both,
            Words {
                lab: Some("q".to_owned()),
                watch: Some(3),
                keys: vec![
                    ("at".to_owned(), list(&["ams/primary", "lon/primary"])),
                    ("loss".to_owned(), list(&["1%"])),
                ],
            }
        );
        let long = read("--bandwidth-in-mbps 2000 --watch=9").unwrap();
        assert_eq!(long.keys, [("bandwidthInMbps".to_owned(), list(&["2000"]))]);
        assert_eq!(long.watch, Some(9));
        assert!(read("--at").unwrap_err().contains("without a value"));
        assert!(read("ams/primary").unwrap_err().contains("key=value"));
    }

    /// What the examples above say can be done.
    #[test]
    fn the_examples_name_events_there_are() {
        let lines = EXAMPLES.lines().filter_map(|line| line.trim().strip_prefix("msee lab do "));
        for line in lines {
            let named = EVENTS.iter().any(|row| line.split(' ').any(|word| word == row.name));
            assert!(named, "{line}");
        }
    }
}

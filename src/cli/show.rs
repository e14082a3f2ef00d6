//! `msee show [LAB] TABLE [NODE]`: the tables of a running lab.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use crate::cli::service::Request;
use crate::cli::{COULD_NOT_RUN, print};
use crate::config::nearest;
use crate::lab::sandbox::{self, Registry};
use crate::lab::show::{self, TABLES};
use crate::lab::socket::Connection;

const EXAMPLES: &str = "\
Examples:
  msee show bgp                          every session of the only lab that runs
  msee show routes ams/primary           the routing tables of one MSEE
  msee show effective-routes hub.app     what a VM follows
  msee show quickstart drops             of one lab of several
  msee show limits --json                for a program

Columns are those of Azure's own tables.";

/// Show tables of a running lab.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Show {
    /// The table, behind the lab's name where several run, and before the one node it is to be of.
    /// Tables: circuits, bgp, routes, arp, bfd, limits, drops, effective-routes.
    #[arg(required = true, num_args = 1..=3, value_name = "[LAB] TABLE [NODE]")]
    words: Vec<String>,
    /// Plain data instead of tables.
    #[arg(long)]
    json: bool,
}

/// What the words of a command line mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Asked<'a> {
    lab: Option<&'a str>,
    table: &'a str,
    node: Option<&'a str>,
}

impl Show {
    pub fn run(&self) -> ExitCode {
        let page = self.ask();
        page.map_or_else(
            |error| {
                eprintln!("msee: {error}");
                ExitCode::from(COULD_NOT_RUN)
            },
            |page| print(&page),
        )
    }

    fn ask(&self) -> Result<String, String> {
        let Asked { lab, table, node } = asked(&self.words)?;
        let mut connection = connect(lab)?;
        let request = Request::Show { table: table.to_owned(), node: node.map(str::to_owned) };
        let answer: Value = connection.ask(&request).map_err(|error| error.to_string())?;
        Ok(if self.json { format!("{answer:#}\n") } else { tables(&answer) })
    }
}

/// Opens the socket of the lab of that name; of the only one, if none is named.
pub fn connect(lab: Option<&str>) -> Result<Connection, String> {
    let registry = Registry::open().map_err(|error| error.to_string())?;
    let lab = sandbox::find(&registry, lab).map_err(|error| error.to_string())?;
    let connection = Connection::open(registry.folder(), &lab.record.name);
    connection.map_err(|error| error.to_string())
}

/// A place with the lab it is of, where its first word is the name of a lab that runs.
pub fn lab_and_place(place: &str) -> Result<(Option<&str>, &str), String> {
    let labs = Registry::open().map_err(|error| error.to_string())?.labs();
    let runs = |name: &str| labs.iter().any(|lab| lab.record.name == name);
    Ok(match place.split_once('/') {
        Some((lab, rest)) if runs(lab) => (Some(lab), rest),
        _ => (None, place),
    })
}

/// The table's name is first, or second behind the lab's.
fn asked(words: &[String]) -> Result<Asked<'_>, String> {
    let word = |at: usize| words.get(at).map(String::as_str);
    let is_table = |at: usize| word(at).is_some_and(|word| TABLES.iter().any(|t| t.name == word));
    if is_table(1) {
        return Ok(Asked { lab: word(0), table: &words[1], node: word(2) });
    }
    if is_table(0) && words.len() <= 2 {
        return Ok(Asked { lab: None, table: &words[0], node: word(1) });
    }
    let names = || TABLES.iter().map(|table| table.name);
    let is_near = |at: &usize| !is_table(*at) && nearest(&words[*at], names()).is_some();
    let meant = (0..words.len().min(2)).find(is_near);
    let meant = meant.unwrap_or(usize::from(words.len() > 1));
    Err(show::table(&words[meant]).expect_err("it is no table's name, nor is the other word"))
}

/// One table, or several under their names.
fn tables(answer: &Value) -> String {
    match answer {
        Value::Object(named) => {
            let part = |(name, rows): (&String, &Value)| format!("{name}\n{}", table(rows));
            named.iter().map(part).collect::<Vec<_>>().join("\n")
        }
        rows => table(rows),
    }
}

/// Rows under the names of their keys, as `az … --output table` writes them.
fn table(rows: &Value) -> String {
    let rows: Vec<_> = rows.as_array().into_iter().flatten().filter_map(Value::as_object).collect();
    let Some(first) = rows.first() else { return "(none)\n".to_owned() };
    let mut lines = vec![first.keys().map(|key| heading(key)).collect::<Vec<_>>()];
    lines.push(lines[0].iter().map(|heading| "-".repeat(heading.len())).collect());
    lines.extend(rows.iter().map(|row| row.values().map(cell).collect()));
    let numbers: Vec<_> = first.values().map(Value::is_number).collect();
    let width =
        |at: usize| lines.iter().filter_map(move |line| line.get(at)).map(|c| c.chars().count());
    let widths: Vec<_> = (0..numbers.len()).map(|at| width(at).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for line in &lines {
        let mut row = String::new();
        for ((cell, width), number) in line.iter().zip(&widths).zip(&numbers) {
            let _ = match number {
                true => write!(row, "{cell:>width$}  "),
                false => write!(row, "{cell:<width$}  "),
            };
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

/// `nextHop` as `NextHop`.
fn heading(key: &str) -> String {
    let mut letters = key.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_lab_may_be_left_out_and_so_may_the_node() {
        let is = |line: &str, lab, table, node| {
            assert_eq!(asked(&words(line)), Ok(Asked { lab, table, node }), "{line}");
        };
        is("bgp", None, "bgp", None);
        is("routes ams/primary", None, "routes", Some("ams/primary"));
        is("quickstart drops", Some("quickstart"), "drops", None);
        is("quickstart arp ce1", Some("quickstart"), "arp", Some("ce1"));
        is("bgp bgp ce1", Some("bgp"), "bgp", Some("ce1"));
    }

    #[test]
    fn a_word_that_is_no_table_is_named_with_the_nearest() {
        let near = |line: &str| asked(&words(line)).unwrap_err();
        assert!(near("rotes").contains("did you mean routes?"), "{}", near("rotes"));
        assert!(near("rotes ams/primary").contains("did you mean routes?"));
        assert!(near("routes ce1 ce2").contains("no table ce1"));
        assert!(near("quickstart efective-routes hub").contains("effective-routes?"));
    }

    #[test]
    fn a_table_has_a_column_for_each_key_and_numbers_to_the_right() {
        let rows = json!([
            { "network": "10.1.0.0/16", "weight": 0, "path": "" },
            { "network": "::/0", "weight": 32768, "path": "65010" },
        ]);
        let shown = "Network      Weight  Path\n\
                     -------      ------  ----\n\
                     10.1.0.0/16       0\n\
                     ::/0          32768  65010\n";
        assert_eq!(tables(&rows), shown);
        assert_eq!(tables(&json!({ "drops": [] })), "drops\n(none)\n");
    }
}

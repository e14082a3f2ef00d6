//! Lab and drill files: text → raw → checked value.
//!
//! [`load_lab`] and [`load_drill`] take a file's text and give its checked value, or every problem
//! of the file at once, each with its line, column, key and rule. Nothing here reads a file; paths
//! only name what is reported.
//!
//! ```text
//! text ── tree ──► nodes with places ── raw ──► fields ── check ──► Lab, Drill
//!                                       one table of keys:
//!                                       reading, defaults, --expand, JSON Schema
//! ```

mod check;
pub mod drill;
mod error;
pub mod lab;
mod raw;
mod reference;
mod tree;

use std::path::{Path, PathBuf};

use serde_json::{Value as JsonValue, json};

pub use error::{At, Drawable, Errors, Problem, Spot};
pub use reference::{
    CircuitLink, HostRef, NodeRef, PeeringRef, Place, Segment, SessionRef, Unknown,
};

use crate::config::drill::Drill;
use crate::config::lab::Lab;
use crate::config::raw::{Raw, Reader};
use crate::config::tree::{Node, Value};

/// The two kinds of files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    Lab,
    Drill,
}

/// A file with `steps:` is a drill. What cannot be read counts as a lab, whose reading says why.
pub fn kind_of(text: &str) -> FileKind {
    match tree::parse(text) {
        Ok(Node { value: Value::Map(entries), .. }) if entries.iter().any(|e| e.key == "steps") => {
            FileKind::Drill
        }
        _ => FileKind::Lab,
    }
}

pub fn load_lab(path: &Path, text: &str) -> Result<Lab, Errors> {
    read_lab(path, text).map(|(lab, _)| lab)
}

/// The lab as a file that says everything: every default with where it is from.
pub fn expand_lab(path: &Path, text: &str) -> Result<String, Errors> {
    read_lab(path, text).map(|(_, raw)| lines(&raw))
}

/// The file of a drill's lab, beside the drill file. Says no more than what is wrong with `lab:`;
/// [`load_drill`] says the rest.
pub fn drill_lab_path(path: &Path, text: &str) -> Result<PathBuf, Errors> {
    let mut reader = Reader::default();
    let drill: Option<raw::drill::Drill> = read(path, text, &mut reader)?;
    match drill.as_ref().and_then(|drill| drill.lab.get()) {
        Some(lab) => Ok(path.parent().unwrap_or(Path::new("")).join(&lab.0)),
        None => Err(Errors::new(&file_name(path), text, reader.problems)),
    }
}

pub fn load_drill(path: &Path, text: &str, lab: &Lab) -> Result<Drill, Errors> {
    read_drill(path, text, lab).map(|(drill, _)| drill)
}

/// The drill as a file that says everything: every default with where it is from.
pub fn expand_drill(path: &Path, text: &str, lab: &Lab) -> Result<String, Errors> {
    read_drill(path, text, lab).map(|(_, raw)| lines(&raw))
}

/// JSON Schema of a kind of file, from the tables it is read by.
pub fn schema(kind: FileKind) -> JsonValue {
    let mut schema = match kind {
        FileKind::Lab => raw::lab::Lab::schema(),
        FileKind::Drill => raw::drill::Drill::schema(),
    };
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema
}

fn read_lab(path: &Path, text: &str) -> Result<(Lab, raw::lab::Lab), Errors> {
    let mut reader = Reader::default();
    let mut lab: Option<raw::lab::Lab> = read(path, text, &mut reader)?;
    if let Some(lab) = &mut lab {
        check::lab::fill(lab, &stem(path), &mut reader);
        check::lab::check(lab, &mut reader);
    }
    match lab {
        Some(lab) if reader.problems.is_empty() => Ok((check::lab::build(&lab), lab)),
        _ => Err(Errors::new(&file_name(path), text, reader.problems)),
    }
}

fn read_drill(path: &Path, text: &str, lab: &Lab) -> Result<(Drill, raw::drill::Drill), Errors> {
    let mut reader = Reader::default();
    let mut raw: Option<raw::drill::Drill> = read(path, text, &mut reader)?;
    let drill = raw.as_mut().and_then(|raw| {
        check::drill::fill(raw, &stem(path), lab);
        check::drill::check(raw, lab, &mut reader)
    });
    match (drill, raw) {
        (Some(drill), Some(raw)) if reader.problems.is_empty() => Ok((drill, raw)),
        _ => Err(Errors::new(&file_name(path), text, reader.problems)),
    }
}

/// The raw value; an error only where the text is no YAML.
fn read<T: Raw>(path: &Path, text: &str, reader: &mut Reader) -> Result<Option<T>, Errors> {
    match tree::parse(text) {
        Ok(node) => Ok(T::read(&node, reader)),
        Err(broken) => {
            let at = At { spot: broken.spot, key: String::new() };
            let problem = Problem { at, found: broken.found, allowed: broken.allowed, rule: None };
            Err(Errors::new(&file_name(path), text, vec![problem]))
        }
    }
}

fn lines(raw: &impl Raw) -> String {
    raw.block().join("\n") + "\n"
}

/// As in messages; the folder does not matter there and differs between hosts.
fn file_name(path: &Path) -> String {
    path.file_name()
        .map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn stem(path: &Path) -> String {
    path.file_stem()
        .map_or_else(|| "unnamed".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

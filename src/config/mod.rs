//! Lab and drill files: text → raw → checked value.
//!
//! A [`Source`] is a file's text with those of the files it extends; it gives the checked value, or
//! every problem of the files at once, each with its file, line, column, key and rule. Nothing here
//! reads a file: the texts of extended ones are asked for, and paths only name what is reported.
//!
//! ```text
//! texts ── tree, source ──► nodes with places ── raw ──► fields ── check ──► Lab, Drill
//!                                                one table of keys:
//!                                                reading, defaults, --expand, JSON Schema
//! ```

mod check;
pub mod drill;
mod error;
pub mod lab;
mod raw;
mod reference;
mod source;
mod tree;

use std::path::{Path, PathBuf};

use serde_json::{Value as JsonValue, json};

pub use error::{At, Drawable, Errors, Problem, Spot, nearest};
pub use reference::{
    CircuitLink, HostRef, NodeRef, PeeringRef, Place, Segment, SessionRef, Unknown,
};
pub use source::Source;

use crate::config::drill::{Drill, Event};
use crate::config::lab::Lab;
use crate::config::raw::{Raw, Reader, Table, table_block};
use crate::config::tree::Value;

/// The two kinds of files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    Lab,
    Drill,
}

/// The lab of a file that extends none.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_lab(path: &Path, text: &str) -> Result<Lab, Errors> {
    Source::alone(path, text)?.lab()
}

/// As [`Source::drill_lab_path`], of a file that extends none.
///
/// # Errors
/// What is wrong with its `lab:`.
pub fn drill_lab_path(path: &Path, text: &str) -> Result<PathBuf, Errors> {
    Source::alone(path, text)?.drill_lab_path()
}

/// The drill of a file that extends none.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_drill(path: &Path, text: &str, lab: &Lab) -> Result<Drill, Errors> {
    Source::alone(path, text)?.drill(lab)
}

impl Source {
    /// A file with `steps:` is a drill.
    pub fn kind(&self) -> FileKind {
        match &self.tree.value {
            Value::Map(entries) if entries.iter().any(|entry| entry.key == "steps") => {
                FileKind::Drill
            }
            _ => FileKind::Lab,
        }
    }

    /// The lab.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn lab(&self) -> Result<Lab, Errors> {
        self.read_lab().map(|(lab, _)| lab)
    }

    /// The lab as one file that says everything: every default and every value of an extended file
    /// with where it is from.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn expanded_lab(&self) -> Result<String, Errors> {
        self.read_lab().map(|(_, raw)| self.lines(&raw))
    }

    /// The file of a drill's lab, which the drill names relative to itself.
    ///
    /// # Errors
    /// No more than what is wrong with `lab:`; [`Source::drill`] says the rest.
    pub fn drill_lab_path(&self) -> Result<PathBuf, Errors> {
        let mut reader = Reader::new(self.names());
        let drill = raw::drill::Drill::read(&self.tree, &mut reader);
        match drill.as_ref().and_then(|drill| drill.lab.get()) {
            Some(lab) => Ok(self.path().parent().unwrap_or(Path::new("")).join(&lab.0)),
            None => Err(self.errors(reader.problems)),
        }
    }

    /// The drill.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn drill(&self, lab: &Lab) -> Result<Drill, Errors> {
        self.read_drill(lab, &[]).map(|(drill, _)| drill)
    }

    /// A drill of a lab that others have done something to.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn drill_after(&self, earlier: &[Event], lab: &Lab) -> Result<Drill, Errors> {
        self.read_drill(lab, earlier).map(|(drill, _)| drill)
    }

    /// The drill as one file that says everything, as [`Source::expanded_lab`].
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn expanded_drill(&self, lab: &Lab) -> Result<String, Errors> {
        self.read_drill(lab, &[]).map(|(_, raw)| self.lines(&raw))
    }

    /// What is wrong with steps of a good drill where it is to run: the place of each among the steps,
    /// what was found, and what is allowed.
    pub fn refuse_steps(&self, refused: Vec<(usize, String, String)>) -> Errors {
        let mut reader = Reader::new(self.names());
        let drill = raw::drill::Drill::read(&self.tree, &mut reader);
        let steps: Vec<_> =
            drill.iter().flat_map(|drill| drill.steps.items()).map(|(step, _)| step).collect();
        for (step, found, allowed) in refused {
            reader.refuse(&steps[step].keys.does.at, found, allowed, None);
        }
        self.errors(reader.problems)
    }

    fn read_lab(&self) -> Result<(Lab, raw::lab::Lab), Errors> {
        let mut reader = Reader::new(self.names());
        let mut lab = raw::lab::Lab::read(&self.tree, &mut reader);
        if let Some(lab) = &mut lab {
            check::lab::fill(lab, &stem(self.path()), &mut reader);
            check::lab::check(lab, &mut reader);
        }
        match lab {
            Some(lab) if reader.problems.is_empty() => Ok((check::lab::build(&lab), lab)),
            _ => Err(self.errors(reader.problems)),
        }
    }

    fn read_drill(
        &self,
        lab: &Lab,
        earlier: &[Event],
    ) -> Result<(Drill, raw::drill::Drill), Errors> {
        let mut reader = Reader::new(self.names());
        let mut raw = raw::drill::Drill::read(&self.tree, &mut reader);
        let drill = raw.as_mut().and_then(|raw| {
            check::drill::fill(raw, &stem(self.path()), lab);
            check::drill::check(raw, lab, earlier, &mut reader)
        });
        match (drill, raw) {
            (Some(drill), Some(raw)) if reader.problems.is_empty() => Ok((drill, raw)),
            _ => Err(self.errors(reader.problems)),
        }
    }

    /// What a file extends is in these lines already.
    fn lines(&self, raw: &impl Table) -> String {
        let files = self.names();
        let mut shown = raw.shown(&files);
        shown.retain(|shown| shown.key != "extends");
        table_block(shown, &files).join("\n") + "\n"
    }
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

fn stem(path: &Path) -> String {
    path.file_stem()
        .map_or_else(|| "unnamed".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

//! Reading lab and drill files, and those they extend, for every verb: the text of a problem is the
//! same everywhere.

use std::fs;
use std::io::{IsTerminal, stderr};
use std::path::{Path, PathBuf};

use miette::{GraphicalReportHandler, GraphicalTheme};

use crate::config::drill::Drill;
use crate::config::lab::Lab;
use crate::config::{Errors, Source};

/// A drill and its lab, or everything that is wrong with them.
pub fn load_drill(path: &Path) -> Result<(Lab, Drill), String> {
    let source = open(path)?;
    let lab = lab_of(&source)?;
    let drill = source.drill(&lab).map_err(render)?;
    Ok((lab, drill))
}

/// Where the lab file of a drill is.
pub fn lab_path_of(path: &Path) -> Result<PathBuf, String> {
    open(path)?.drill_lab_path().map_err(render)
}

/// The lab of a drill with every default and where the default is from.
pub fn expand_lab_of(path: &Path) -> Result<String, String> {
    let lab = open(path)?.drill_lab_path().map_err(render)?;
    open(&lab)?.expanded_lab().map_err(render)
}

/// The lab of a drill.
pub fn lab_of(drill: &Source) -> Result<Lab, String> {
    open(&drill.drill_lab_path().map_err(render)?)?.lab().map_err(render)
}

/// A file with those it extends.
pub fn open(path: &Path) -> Result<Source, String> {
    let read = |path: &Path| fs::read_to_string(path).map_err(|error| error.to_string());
    let text = read(path).map_err(|error| format!("{}: {error}\n", path.display()))?;
    Source::open(path, &text, &read).map_err(render)
}

/// Drawn into the file's text on a terminal, plain elsewhere.
pub fn render(errors: Errors) -> String {
    let count = errors.problems().len();
    let end = format!("{}: {count} problem{}\n", errors.file(), if count == 1 { "" } else { "s" });
    if !stderr().is_terminal() {
        return format!("{errors}{end}");
    }
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode());
    let mut drawn = String::new();
    for problem in errors.drawable() {
        // Writing into a string does not fail; what is drawn so far is shown in any case.
        let _ = handler.render_report(&mut drawn, &problem);
    }
    drawn + &end
}

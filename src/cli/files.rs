//! Reading lab and drill files for every verb: the text of a problem is the same everywhere.

use std::fs;
use std::io::{IsTerminal, stderr};
use std::path::Path;

use miette::{GraphicalReportHandler, GraphicalTheme};

use crate::config::drill::Drill;
use crate::config::lab::Lab;
use crate::config::{self, Errors};

/// A drill and its lab, or everything that is wrong with them.
pub fn load_drill(path: &Path) -> Result<(Lab, Drill), String> {
    let text = read(path)?;
    let lab_path = config::drill_lab_path(path, &text).map_err(render)?;
    let lab_text = read(&lab_path)?;
    let lab = config::load_lab(&lab_path, &lab_text).map_err(render)?;
    let drill = config::load_drill(path, &text, &lab).map_err(render)?;
    Ok((lab, drill))
}

/// The lab of a drill with every default and where the default is from.
pub fn expand_lab_of(path: &Path) -> Result<String, String> {
    let lab_path = config::drill_lab_path(path, &read(path)?).map_err(render)?;
    config::expand_lab(&lab_path, &read(&lab_path)?).map_err(render)
}

pub fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}\n", path.display()))
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

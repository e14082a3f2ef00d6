//! What several tests do with the files of `fixtures`.

use std::fs;
use std::path::Path;

use msee::config::Source;
use msee::config::drill::Drill;
use msee::config::lab::Lab;

/// A drill and its lab, with all files they extend; panics with everything that is wrong.
pub fn load_drill(path: &Path) -> (Lab, Drill) {
    let drill = open(path);
    let lab = open(&drill.drill_lab_path().unwrap()).lab();
    let lab = lab.unwrap_or_else(|errors| panic!("{}: {errors}", path.display()));
    let drill = drill.drill(&lab);
    let drill = drill.unwrap_or_else(|errors| panic!("{}: {errors}", path.display()));
    (lab, drill)
}

fn open(path: &Path) -> Source {
    let read = |path: &Path| fs::read_to_string(path).map_err(|error| error.to_string());
    let text = read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Source::open(path, &text, &read).unwrap_or_else(|errors| panic!("{errors}"))
}

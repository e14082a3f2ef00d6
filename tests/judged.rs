//! Each event and each form of expectation has a drill in which an expectation holds and one in
//! which it fails, in `fixtures/judged`; what the report says of each is `sentences.txt`.

mod support;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use msee::config::drill::Drill;
use msee::drill::{event, expect};

const FOLDER: &str = "fixtures/judged";

/// What the report says of a drill's expectations, each of which must be as `held` says.
fn sentences(name: &str, held: bool) -> String {
    let path = Path::new(FOLDER).join(name).with_extension("yaml");
    let (lab, drill) = support::load_drill(&path);
    let is_about = |row: &str| {
        let does = |drill: &Drill, row: &str| {
            drill.steps.iter().filter_map(|step| step.event.as_ref()).any(|e| e.name() == row)
        };
        let expects = |row: &str| drill.expect.iter().any(|e| expect::row(&e.form).name == row);
        match row.split_once('-') {
            Some(("event", row)) => does(&drill, row),
            Some((_, row)) => expects(row),
            None => false,
        }
    };
    let row = name.rsplit_once('-').map_or(name, |(row, _)| row);
    assert!(is_about(row), "{name} is not about its row");
    let report = msee::drill::run(&lab, &drill, &mut |_| {});
    let mut text = format!("{name}\n");
    for expectation in &report.expectations {
        let mark = if expectation.held { "held" } else { "failed" };
        let _ = writeln!(text, "  {mark}: {}", expectation.text);
        let _ = writeln!(text, "    {}", expectation.actual);
        assert!(expectation.evaluated, "{text}");
        assert_eq!(expectation.held, held, "{text}");
    }
    assert!(!report.expectations.is_empty(), "{name} expects nothing");
    text
}

fn rows() -> Vec<String> {
    let events = event::EVENTS.iter().map(|row| format!("event-{}", row.name));
    events.chain(expect::FORMS.iter().map(|row| format!("form-{}", row.name))).collect()
}

/// `UPDATE_FIXTURES=1` writes what is said now.
#[test]
fn every_row_can_hold_and_fail() {
    let cases: Vec<_> = rows()
        .into_iter()
        .flat_map(|row| [(format!("{row}-holds"), true), (format!("{row}-fails"), false)])
        .collect();
    let said: String = cases.iter().map(|(name, held)| sentences(name, *held)).collect();
    let path = Path::new(FOLDER).join("sentences.txt");
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        fs::write(&path, &said).unwrap();
    }
    assert_eq!(said, fs::read_to_string(&path).unwrap());
}

#[test]
fn no_drill_of_the_folder_is_left_out() {
    let files = fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path());
    let drills = files.filter_map(|path| {
        let name = path.file_stem()?.to_string_lossy().into_owned();
        (name.ends_with("-holds") || name.ends_with("-fails")).then_some(name)
    });
    let expected =
        rows().into_iter().flat_map(|row| [format!("{row}-holds"), format!("{row}-fails")]);
    assert_eq!(drills.collect::<BTreeSet<_>>(), expected.collect());
}

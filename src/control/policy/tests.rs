//! Every rule has a folder of cases, and at least one case that comes out otherwise without it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use crate::control::policy::rules::{Direction, RULES, Rule, run_through};
use crate::control::policy::text::{Words, show};
use crate::control::policy::{Route, Session, Source};
use crate::model::{ExportPolicy, ImportPolicy};

const FOLDER: &str = "fixtures/policy";

#[test]
fn every_rule_decides_its_cases() {
    for rule in RULES {
        let mut matters = false;
        for entry in fs::read_dir(Path::new(FOLDER).join(rule.name)).unwrap() {
            matters |= check(rule, &entry.unwrap().path());
        }
        assert!(matters, "no case of {} comes out otherwise without it", rule.name);
    }
}

#[test]
fn every_folder_is_a_rule_and_every_rule_says_where_it_is_from() {
    let folders = fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().file_name());
    let folders: BTreeSet<_> = folders.map(|name| name.into_string().unwrap()).collect();
    let rules: BTreeSet<_> = RULES.iter().map(|rule| rule.name.to_owned()).collect();
    assert_eq!(folders, rules);
    assert_eq!(rules.len(), RULES.len(), "two rules of one name");
    assert!(RULES.iter().all(|rule| !rule.id.is_empty() && !rule.kinds.is_empty()));
}

/// Walks one file: a `session` line, `route` lines, and after each what came of it (`=>`).
fn check(rule: &Rule, file: &Path) -> bool {
    let text = fs::read_to_string(file).unwrap();
    let mut session = "";
    let mut matters = false;
    let mut found = String::new();
    for line in text.lines().filter(|line| !line.starts_with("=>")) {
        found += line;
        found += "\n";
        if line.starts_with("session") {
            session = line;
        } else if line.starts_with("route") {
            let with = outcome(RULES.iter(), rule.direction, session, line);
            let others = RULES.iter().filter(|each| each.name != rule.name);
            matters |= with != outcome(others, rule.direction, session, line);
            writeln!(found, "=> {with}").unwrap();
        }
    }
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        fs::write(file, &found).unwrap();
    }
    let expected = fs::read_to_string(file).unwrap();
    assert_eq!(found, expected, "{}", file.display());
    matters
}

fn outcome<'a>(
    rules: impl Iterator<Item = &'a Rule>,
    direction: Direction,
    session: &str,
    route: &str,
) -> String {
    let (session, words) = (Words::of(session), Words::of(route));
    let import = ImportPolicy {
        local_preference: session.parsed("preference"),
        weight: session.parsed("weight").unwrap_or(0),
    };
    let export = ExportPolicy { prepend: session.parsed("prepend").unwrap_or(0) };
    let session = Session {
        kind: session.kind("kind").unwrap(),
        local: session.parsed("local").unwrap(),
        local_asn: session.asn("asn").unwrap(),
        import: &import,
        export: &export,
        maintenance: session.parsed("maintenance").unwrap_or(0),
    };
    let source = words.kind("from").map_or(Source::Own, |kind| {
        let back = words.value("back").is_some();
        Source::Learned { kind, back }
    });
    let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let mut route = Route {
        attributes: words.attributes(nowhere),
        weight: words.parsed("weight").unwrap_or(0),
        source,
    };
    match run_through(rules, direction, &session, &mut route) {
        Err(refusal) => format!("refused: {refusal}"),
        Ok(()) if direction == Direction::Import => {
            format!("{} weight={}", show(&route.attributes), route.weight)
        }
        Ok(()) => show(&route.attributes),
    }
}

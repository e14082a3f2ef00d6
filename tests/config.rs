//! `fixtures/config`: each `NAME.yaml` is a lab or a drill, with what it means (`NAME.ok`, the
//! expanded file) or everything that is wrong with it (`NAME.err`). `UPDATE_FIXTURES=1` rewrites.
//! `bases` holds files that only others extend.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use msee::config::lab::Lab;
use msee::config::{self, FileKind, Source};

const FOLDER: &str = "fixtures/config";

#[test]
fn every_file_means_or_misses_what_is_written_beside_it() {
    let update = std::env::var_os("UPDATE_FIXTURES").is_some();
    let mut wrong = Vec::new();
    for path in files() {
        let (extension, other, found) = match outcome(&path) {
            Ok(text) => ("ok", "err", text),
            Err(text) => ("err", "ok", text),
        };
        let beside = path.with_extension(extension);
        if update {
            let _ = fs::remove_file(path.with_extension(other));
            fs::write(&beside, &found).unwrap();
        }
        let expected = fs::read_to_string(&beside).unwrap_or_default();
        if expected != found || path.with_extension(other).exists() {
            wrong.push(format!("{}: expected\n{expected}\nfound\n{found}", beside.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_expanded_file_means_the_same() {
    for path in files() {
        let Ok(expanded) = outcome(&path) else { continue };
        let source = open(&path).unwrap();
        match source.kind() {
            FileKind::Lab => {
                let lab = source.lab().unwrap();
                assert_eq!(lab, config::load_lab(&path, &expanded).unwrap(), "{}", path.display());
            }
            FileKind::Drill => {
                let lab = lab_of(&source).unwrap();
                let drill = source.drill(&lab).unwrap();
                let mut again = config::load_drill(&path, &expanded, &lab).unwrap();
                // An expectation's text is what the file gave, and here everything is given.
                for (again, first) in again.expect.iter_mut().zip(&drill.expect) {
                    again.text.clone_from(&first.text);
                }
                assert_eq!(drill, again, "{}", path.display());
            }
        }
    }
}

#[test]
fn the_schema_accepts_every_key_that_the_reader_accepts() {
    for (kind, name) in [(FileKind::Lab, "contoso.yaml"), (FileKind::Drill, "every-event.yaml")] {
        let path = Path::new(FOLDER).join(name);
        let value: serde_json::Value =
            serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        accepts(&config::schema(kind), &value, "").unwrap();
    }
}

proptest! {
    /// A good file with some bytes exchanged, left out or doubled is read or refused.
    #[test]
    fn damaged_files_are_refused_and_nothing_else(
        drill in any::<bool>(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..12_usize, "[ -~\n]{0,4}"), 1..6),
    ) {
        let path = Path::new(FOLDER).join(if drill { "every-event.yaml" } else { "dual-stack.yaml" });
        let text = damaged(fs::read_to_string(&path).unwrap(), &edits);
        if drill {
            let contoso = Path::new(FOLDER).join("contoso.yaml");
            let lab = config::load_lab(&contoso, &fs::read_to_string(&contoso).unwrap()).unwrap();
            let _ = config::load_drill(&path, &text, &lab);
        } else {
            let _ = config::load_lab(&path, &text);
        }
    }
}

proptest! {
    /// The same of a file that others extend.
    #[test]
    fn damaged_files_below_are_refused_and_nothing_else(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..12_usize, "[ -~\n]{0,4}"), 1..6),
    ) {
        for name in ["extends-lab.yaml", "extends-drill-merge.yaml"] {
            let path = Path::new(FOLDER).join(name);
            let text = fs::read_to_string(&path).unwrap();
            let read = |path: &Path| {
                let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
                Ok(damaged(text, &edits))
            };
            let Ok(source) = Source::open(&path, &text, &read) else { continue };
            if let Err(errors) = source.expanded_lab() {
                prop_assert!(!errors.to_string().is_empty());
            }
            let contoso = Path::new(FOLDER).join("contoso.yaml");
            let lab = config::load_lab(&contoso, &fs::read_to_string(&contoso).unwrap()).unwrap();
            if let Err(errors) = source.expanded_drill(&lab) {
                prop_assert!(!errors.to_string().is_empty());
            }
        }
    }
}

/// A text with some bytes exchanged, left out or doubled.
fn damaged(mut text: String, edits: &[(prop::sample::Index, usize, String)]) -> String {
    for (at, length, instead) in edits {
        let at = at.index(text.len());
        let end = (at + length).min(text.len());
        text.replace_range(at..end, instead);
    }
    text
}

/// As much of JSON Schema as the schema uses for structure.
fn accepts(schema: &serde_json::Value, value: &serde_json::Value, at: &str) -> Result<(), String> {
    if let Some(kinds) = schema["oneOf"].as_array() {
        let fits = kinds.iter().filter(|kind| accepts(kind, value, at).is_ok()).count();
        return if fits == 1 { Ok(()) } else { Err(format!("{at}: {fits} kinds fit {value}")) };
    }
    if let Some(constant) = schema.get("const") {
        return if constant == value { Ok(()) } else { Err(format!("{at}: not {constant}")) };
    }
    if let Some(words) = schema["enum"].as_array() {
        return if words.contains(value) {
            Ok(())
        } else {
            Err(format!("{at}: {value} is no word"))
        };
    }
    match (schema["type"].as_str(), value) {
        (Some("object"), serde_json::Value::Object(map)) => {
            for (key, value) in map {
                let Some(inner) = schema["properties"].get(key) else {
                    return Err(format!("{at}: no {key}"));
                };
                accepts(inner, value, &format!("{at}.{key}"))?;
            }
            let required = schema["required"].as_array().unwrap();
            let missing = required.iter().find(|key| !map.contains_key(key.as_str().unwrap()));
            missing.map_or(Ok(()), |key| Err(format!("{at}: {key} is missing")))
        }
        (Some("array"), serde_json::Value::Array(items)) => {
            items.iter().try_for_each(|item| accepts(&schema["items"], item, at))
        }
        (Some("string"), serde_json::Value::String(_))
        | (Some("integer"), serde_json::Value::Number(_))
        | (Some("boolean"), serde_json::Value::Bool(_))
        | (None, _) => Ok(()),
        (kind, value) => Err(format!("{at}: {value} is no {kind:?}")),
    }
}

fn files() -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(FOLDER)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() > 30);
    files
}

/// The expanded file, or what is wrong with it.
fn outcome(path: &Path) -> Result<String, String> {
    let source = open(path)?;
    match source.kind() {
        FileKind::Lab => source.expanded_lab().map_err(|errors| errors.to_string()),
        FileKind::Drill => {
            let lab = lab_of(&source)?;
            source.expanded_drill(&lab).map_err(|errors| errors.to_string())
        }
    }
}

fn lab_of(drill: &Source) -> Result<Lab, String> {
    let path = drill.drill_lab_path().map_err(|errors| errors.to_string())?;
    open(&path)?.lab().map_err(|errors| errors.to_string())
}

fn open(path: &Path) -> Result<Source, String> {
    let text = fs::read_to_string(path).unwrap();
    let read = |path: &Path| fs::read_to_string(path).map_err(|_| "no such file".to_owned());
    Source::open(path, &text, &read).map_err(|errors| errors.to_string())
}

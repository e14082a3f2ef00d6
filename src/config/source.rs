//! A file and the files it extends, as one tree.
//!
//! `extends: base.yaml` puts a file on top of another one, which may itself extend a third. What
//! stands in the upper file counts:
//!
//! - maps merge key by key; `key: null` takes the lower file's key away;
//! - lists in [`IDENTITIES`] merge item by item: an item that says the same of the keys there is
//!   merged into the lower file's, every other one is appended;
//! - everything else replaces what the lower file says, lists as a whole: so does `expect`, since
//!   nothing tells one expectation from another.
//!
//! Paths in a file (`extends`, `lab`, a router's `config`) are relative to that file.

use std::path::{Path, PathBuf};

use miette::NamedSource;

use crate::config::error::{At, Errors, Problem};
use crate::config::raw::{Extends, FilePath, Reader, Table, plain_path};
use crate::config::tree::{self, Entry, Node, Value};

/// Lists that merge item by item, and what tells their items apart.
const IDENTITIES: &[(&str, &[&str])] = &[
    ("circuits", &["name"]),
    ("peerings", &["peeringType"]),
    ("sites", &["name"]),
    ("networks", &["name"]),
    ("originates", &["prefix"]),
    ("routers", &["name"]),
    ("uplinks", &["circuit", "link"]),
    ("virtualNetworks", &["name"]),
    ("hosts", &["name"]),
    ("gateways", &["name"]),
    ("connections", &["circuit"]),
    ("traffic", &["name"]),
    ("steps", &["step"]),
];

/// Most files below one.
const BASES_MAX: usize = 8;

/// A file that could be read, with those it extends.
#[derive(Debug)]
pub struct Source {
    /// The file itself first, then the one it extends, and so on.
    files: Vec<File>,
    pub(super) tree: Node,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    /// As it is found from the first file's folder.
    name: PathBuf,
    text: String,
}

impl Source {
    /// `read` gives the text of a file below, or why it cannot be read.
    ///
    /// # Errors
    /// A file that is no YAML or cannot be read, and files that extend each other.
    pub fn open(
        path: &Path,
        text: &str,
        read: &dyn Fn(&Path) -> Result<String, String>,
    ) -> Result<Self, Errors> {
        // The folder does not matter in messages and differs between hosts.
        let name = path.file_name().map_or_else(|| path.to_owned(), PathBuf::from);
        let mut files = vec![File { path: path.to_owned(), name, text: text.to_owned() }];
        let mut trees = Vec::new();
        loop {
            let tree = parse(&files)?;
            let below = below(&files, &tree, read)?;
            trees.push(tree);
            match below {
                Some(file) => files.push(file),
                None => break,
            }
        }
        let merged = trees.into_iter().rev().reduce(|lower, upper| merge(lower, upper, ""));
        Ok(Self { files, tree: merged.expect("the file itself is among them") })
    }

    /// A file that extends none.
    ///
    /// # Errors
    /// A file that is no YAML, or extends another one.
    pub fn alone(path: &Path, text: &str) -> Result<Self, Errors> {
        Self::open(path, text, &|_| Err("only this file is at hand".to_owned()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.files[0].path
    }

    /// By `Spot::file`.
    pub(super) fn names(&self) -> Vec<PathBuf> {
        self.files.iter().map(|file| file.name.clone()).collect()
    }

    pub(super) fn errors(&self, problems: Vec<Problem>) -> Errors {
        errors(&self.files, problems)
    }
}

fn errors(files: &[File], problems: Vec<Problem>) -> Errors {
    let source = |file: &File| NamedSource::new(file.name.display().to_string(), file.text.clone());
    Errors::new(files.iter().map(source).collect(), problems)
}

/// The tree of the lowest file so far.
fn parse(files: &[File]) -> Result<Node, Errors> {
    let number = files.len() - 1;
    tree::parse(&files[number].text, number).map_err(|broken| {
        let at = At { spot: broken.spot, key: String::new() };
        let problem = Problem { at, found: broken.found, allowed: broken.allowed, rule: None };
        errors(files, vec![problem])
    })
}

/// The file below the lowest so far, whose tree this is.
fn below(
    files: &[File],
    tree: &Node,
    read: &dyn Fn(&Path) -> Result<String, String>,
) -> Result<Option<File>, Errors> {
    let Value::Map(entries) = &tree.value else { return Ok(None) };
    let mut reader = Reader::new(files.iter().map(|file| file.name.clone()).collect());
    let extends = Extends::take(entries, tree.spot, &mut reader).extends;
    if !reader.problems.is_empty() {
        return Err(errors(files, reader.problems));
    }
    let Some(FilePath(name)) = extends.get() else { return Ok(None) };
    let path = files[0].path.parent().unwrap_or(Path::new("")).join(name);
    let name = plain_path(Path::new(name));
    let mut refuse = |found: String, allowed: &str| {
        reader.refuse(&extends.at, found, allowed, None);
        errors(files, std::mem::take(&mut reader.problems))
    };
    if let Some(first) = files.iter().position(|file| plain_path(&file.path) == plain_path(&path)) {
        let chain = files[first..].iter().chain(&files[first..=first]);
        let chain: Vec<_> = chain.map(|file| file.name.display().to_string()).collect();
        let found = format!("files that extend each other: {}", chain.join(" → "));
        return Err(refuse(found, "a file that does not extend this one"));
    }
    if files.len() > BASES_MAX {
        let found = format!("more than {BASES_MAX} files, each extending the next");
        return Err(refuse(found, "fewer"));
    }
    match read(&path) {
        Ok(text) => Ok(Some(File { path, name, text })),
        Err(why) => {
            let found = format!("{} cannot be read: {why}", name.display());
            Err(refuse(found, "a file's path, relative to this file"))
        }
    }
}

/// What two files say together; `key` is where the values stand.
fn merge(lower: Node, upper: Node, key: &str) -> Node {
    let value = match (lower.value, upper.value) {
        (Value::Map(lower), Value::Map(upper)) => Value::Map(merge_entries(lower, upper)),
        (Value::List(lower), Value::List(upper)) => {
            match IDENTITIES.iter().find(|(list, _)| *list == key) {
                Some((_, identity)) => Value::List(merge_items(lower, upper, identity)),
                None => Value::List(upper),
            }
        }
        (_, upper) => upper,
    };
    Node { spot: upper.spot, value }
}

/// The lower file's keys, changed, and then those that are new. A key that stands twice in one
/// file still does, and is reported later.
fn merge_entries(lower: Vec<Entry>, upper: Vec<Entry>) -> Vec<Entry> {
    let mut upper: Vec<_> = upper.into_iter().map(Some).collect();
    let mut merged = Vec::new();
    for entry in lower.into_iter().filter(|entry| entry.key != "extends") {
        let same = |above: &Option<Entry>| above.as_ref().is_some_and(|a| a.key == entry.key);
        match upper.iter().position(same).and_then(|at| upper[at].take()) {
            Some(above) if above.value.is_null() => {}
            Some(above) => {
                let value = merge(entry.value, above.value, &entry.key);
                merged.push(Entry { key: entry.key, spot: above.spot, value });
            }
            None => merged.push(entry),
        }
    }
    merged.extend(upper.into_iter().flatten());
    merged
}

/// The lower file's items, changed, and then those that are new. An item that stands twice in one
/// file still does, and is reported later.
fn merge_items(lower: Vec<Node>, upper: Vec<Node>, identity: &[&str]) -> Vec<Node> {
    let mut upper: Vec<_> = upper.into_iter().map(Some).collect();
    let mut merged = Vec::new();
    for item in lower {
        let name = name_of(&item, identity);
        let same = |above: &Option<Node>| {
            name.is_some() && above.as_ref().and_then(|above| name_of(above, identity)) == name
        };
        match upper.iter().position(same).and_then(|at| upper[at].take()) {
            Some(above) => merged.push(merge(item, above, "")),
            None => merged.push(item),
        }
    }
    merged.extend(upper.into_iter().flatten());
    merged
}

/// What tells an item apart; none when it does not say so.
fn name_of<'n>(item: &'n Node, identity: &[&str]) -> Option<Vec<&'n str>> {
    let Value::Map(entries) = &item.value else { return None };
    let text = |key: &&str| match &entries.iter().find(|entry| entry.key == *key)?.value.value {
        Value::Scalar(scalar) => Some(scalar.text.as_str()),
        Value::List(_) | Value::Map(_) => None,
    };
    identity.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value as JsonValue;

    use super::*;
    use crate::config::{FileKind, schema};

    /// Keys of a schema whose values are lists of maps.
    fn lists_of_maps(schema: &JsonValue, lists: &mut BTreeSet<String>) {
        for (key, value) in schema["properties"].as_object().into_iter().flatten() {
            let items = &value["items"];
            if items["properties"].is_object() || items["oneOf"][0]["properties"].is_object() {
                lists.insert(key.clone());
            }
            lists_of_maps(value, lists);
            lists_of_maps(items, lists);
        }
    }

    #[test]
    fn every_list_of_maps_but_expect_tells_its_items_apart() {
        let mut lists = BTreeSet::new();
        lists_of_maps(&schema(FileKind::Lab), &mut lists);
        lists_of_maps(&schema(FileKind::Drill), &mut lists);
        assert!(lists.remove("expect"));
        let rows = IDENTITIES.iter().map(|(list, _)| (*list).to_owned()).collect();
        assert_eq!(lists, rows, "a list of maps has a row in IDENTITIES");
    }
}

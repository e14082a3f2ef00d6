//! What a file said: one struct per map of the file, each field with its place and origin.
//!
//! [`raw!`] writes each struct from one table of keys. The same table reads the file, finds unknown
//! and missing keys, fills in constant defaults, prints the expanded file and makes the JSON Schema,
//! so that none of them can say something else than the others.

pub mod drill;
pub mod lab;
mod leaf;

pub use leaf::*;

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use serde_json::{Map as Json, Value as JsonValue, json};

use crate::config::error::{At, PROBLEMS_MAX, Problem, Spot, nearest};
use crate::config::tree::{self, Entry, Node, Value};

/// Properties that Azure's own output carries and a lab does not use; accepted on resources, as is
/// whatever Azure prints empty.
const AZURE_PROPERTIES: &[&str] = &[
    "adminState",
    "allowClassicOperations",
    "allowGlobalReach",
    "authorizationKey",
    "authorizationStatus",
    "authorizations",
    "azureASN",
    "bandwidthInGbps",
    "bgpCommunities",
    "circuitProvisioningState",
    "ddosProtectionPlan",
    "dhcpOptions",
    "enableDdosProtection",
    "enableDirectPortRateLimit",
    "enableVmProtection",
    "encryption",
    "etag",
    "expressRouteConnection",
    "expressRoutePort",
    "extendedLocation",
    "flowTimeoutInMinutes",
    "gatewayManagerEtag",
    "globalReachEnabled",
    "id",
    "identity",
    "ipConfigurations",
    "ipv6CircuitConnectionConfig",
    "lastModifiedBy",
    "location",
    "microsoftPeeringConfig",
    "name",
    "peeredConnections",
    "primaryAzurePort",
    "provisioningState",
    "resourceGroup",
    "resourceGuid",
    "routeFilter",
    "secondaryAzurePort",
    "serviceKey",
    "serviceProviderNotes",
    "serviceProviderProvisioningState",
    "stats",
    "subnets",
    "tags",
    "type",
    "zones",
];

/// Something a file can hold.
pub trait Raw: Sized {
    /// None when it does not fit; the problem is then reported.
    fn read(node: &Node, reader: &mut Reader) -> Option<Self>;
    fn schema() -> JsonValue;
    /// As one line of YAML, or None when it takes more.
    fn inline(&self) -> Option<String>;
    /// As lines of YAML; `files` are by [`Spot::file`].
    fn block(&self, _files: &[PathBuf]) -> Vec<String> {
        self.inline().into_iter().collect()
    }
}

/// A map with known keys.
pub trait Table: Sized {
    const KEYS: &'static [Key];
    /// Whether [`AZURE_PROPERTIES`] are accepted.
    const AZURE: bool;
    /// Reads its own keys and leaves others alone.
    fn take(entries: &[Entry], spot: Spot, reader: &mut Reader) -> Self;
    fn shown(&self, files: &[PathBuf]) -> Vec<Shown>;
}

/// A row of a table of keys.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub doc: &'static str,
    pub presence: Presence,
    /// Id of the rule or default.
    pub source: Option<&'static str>,
    pub schema: fn() -> JsonValue,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    Required,
    Optional,
    /// As it would stand in the file.
    Default(&'static str),
}

/// A value of a map or a list.
#[derive(Clone, Debug)]
pub struct Field<T> {
    pub value: Option<T>,
    pub at: At,
    pub origin: Origin,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    Given,
    /// Given, but it did not fit; reported.
    Wrong,
    Absent,
    /// Filled in; the id of where the default is from.
    Default(Option<&'static str>),
}

/// A field ready to be printed.
#[derive(Debug)]
pub struct Shown {
    pub key: &'static str,
    pub inline: Option<String>,
    pub block: Vec<String>,
    pub origin: Origin,
    /// As [`Spot::file`].
    pub file: usize,
}

pub type List<T> = Vec<Field<T>>;

/// Goes through a tree with the path to where it is, and collects what is wrong.
#[derive(Debug, Default)]
pub struct Reader {
    pub problems: Vec<Problem>,
    /// The files that are read, by [`Spot::file`]: as they are found from the first one's folder.
    files: Vec<PathBuf>,
    path: String,
}

impl<T> Field<T> {
    pub fn get(&self) -> Option<&T> {
        self.value.as_ref()
    }

    /// The value, where no problem was reported and the key is required or has a default.
    pub fn sure(&self) -> &T {
        self.value.as_ref().expect("a file without problems has every required value")
    }

    pub fn is_given(&self) -> bool {
        self.origin == Origin::Given
    }

    /// Gives a value to what the file left out.
    pub fn fill(&mut self, value: T, source: Option<&'static str>) {
        if self.origin == Origin::Absent {
            self.value = Some(value);
            self.origin = Origin::Default(source);
        }
    }
}

impl<T> Field<Vec<Field<T>>> {
    /// The elements that could be read, each with its place.
    pub fn items(&self) -> impl Iterator<Item = (&T, &At)> {
        let items = self.value.as_deref().unwrap_or_default();
        items.iter().filter_map(|item| Some((item.value.as_ref()?, &item.at)))
    }

    pub fn items_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let items = self.value.as_deref_mut().unwrap_or_default();
        items.iter_mut().filter_map(|item| item.value.as_mut())
    }
}

impl Reader {
    pub fn new(files: Vec<PathBuf>) -> Self {
        Self { problems: Vec::new(), files, path: String::new() }
    }

    /// As in a sentence: `line 4`, or `line 4 of base.yaml` where another file is extended.
    pub fn line(&self, spot: Spot) -> String {
        match self.files.get(spot.file) {
            Some(file) if spot.file > 0 => format!("line {} of {}", spot.line, file.display()),
            _ => format!("line {}", spot.line),
        }
    }

    /// A path that stands in a file, as it is found from the first file's folder.
    pub fn path_from_first(&self, path: &str, spot: Spot) -> String {
        match self.files.get(spot.file).and_then(|file| file.parent()) {
            Some(folder) if spot.file > 0 => plain_path(&folder.join(path)).display().to_string(),
            _ => path.to_owned(),
        }
    }

    pub fn at(&self, spot: Spot) -> At {
        At { spot, key: self.path.clone() }
    }

    /// Reports a problem at a place kept from reading.
    pub fn refuse(
        &mut self,
        at: &At,
        found: impl Into<String>,
        allowed: impl Into<String>,
        rule: Option<&'static str>,
    ) {
        let (found, allowed) = (found.into(), Some(allowed.into()));
        self.problems.push(Problem { at: at.clone(), found, allowed, rule });
    }

    /// Reports a problem at the path being read.
    pub fn refuse_here(
        &mut self,
        spot: Spot,
        found: impl Into<String>,
        allowed: impl Into<String>,
    ) {
        let at = self.at(spot);
        self.refuse(&at, found, allowed, None);
    }

    /// The entries of a map, each key once.
    pub fn map<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Entry]> {
        let Value::Map(entries) = &node.value else {
            self.refuse_here(node.spot, format!("{} instead of a map", node.describe()), what);
            return None;
        };
        let mut seen = BTreeSet::new();
        for entry in entries.iter().filter(|entry| !seen.insert(&entry.key)) {
            let again = format!("key `{}` a second time", entry.key);
            self.refuse_here(entry.spot, again, "each key once");
        }
        Some(entries)
    }

    fn field<T: Raw>(&mut self, entries: &[Entry], spot: Spot, key: &Key) -> Field<T> {
        let length = self.path.len();
        self.push_key(key.name);
        let entry = entries.iter().find(|entry| entry.key == key.name);
        let field = match entry.filter(|entry| !entry.value.is_null()) {
            Some(entry) => self.given(&entry.value, key.source),
            None => self.left_out(entry.map_or(spot, |entry| entry.spot), key),
        };
        self.path.truncate(length);
        field
    }

    fn given<T: Raw>(&mut self, node: &Node, rule: Option<&'static str>) -> Field<T> {
        let before = self.problems.len();
        let value = T::read(node, self);
        if value.is_none() {
            // What a value itself says about its rule is more exact than the row.
            self.problems[before..]
                .iter_mut()
                .for_each(|problem| problem.rule = problem.rule.or(rule));
        }
        let origin = if value.is_some() { Origin::Given } else { Origin::Wrong };
        Field { value, at: self.at(node.spot), origin }
    }

    fn left_out<T: Raw>(&mut self, spot: Spot, key: &Key) -> Field<T> {
        let at = self.at(spot);
        let (value, origin) = match key.presence {
            Presence::Optional => (None, Origin::Absent),
            Presence::Required => {
                self.refuse(
                    &at,
                    "missing",
                    format!("{}: {}", key.name, key.doc.trim()),
                    key.source,
                );
                (None, Origin::Wrong)
            }
            Presence::Default(text) => {
                let node = tree::parse(text, spot.file).expect("defaults are YAML");
                (T::read(&at_spot(node, spot), self), Origin::Default(key.source))
            }
        };
        Field { value, at, origin }
    }

    pub fn item<T: Raw>(&mut self, node: &Node, index: usize) -> Field<T> {
        let length = self.path.len();
        self.path = format!("{}[{index}]", self.path);
        let field = self.given(node, None);
        self.path.truncate(length);
        field
    }

    /// Reports the keys that are not among `known`.
    pub fn unknown_keys(&mut self, entries: &[Entry], known: &[&'static str], azure: bool) {
        for entry in entries {
            let listed = AZURE_PROPERTIES.contains(&entry.key.as_str());
            let foreign = azure && (listed || entry.value.is_empty());
            if !foreign && !known.contains(&entry.key.as_str()) {
                self.unknown_key(entry, known);
            }
        }
    }

    pub fn unknown_key(&mut self, entry: &Entry, known: &[&'static str]) {
        // Looking for the nearest key is the one thing that takes time, and nobody reads so many.
        if self.problems.len() >= PROBLEMS_MAX {
            return;
        }
        let found = format!("unknown key `{}`", entry.key);
        let allowed = match nearest(&entry.key, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if matches!(
                entry.key.as_str(),
                "on" | "off" | "yes" | "no" | "true" | "false"
            ) =>
            {
                format!("{}; older YAML reads `{}` as a truth value", known.join(", "), entry.key)
            }
            None if entry.value.is_null() && entry.key.contains(':') => {
                format!("{}; an IPv6 address in {{ }} stands in quotes", known.join(", "))
            }
            None => known.join(", "),
        };
        let length = self.path.len();
        self.push_key(&entry.key);
        self.refuse_here(entry.spot, found, allowed);
        self.path.truncate(length);
    }

    fn push_key(&mut self, key: &str) {
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(key);
    }
}

/// Default values stand where the map does that left them out.
fn at_spot(mut node: Node, spot: Spot) -> Node {
    node.spot = spot;
    if let Value::List(items) = node.value {
        let items = items.into_iter().map(|item| at_spot(item, spot)).collect();
        node.value = Value::List(items);
    }
    node
}

/// Without `.`, and without a folder that `..` leaves again.
pub fn plain_path(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir
                if matches!(plain.components().next_back(), Some(Component::Normal(_))) =>
            {
                plain.pop();
            }
            component => plain.push(component),
        }
    }
    plain
}

pub fn key_names(keys: &[Key]) -> Vec<&'static str> {
    keys.iter().map(|key| key.name).collect()
}

/// JSON Schema of a map with these keys.
pub fn table_schema(doc: &str, keys: &[&Key], azure: bool) -> JsonValue {
    let mut properties = Json::new();
    for key in keys {
        let mut schema = (key.schema)();
        if let Some(schema) = schema.as_object_mut() {
            let source = key.source.map(|id| format!(" ({id})")).unwrap_or_default();
            schema.insert("description".to_owned(), json!(format!("{}{source}", key.doc.trim())));
            if let Presence::Default(text) = key.presence {
                schema.insert("default".to_owned(), default_json(text));
            }
        }
        properties.insert(key.name.to_owned(), schema);
    }
    if azure {
        for name in
            AZURE_PROPERTIES.iter().filter(|name| !keys.iter().any(|key| key.name == **name))
        {
            properties.insert((*name).to_owned(), json!({ "description": "Azure's; ignored." }));
        }
    }
    let is_required = |key: &&&Key| key.presence == Presence::Required;
    let required: Vec<_> = keys.iter().filter(is_required).map(|key| key.name).collect();
    json!({
        "type": "object",
        "description": doc.trim(),
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn default_json(text: &str) -> JsonValue {
    match text {
        "{}" => json!({}),
        "[]" => json!([]),
        "true" => json!(true),
        "false" => json!(false),
        text => text.parse::<u64>().map_or_else(|_| json!(text), |number| json!(number)),
    }
}

/// Lines of a map: nested maps and lists are indented; defaults and what stands in an extended file
/// say where they are from.
pub fn table_block(shown: Vec<Shown>, files: &[PathBuf]) -> Vec<String> {
    let mut lines = Vec::new();
    for Shown { key, inline, block, origin, file } in shown {
        let comment = match origin {
            Origin::Default(Some(source)) => format!("  # default: {source}"),
            // Inside a map or a list each value says it.
            Origin::Given if file > 0 && inline.is_some() => {
                files.get(file).map(|file| format!("  # {}", file.display())).unwrap_or_default()
            }
            Origin::Default(None) | Origin::Given | Origin::Wrong | Origin::Absent => String::new(),
        };
        match inline {
            Some(text) => lines.push(format!("{key}: {text}{comment}")),
            None if !block.is_empty() => {
                lines.push(format!("{key}:{comment}"));
                lines.extend(block.iter().map(|line| format!("  {line}")));
            }
            None => {}
        }
    }
    lines
}

impl<T: Raw> Raw for Vec<Field<T>> {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let Value::List(items) = &node.value else {
            let found = format!("{} instead of a list", node.describe());
            reader.refuse_here(node.spot, found, "a list: [ … ], or a line with `-` for each");
            return None;
        };
        Some(items.iter().enumerate().map(|(i, item)| reader.item(item, i)).collect())
    }

    fn schema() -> JsonValue {
        json!({ "type": "array", "items": T::schema() })
    }

    fn inline(&self) -> Option<String> {
        let items: Option<Vec<String>> =
            self.iter().filter_map(|item| item.get()).map(Raw::inline).collect();
        items.map(|items| format!("[{}]", items.join(", ")))
    }

    fn block(&self, files: &[PathBuf]) -> Vec<String> {
        let mut lines = Vec::new();
        for item in self.iter().filter_map(|item| item.get()) {
            for (i, line) in item.block(files).into_iter().enumerate() {
                lines.push(format!("{}{line}", if i == 0 { "- " } else { "  " }));
            }
        }
        lines
    }
}

/// One value, or a list of them.
#[derive(Clone, Debug)]
pub struct OneOrMany<T>(pub List<T>);

impl<T: Raw> Raw for OneOrMany<T> {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        match &node.value {
            Value::List(_) => List::read(node, reader).map(Self),
            Value::Scalar(_) | Value::Map(_) => {
                let value = Some(T::read(node, reader)?);
                let field = Field { value, at: reader.at(node.spot), origin: Origin::Given };
                Some(Self(vec![field]))
            }
        }
    }

    fn schema() -> JsonValue {
        json!({ "oneOf": [T::schema(), List::<T>::schema()] })
    }

    fn inline(&self) -> Option<String> {
        self.0.inline()
    }

    fn block(&self, files: &[PathBuf]) -> Vec<String> {
        self.0.block(files)
    }
}

/// Writes a struct, its [`Table`] and its [`Raw`] from rows
/// `field "key": Type, presence [default] [, "source"];`.
macro_rules! raw {
    (
        $(#[doc = $doc:literal])*
        struct $name:ident $(, $azure:ident)? {
            $( $(#[doc = $key_doc:literal])*
               $field:ident $key:literal : $ty:ty, $presence:ident $($default:literal)?
               $(, $source:literal)? ; )*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug)]
        #[allow(clippy::struct_field_names, reason = "fields are called as the file's keys")]
        pub struct $name {
            /// Of the map itself.
            #[allow(dead_code, reason = "every map has it; rules point at some of them")]
            pub here: $crate::config::error::At,
            $( $(#[doc = $key_doc])* pub $field: $crate::config::raw::Field<$ty>, )*
        }

        impl $crate::config::raw::Table for $name {
            const KEYS: &'static [$crate::config::raw::Key] = &[
                $( $crate::config::raw::Key {
                    name: $key,
                    doc: concat!($($key_doc),*),
                    presence: $crate::config::raw::presence!($presence $($default)?),
                    source: $crate::config::raw::source!($($source)?),
                    schema: <$ty as $crate::config::raw::Raw>::schema,
                } ),*
            ];
            const AZURE: bool = $crate::config::raw::azure!($($azure)?);

            fn take(
                entries: &[$crate::config::tree::Entry],
                spot: $crate::config::error::Spot,
                reader: &mut $crate::config::raw::Reader,
            ) -> Self {
                let mut keys = Self::KEYS.iter();
                let mut next = || keys.next().expect("a row for each field");
                Self {
                    here: reader.at(spot),
                    $( $field: reader.field(entries, spot, next()), )*
                }
            }

            fn shown(&self, files: &[std::path::PathBuf]) -> Vec<$crate::config::raw::Shown> {
                vec![ $( $crate::config::raw::shown($key, &self.$field, files) ),* ]
            }
        }

        impl $crate::config::raw::Raw for $name {
            fn read(
                node: &$crate::config::tree::Node,
                reader: &mut $crate::config::raw::Reader,
            ) -> Option<Self> {
                $crate::config::raw::read_table(node, reader)
            }

            fn schema() -> serde_json::Value {
                let keys: Vec<_> = <Self as $crate::config::raw::Table>::KEYS.iter().collect();
                let azure = <Self as $crate::config::raw::Table>::AZURE;
                $crate::config::raw::table_schema(concat!($($doc),*), &keys, azure)
            }

            fn inline(&self) -> Option<String> {
                None
            }

            fn block(&self, files: &[std::path::PathBuf]) -> Vec<String> {
                let shown = $crate::config::raw::Table::shown(self, files);
                $crate::config::raw::table_block(shown, files)
            }
        }
    };
}

macro_rules! presence {
    (required) => {
        $crate::config::raw::Presence::Required
    };
    (optional) => {
        $crate::config::raw::Presence::Optional
    };
    (default $text:literal) => {
        $crate::config::raw::Presence::Default($text)
    };
}

macro_rules! source {
    () => {
        None
    };
    ($id:literal) => {
        Some($id)
    };
}

macro_rules! azure {
    () => {
        false
    };
    (azure) => {
        true
    };
}

use {azure, presence, raw, source};

raw! {
    /// What is read of a file to find the one it extends.
    struct Extends {
        /// Relative to this file.
        extends "extends": FilePath, optional;
    }
}

/// Reads a map whose keys are exactly those of its table.
pub fn read_table<T: Table>(node: &Node, reader: &mut Reader) -> Option<T> {
    let known = key_names(T::KEYS);
    let entries = reader.map(node, &known.join(", "))?;
    reader.unknown_keys(entries, &known, T::AZURE);
    Some(T::take(entries, node.spot, reader))
}

pub fn shown<T: Raw>(key: &'static str, field: &Field<T>, files: &[PathBuf]) -> Shown {
    let inline = field.get().and_then(Raw::inline);
    let block = field.get().map(|value| value.block(files)).unwrap_or_default();
    Shown { key, inline, block, origin: field.origin, file: field.at.spot.file }
}

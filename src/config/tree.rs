//! A YAML file as a tree in which every value and key knows its place.
//!
//! Built from the parser's events and not by deserialising, because a deserialiser stops at the
//! first value that does not fit, and a file's author wants all of them at once.

use std::collections::BTreeMap;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use crate::config::error::Spot;

/// Most values in one file, aliases counted each time they are used.
const NODES_MAX: usize = 200_000;
/// Deepest nesting.
const DEPTH_MAX: usize = 64;

#[derive(Clone, Debug)]
pub struct Node {
    pub spot: Spot,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key of a map and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    pub key: String,
    pub spot: Spot,
    pub value: Node,
}

#[derive(Clone, Debug)]
pub struct Scalar {
    pub text: String,
    /// Without quotes, so that YAML decides what it is.
    pub plain: bool,
}

/// What YAML 1.2 (core schema) takes a scalar for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Null,
    Bool,
    Integer,
    Float,
    Text,
}

/// Why a text is no tree.
#[derive(Debug)]
pub struct Broken {
    pub spot: Spot,
    pub found: String,
    pub allowed: Option<String>,
}

/// Reads one document, the text of the file with this number. An empty file is an empty map.
pub fn parse(text: &str, file: usize) -> Result<Node, Broken> {
    let parser = Parser::new_from_str(text);
    let mut builder = Builder { text, file, parser, anchors: BTreeMap::new(), nodes: 0 };
    let mut root = None;
    loop {
        let (event, span) = builder.next()?;
        match event {
            Event::StreamEnd => break,
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
            _ if root.is_some() => return Err(builder.broken(span, "a second document", "one")),
            event => root = Some(builder.node(event, span, 0)?),
        }
    }
    let start = Spot { file, line: 1, column: 1, offset: 0, length: 0 };
    Ok(root.unwrap_or(Node { spot: start, value: Value::Map(Vec::new()) }))
}

impl Node {
    /// Whether it stands for nothing: `key:`, `~`, `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.kind() == Kind::Null)
    }

    /// Whether it holds nothing: null, `[]`, `{}`.
    pub fn is_empty(&self) -> bool {
        match &self.value {
            Value::Scalar(_) => self.is_null(),
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
        }
    }

    /// As in a sentence: what this is.
    pub fn describe(&self) -> String {
        match &self.value {
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
            Value::Scalar(scalar) => match scalar.kind() {
                Kind::Null => "nothing".to_owned(),
                _ => format!("`{}`", scalar.text),
            },
        }
    }

    fn depth(&self) -> usize {
        1 + match &self.value {
            Value::Scalar(_) => 0,
            Value::List(items) => items.iter().map(Self::depth).max().unwrap_or(0),
            Value::Map(entries) => entries.iter().map(|e| e.value.depth()).max().unwrap_or(0),
        }
    }

    fn count(&self) -> usize {
        1 + match &self.value {
            Value::Scalar(_) => 0,
            Value::List(items) => items.iter().map(Self::count).sum(),
            Value::Map(entries) => entries.iter().map(|e| e.value.count()).sum(),
        }
    }
}

impl Scalar {
    pub fn kind(&self) -> Kind {
        if !self.plain {
            return Kind::Text;
        }
        match self.text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => Kind::Null,
            "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => Kind::Bool,
            text => number_kind(text),
        }
    }
}

fn number_kind(text: &str) -> Kind {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let all =
        |text: &str, fits: fn(&u8) -> bool| !text.is_empty() && text.bytes().all(|b| fits(&b));
    let radix = |prefix, fits| text.strip_prefix(prefix).is_some_and(|rest| all(rest, fits));
    let octal = |b: &u8| (b'0'..=b'7').contains(b);
    if all(digits, u8::is_ascii_digit) || radix("0x", u8::is_ascii_hexdigit) || radix("0o", octal) {
        return Kind::Integer;
    }
    let starts = digits.trim_start_matches('.').starts_with(|c: char| c.is_ascii_digit());
    if starts && digits.parse::<f64>().is_ok() { Kind::Float } else { Kind::Text }
}

struct Builder<'a> {
    text: &'a str,
    file: usize,
    parser: Parser<'a, serde_saphyr::granit_parser::StrInput<'a>>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
}

impl<'a> Builder<'a> {
    /// The next event that is not a comment.
    fn next(&mut self) -> Result<(Event<'a>, Span), Broken> {
        loop {
            match self.parser.next_event() {
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok(event)) => return Ok(event),
                Some(Err(error)) => return Err(self.unreadable(&error)),
                None => return Ok((Event::StreamEnd, Span::default())),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Broken> {
        self.nodes += 1;
        if self.nodes > NODES_MAX || depth > DEPTH_MAX {
            return Err(self.broken(span, "more than can be read", "200000 values, 64 levels"));
        }
        if event.tag().is_some() {
            return Err(self.broken(span, "a tag", "no tags; quote what should be text"));
        }
        let anchor = event.anchor_id();
        let mut spot = self.spot(span);
        let value = match event {
            Event::Scalar(text, style, ..) => {
                let plain = style == ScalarStyle::Plain;
                Value::Scalar(Scalar { text: text.into_owned(), plain })
            }
            Event::SequenceStart(..) => Value::List(self.items(depth)?),
            Event::MappingStart(..) => {
                let entries = self.entries(depth)?;
                // A block map starts where its first key does; point at that key.
                if let Some(first) = entries.first() {
                    spot = first.spot;
                }
                Value::Map(entries)
            }
            Event::Alias(id) => return self.alias(id, span, depth),
            _ => return Err(self.broken(span, "a value that cannot be read", "plain YAML")),
        };
        let node = Node { spot, value };
        if let Some(id) = anchor {
            self.anchors.insert(id, node.clone());
        }
        Ok(node)
    }

    fn items(&mut self, depth: usize) -> Result<Vec<Node>, Broken> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn entries(&mut self, depth: usize) -> Result<Vec<Entry>, Broken> {
        let mut entries = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(entries);
            }
            let Event::Scalar(key, ..) = event else {
                return Err(self.broken(
                    span,
                    "a key that is not a word",
                    "a word; quote an IPv6 address or a template",
                ));
            };
            let spot = self.spot(span);
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            entries.push(Entry { key: key.into_owned(), spot, value });
        }
    }

    /// A copy of what the alias names; an alias inside what it names has nothing to copy yet.
    fn alias(&mut self, id: usize, span: Span, depth: usize) -> Result<Node, Broken> {
        let Some(node) = self.anchors.get(&id).cloned() else {
            return Err(self.broken(span, "an alias inside its own anchor", "an anchor before it"));
        };
        self.nodes += node.count();
        if self.nodes > NODES_MAX || depth + node.depth() > DEPTH_MAX {
            return Err(self.broken(span, "more than can be read", "200000 values, 64 levels"));
        }
        Ok(node)
    }

    fn broken(&self, span: Span, found: &str, allowed: &str) -> Broken {
        Broken { spot: self.spot(span), found: found.to_owned(), allowed: Some(allowed.to_owned()) }
    }

    fn unreadable(&self, error: &ScanError) -> Broken {
        let marker = error.marker();
        let offset = marker.byte_offset().unwrap_or(0).min(self.text.len());
        let (line, column) = (marker.line(), marker.col() + 1);
        let spot = Spot { file: self.file, line, column, offset, length: 0 };
        let line = self.text.lines().nth(marker.line().saturating_sub(1)).unwrap_or_default();
        let flow_ipv6 = line.contains("::") && line.contains(['{', '[']);
        let allowed =
            flow_ipv6.then(|| "in { } and [ ] an IPv6 address stands in quotes".to_owned());
        Broken { spot, found: format!("this is not YAML: {}", error.info()), allowed }
    }

    fn spot(&self, span: Span) -> Spot {
        let offset = span.start.byte_offset().unwrap_or(0).min(self.text.len());
        let end = span.end.byte_offset().unwrap_or(offset).clamp(offset, self.text.len());
        let first_line = self.text[offset..end].split('\n').next().unwrap_or_default();
        let length = first_line.trim_end().len();
        let (line, column) = (span.start.line(), span.start.col() + 1);
        Spot { file: self.file, line, column, offset, length }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> Kind {
        Scalar { text: text.to_owned(), plain: true }.kind()
    }

    #[test]
    fn scalars_are_what_the_core_schema_says() {
        assert_eq!(kind("0100"), Kind::Integer);
        assert_eq!(kind("1.10"), Kind::Float);
        assert_eq!(kind("300ms"), Kind::Text);
        assert_eq!(kind("no"), Kind::Text);
        assert_eq!(kind("10.0.0.0"), Kind::Text);
        assert_eq!(kind("infinity"), Kind::Text);
        assert_eq!(kind("null"), Kind::Null);
    }

    #[test]
    fn places_are_lines_columns_and_bytes() {
        let node = parse("ä: 1\nkey: [ö, value]\n", 3).unwrap();
        let Value::Map(entries) = node.value else { panic!() };
        let Value::List(items) = &entries[1].value.value else { panic!() };
        assert_eq!(items[1].spot, Spot { file: 3, line: 2, column: 10, offset: 16, length: 5 });
    }

    #[test]
    fn aliases_cannot_blow_a_file_up() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..9 {
            let inner = format!("*a{}, ", i - 1).repeat(10);
            text = format!("{text}a{i}: &a{i} [{inner}]\n");
        }
        assert!(parse(&text, 0).unwrap_err().found.contains("more than"));
        assert!(parse("a: &a [*a]", 0).is_err());
    }

    #[test]
    fn any_text_ends_in_a_tree_or_an_error() {
        for text in
            ["", "\t", "{", "[[[[", "? a\n: b", "- - -", "a: !!str 1", "%", "\u{0}", "---\n---\n"]
        {
            let _ = parse(text, 0);
        }
        let deep = "[".repeat(10_000);
        assert!(parse(&deep, 0).is_err());
    }
}

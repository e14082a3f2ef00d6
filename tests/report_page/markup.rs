//! Just enough of XML to read what the report writes: elements, quoted attributes, text and
//! references. What is not well-formed is an error.

use std::iter;

/// An element with what is in it.
#[derive(Debug, Default)]
pub struct Element {
    pub name: String,
    pub attributes: Vec<(String, String)>,
    pub children: Vec<Node>,
}

#[derive(Debug)]
pub enum Node {
    Element(Element),
    Text(String),
}

impl Element {
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// This element and all below it, in the order of the text.
    pub fn all(&self) -> Box<dyn Iterator<Item = &Element> + '_> {
        let below = self.children.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        });
        Box::new(iter::once(self).chain(below.flat_map(Element::all)))
    }

    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.all().filter(move |element| element.name == name)
    }

    pub fn text(&self) -> String {
        let text = |node: &Node| match node {
            Node::Element(element) => element.text(),
            Node::Text(text) => text.clone(),
        };
        self.children.iter().map(text).collect()
    }
}

/// The root element.
pub fn parse(text: &str) -> Result<Element, String> {
    let mut open: Vec<Element> = vec![Element::default()];
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let before = references(&rest[..at])?;
        let top = open.last_mut().ok_or("nothing is open")?;
        if !before.is_empty() {
            top.children.push(Node::Text(before));
        }
        let end =
            tag_end(&rest[at..]).ok_or_else(|| format!("no end: {}", start_of(&rest[at..])))?;
        let tag = &rest[at + 1..at + end];
        rest = &rest[at + end + 1..];
        if tag.starts_with('?') || tag.starts_with("!DOCTYPE") {
            continue;
        }
        if let Some(name) = tag.strip_prefix('/') {
            let done = open.pop().ok_or("nothing is open")?;
            if done.name != name {
                return Err(format!("</{name}> closes <{}>", done.name));
            }
            let parent = open.last_mut().ok_or(format!("</{name}> closes nothing"))?;
            parent.children.push(Node::Element(done));
            continue;
        }
        let (tag, empty) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let element = start_tag(tag)?;
        if empty {
            open.last_mut().ok_or("nothing is open")?.children.push(Node::Element(element));
        } else {
            open.push(element);
        }
    }
    let [root] = open.as_mut_slice() else {
        return Err(format!("<{}> is not closed", open.last().map_or("", |e| &e.name)));
    };
    let mut roots = root.children.drain(..).filter_map(|node| match node {
        Node::Element(element) => Some(element),
        Node::Text(_) => None,
    });
    match (roots.next(), roots.next(), rest.trim()) {
        (Some(root), None, "") => Ok(root),
        _ => Err("not one root".to_owned()),
    }
}

/// Where the tag that begins here ends; `>` may stand in a quoted value.
fn tag_end(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in text.char_indices().skip(1) {
        match (quote, c) {
            (None, '>') => return Some(at),
            (None, '<') => return None,
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
    }
    None
}

fn start_tag(tag: &str) -> Result<Element, String> {
    let is_name = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-:_".contains(c))
    };
    let (name, mut rest) = tag.split_once(char::is_whitespace).unwrap_or((tag, ""));
    if !is_name(name) {
        return Err(format!("no name: <{}", start_of(tag)));
    }
    let mut attributes: Vec<(String, String)> = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            break;
        }
        let (key, value) = rest.split_once("=\"").ok_or(format!("no value: {}", start_of(rest)))?;
        let (value, after) = value.split_once('"').ok_or(format!("no end: {}", start_of(rest)))?;
        if !is_name(key) || attributes.iter().any(|(other, _)| other == key) {
            return Err(format!("attribute {key:?} in <{name}>"));
        }
        attributes.push((key.to_owned(), references(value)?));
        rest = after;
    }
    Ok(Element { name: name.to_owned(), attributes, children: Vec::new() })
}

/// Text with its references replaced; control characters are not allowed.
fn references(text: &str) -> Result<String, String> {
    let mut plain = String::new();
    let mut pieces = text.split('&');
    plain.push_str(pieces.next().unwrap_or(""));
    for piece in pieces {
        let (name, after) = piece.split_once(';').ok_or(format!("bare &: {}", start_of(piece)))?;
        let c = match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            number => number
                .strip_prefix('#')
                .and_then(|number| number.parse().ok())
                .and_then(char::from_u32)
                .ok_or(format!("&{};", start_of(number)))?,
        };
        plain.push(c);
        plain.push_str(after);
    }
    match text.chars().find(|c| c.is_control() && !"\n\t".contains(*c)) {
        Some(c) => Err(format!("a control character, {c:?}")),
        None => Ok(plain),
    }
}

fn start_of(text: &str) -> String {
    text.chars().take(60).collect()
}

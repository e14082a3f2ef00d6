//! Text and numbers of the page. A number says where it stands in `report.json`, so that a test
//! can read both and compare them.

use std::fmt::Display;

use crate::drill::report::Millis;
use crate::drill::report::words::{rounded, rounded_number};
use crate::model::Bandwidth;

/// Between groups of three digits: narrow, and no line breaks there.
const GROUP: char = '\u{202f}';

/// Text as it may stand in HTML and in a quoted attribute.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // No HTML or XML may contain these, however they are written.
            c if c.is_control() && !matches!(c, '\n' | '\t') => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

/// A place's or link's name, which may break after its punctuation.
pub(super) fn place(name: &str) -> String {
    let mut text = String::new();
    for piece in name.split_inclusive(['/', ':']) {
        if !text.is_empty() {
            text.push_str("<wbr/>");
        }
        text.push_str(&escape(piece));
    }
    text
}

/// A name as a part of a JSON pointer (RFC 6901, section 3).
pub(super) fn part(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// A number with its place in `report.json`: a JSON pointer, in which `*` is the sum over a list.
pub(super) fn figure(pointer: impl Display, text: &str) -> String {
    let pointer = escape(&pointer.to_string());
    format!(r#"<span data-json="{pointer}">{}</span>"#, escape(text))
}

pub(super) fn count(pointer: impl Display, n: u64) -> String {
    figure(pointer, &grouped(n))
}

pub(super) fn span(pointer: impl Display, span: Millis) -> String {
    figure(pointer, &rounded(span))
}

pub(super) fn micros(pointer: impl Display, micros: u64) -> String {
    figure(pointer, &latency(micros))
}

pub(super) fn rate(pointer: impl Display, bps: u64) -> String {
    figure(pointer, &rate_text(bps))
}

pub(super) fn rate_text(bps: u64) -> String {
    Bandwidth::from_bps(bps).to_string()
}

/// `1.65 ms`, `17.2 ms`, `350 µs`.
fn latency(micros: u64) -> String {
    match micros {
        0..1000 => format!("{micros} µs"),
        1000..10_000 => {
            format!("{}.{:02} ms", micros / 1000, micros / 10 % 100)
        }
        _ => format!("{} ms", rounded_number(Millis(micros))),
    }
}

/// `1 776 190`.
pub(super) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) && digits.len() > 4 {
            text.push(GROUP);
        }
        text.push(digit);
    }
    text
}

/// A text of `report.json` that may be a number, with its place when it is one.
pub(super) fn value(pointer: impl Display, text: &str) -> String {
    let (digits, unit) = text.split_once(' ').unwrap_or((text, ""));
    let number = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.parse::<f64>().is_ok()
        && unit.chars().all(char::is_alphabetic);
    if number { figure(pointer, text) } else { escape(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_html_reads_stays() {
        assert_eq!(escape(r#"<a b="c" d='e'>&"#), "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;");
        assert_eq!(escape("a\0b\x1b"), "a\u{fffd}b\u{fffd}");
    }

    #[test]
    fn a_text_that_is_a_number_says_where_it_is_from() {
        for (text, number) in [
            ("3", true),
            ("300 ms", true),
            ("1.5 s", true),
            ("Idle", false),
            ("10.1.0.0/16", false),
        ] {
            assert_eq!(value("/x", text) != text, number, "{text}");
        }
    }

    #[test]
    fn digits_are_grouped_from_the_right() {
        let all = [0, 999, 1000, 9999, 10_000, 123_456, 1_234_567].map(grouped);
        let plain = all.map(|text| text.replace(GROUP, " "));
        assert_eq!(plain, ["0", "999", "1000", "9999", "10 000", "123 456", "1 234 567"]);
    }

    #[test]
    fn a_latency_is_told_as_finely_as_it_matters() {
        let all = [0, 350, 1650, 17_240].map(latency);
        assert_eq!(all, ["0 µs", "350 µs", "1.65 ms", "17 ms"]);
    }
}

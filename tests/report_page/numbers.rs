//! Numbers of the page against those of `report.json`.

use serde_json::Value;

use crate::markup::Element;

/// What the page says of a number and what `report.json` has: an error for each that differs, and
/// how many were compared.
pub fn compare(page: &Element, json: &Value) -> (usize, Vec<String>) {
    let mut compared = 0;
    let mut wrong = Vec::new();
    for element in page.all() {
        let Some(pointer) = element.attribute("data-json") else { continue };
        compared += 1;
        let text = element.text();
        if let Err(why) = same(pointer, &text, json) {
            wrong.push(format!("{pointer}: the page says {text:?}, {why}"));
        }
    }
    (compared, wrong)
}

/// Cells of tables that are a number and do not say where it is from.
pub fn without_pointer(page: &Element) -> Vec<String> {
    let cells =
        page.named("td").filter(|cell| cell.all().all(|e| e.attribute("data-json").is_none()));
    let texts = cells.map(|cell| cell.text().trim().to_owned());
    texts.filter(|text| shown(text).is_some()).collect()
}

fn same(pointer: &str, text: &str, json: &Value) -> Result<(), String> {
    if let Some(found) = json.pointer(pointer).and_then(Value::as_str) {
        return if found == text { Ok(()) } else { Err(format!("report.json {found:?}")) };
    }
    let (number, unit) = shown(text).ok_or("which is no number")?;
    let found = resolve(json, pointer).ok_or("which is not in report.json")?;
    // What the file's own unit is, by the end of the field's name.
    let field_unit = ["_ms", "_us", "_bps"].into_iter().rfind(|unit| pointer.contains(unit));
    // A unit of the page in the file's unit, and what the page's last digit is.
    let (scale, last_digit) = match (unit, field_unit) {
        ("", None) | ("µs", Some("_us")) | ("bps", Some("_bps")) => (1.0, 0.0),
        ("s", Some("_ms")) => (1e3, 0.01),
        ("ms", Some("_ms")) => (1.0, if number < 10.0 { 0.1 } else { 1.0 }),
        ("ms", Some("_us")) => (1e3, if number < 10.0 { 0.01 } else { 1.0 }),
        ("kbps", Some("_bps")) => (1e3, 0.1),
        ("Mbps", Some("_bps")) => (1e6, 0.1),
        ("Gbps", Some("_bps")) => (1e9, 0.1),
        (unit, field) => return Err(format!("{unit:?} for a field in {field:?}")),
    };
    // A shown number may be cut or rounded in its last digit.
    let most = last_digit * scale * 1.000_001;
    let off = (number * scale - found).abs();
    if off <= most { Ok(()) } else { Err(format!("report.json {found}")) }
}

/// The sum of what a pointer leads to, where `*` is each of a list.
fn resolve(json: &Value, pointer: &str) -> Option<f64> {
    if let Some((before, after)) = pointer.split_once("/*") {
        let list = json.pointer(before)?.as_array()?;
        return list.iter().map(|one| resolve(one, after)).sum();
    }
    json.pointer(pointer)?.as_f64()
}

/// A number with its unit as it is shown.
fn shown(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && !".\u{202f}".contains(c));
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit = match unit {
        "" => "",
        unit => unit.strip_prefix(' ').filter(|unit| !unit.contains(' '))?,
    };
    Some((number.replace('\u{202f}', "").parse().ok()?, unit))
}

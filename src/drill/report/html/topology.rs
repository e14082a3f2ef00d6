//! The lab as a drawing: columns from the site to Azure, and what failed.
//!
//! ```text
//! dc1.erp ── core ── ce1 ─┬─ provider ── ✕ ── MSEE ─┬─ gateway ── VNet ── VM
//!                         └─ provider ─────── MSEE ─┘
//! ```

use crate::drill::report::TopologyNode;
use crate::drill::report::html::figures::escape;
use crate::drill::report::html::{Context, section_of};

/// Width of a character of a name and of the smaller text, for the widest fonts a reader may have.
const NAME_CHAR: f64 = 8.0;
const SMALL_CHAR: f64 = 6.9;
/// Space inside a box, left and right of its words.
const INSET: f64 = 10.0;
const NAME_LINE: f64 = 18.0;
const SMALL_LINE: f64 = 14.0;
/// Least distance between columns, and between boxes of a column.
const GAP: f64 = 34.0;
const ROW_GAP: f64 = 22.0;
const LABEL_HIGH: f64 = 18.0;
/// Characters of a line under a name, and such lines.
const DETAIL_WIDE: usize = 20;
const DETAIL_LINES: usize = 3;
/// Space over the boxes for the columns' names.
const HEAD: f64 = 30.0;

struct Placed<'a> {
    node: &'a TopologyNode,
    lines: Vec<String>,
    x: f64,
    y: f64,
    wide: f64,
    high: f64,
}

impl Placed<'_> {
    fn middle(&self) -> f64 {
        self.y + self.high / 2.0
    }
}

pub(super) fn section(context: &Context<'_>) -> String {
    let topology = &context.report.topology;
    let nodes = &topology.nodes;
    if nodes.is_empty() {
        return String::new();
    }
    let columns: usize = nodes.iter().map(|node| node.column as usize + 1).max().unwrap_or(0);
    let labels: Vec<String> = topology.links.iter().map(|link| label(&link.failed_in)).collect();

    // A gap is as wide as what must be written in it.
    let mut gaps = vec![GAP; columns];
    for (link, label) in topology.links.iter().zip(&labels) {
        let (Some(from), Some(to)) = (nodes.get(link.from), nodes.get(link.to)) else { continue };
        let left = from.column.min(to.column) as usize;
        if !label.is_empty() {
            gaps[left] = gaps[left].max(label_wide(label) + 20.0);
        }
    }
    let mut placed: Vec<Placed<'_>> = nodes.iter().map(boxed).collect();
    // Rows are as far apart in every column, so that the lines of a link are level.
    let pitch = placed.iter().map(|at| at.high).fold(0.0, f64::max) + ROW_GAP;
    let of = |column: usize| nodes.iter().filter(move |node| node.column as usize == column);
    let most = (0..columns).map(|column| of(column).count()).max().unwrap_or(0);
    let tall = most as f64 * pitch - ROW_GAP;
    let mut x = 1.0;
    let mut heads = String::new();
    for (column, gap) in gaps.iter().enumerate() {
        let mut of_column: Vec<&mut Placed<'_>> =
            placed.iter_mut().filter(|at| at.node.column as usize == column).collect();
        let Some(first) = of_column.first() else { continue };
        let head = head(&first.node.kind);
        let wide = of_column.iter().map(|at| at.wide).fold(0.0, f64::max);
        let wide = wide.max(head.chars().count() as f64 * SMALL_CHAR);
        let mut middle = HEAD + tall / 2.0 - (of_column.len() - 1) as f64 * pitch / 2.0;
        for at in &mut of_column {
            (at.x, at.y, at.wide) = (x, middle - at.high / 2.0, wide);
            middle += pitch;
        }
        heads += &format!(
            "<text class=\"head\" x=\"{:.1}\" y=\"14\">{}</text>\n",
            x + wide / 2.0,
            escape(head)
        );
        x += wide + gap;
    }
    let wide = x - gaps[columns - 1] + 1.0;
    let (mut lines, mut marks) = (String::new(), String::new());
    let mut taken: Vec<(f64, f64, f64)> = Vec::new();
    for (link, label) in topology.links.iter().zip(&labels) {
        let (Some(from), Some(to)) = (placed.get(link.from), placed.get(link.to)) else { continue };
        let curve = Curve::between(from, to);
        let class = if label.is_empty() { "link" } else { "link failed" };
        lines += &format!(
            "<path class=\"{class}\" d=\"{}\"><title>{}</title></path>\n",
            curve.path(),
            escape(&link.name)
        );
        if !label.is_empty() {
            marks += &mark(&curve, label, &mut taken);
        }
    }
    let boxes: String = placed.iter().map(drawn).collect();
    let failed: Vec<String> = topology
        .links
        .iter()
        .filter(|link| !link.failed_in.is_empty())
        .map(|link| format!("{} in {}", link.name, link.failed_in.join(", ")))
        .collect();
    let says = if failed.is_empty() {
        "No link or node was made to fail.".to_owned()
    } else {
        format!("Made to fail: {}.", failed.join("; "))
    };
    let body = format!(
        "<p>{says}</p>\n<div class=\"scroll\"><svg class=\"topology\" style=\"--natural:{wide:.0}px\" \
         viewBox=\"0 0 {wide:.0} {high:.0}\" role=\"img\" aria-label=\"{says}\">\n\
         {heads}{lines}{boxes}{marks}</svg></div>\n",
        says = escape(&says),
        high = HEAD + tall + 6.0,
    );
    section_of("topology", "Topology", &body)
}

/// `✕ silent-loss`; of many steps the first two.
fn label(failed_in: &[String]) -> String {
    match failed_in {
        [] => String::new(),
        [one] => format!("✕ {}", cut(one)),
        [one, two] => format!("✕ {}, {}", cut(one), cut(two)),
        [one, two, more @ ..] => format!("✕ {}, {} +{}", cut(one), cut(two), more.len()),
    }
}

fn cut(name: &str) -> String {
    if name.chars().count() <= 16 {
        return name.to_owned();
    }
    name.chars().take(15).chain(['…']).collect()
}

fn label_wide(label: &str) -> f64 {
    label.chars().count() as f64 * SMALL_CHAR + 10.0
}

fn head(kind: &str) -> &str {
    match kind {
        "host" | "vm" => "hosts",
        "core" => "site core",
        "edge" => "customer edge",
        "provider" => "provider",
        "msee" => "MSEE",
        "gateway" => "gateway",
        "vnet" => "VNet",
        other => other,
    }
}

fn boxed(node: &TopologyNode) -> Placed<'_> {
    let lines = fold(&node.detail);
    let name = title(node).chars().count() as f64 * NAME_CHAR;
    let detail = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0) as f64;
    Placed {
        node,
        wide: name.max(detail * SMALL_CHAR) + 2.0 * INSET,
        high: NAME_LINE + lines.len() as f64 * SMALL_LINE + 14.0,
        lines,
        x: 0.0,
        y: 0.0,
    }
}

/// What is written in a box: the column's head says that a provider is one.
fn title(node: &TopologyNode) -> &str {
    node.name.strip_suffix(" provider").unwrap_or(&node.name)
}

/// A detail in short lines: broken after commas first, then between words.
fn fold(detail: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for piece in detail.split(", ").filter(|piece| !piece.is_empty()) {
        let mut line = String::new();
        for word in piece.split_whitespace() {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > DETAIL_WIDE {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    if lines.len() > DETAIL_LINES {
        lines.truncate(DETAIL_LINES);
        lines[DETAIL_LINES - 1].push('…');
    }
    lines
}

fn drawn(at: &Placed<'_>) -> String {
    let middle = at.x + at.wide / 2.0;
    let mut text = format!(
        "<g class=\"node {kind}\"><rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{high:.1}\" \
         rx=\"6\"/><text class=\"name\" x=\"{middle:.1}\" y=\"{top:.1}\">{name}</text>",
        kind = escape(&at.node.kind),
        x = at.x,
        y = at.y,
        wide = at.wide,
        high = at.high,
        top = at.y + NAME_LINE + 2.0,
        name = escape(title(at.node)),
    );
    for (i, line) in at.lines.iter().enumerate() {
        text += &format!(
            "<text class=\"detail\" x=\"{middle:.1}\" y=\"{:.1}\">{}</text>",
            at.y + NAME_LINE + 4.0 + (i as f64 + 0.85) * SMALL_LINE,
            escape(line)
        );
    }
    text + "</g>\n"
}

/// A line from box to box: level at both ends between columns, upright within one.
struct Curve {
    from: (f64, f64),
    to: (f64, f64),
    upright: bool,
}

impl Curve {
    fn between(a: &Placed<'_>, b: &Placed<'_>) -> Self {
        if a.node.column == b.node.column {
            let (upper, lower) = if a.y <= b.y { (a, b) } else { (b, a) };
            let x = upper.x + upper.wide / 2.0;
            return Self { from: (x, upper.y + upper.high), to: (x, lower.y), upright: true };
        }
        let (left, right) = if a.node.column < b.node.column { (a, b) } else { (b, a) };
        let from = (left.x + left.wide, left.middle());
        Self { from, to: (right.x, right.middle()), upright: false }
    }

    fn path(&self) -> String {
        let ((x1, y1), (x2, y2)) = (self.from, self.to);
        if self.upright {
            return format!("M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}");
        }
        let middle = f64::midpoint(x1, x2);
        format!("M{x1:.1} {y1:.1}C{middle:.1} {y1:.1} {middle:.1} {y2:.1} {x2:.1} {y2:.1}")
    }

    /// Where the curve is after a share `t` of it.
    fn at(&self, t: f64) -> (f64, f64) {
        let ((x1, y1), (x2, y2)) = (self.from, self.to);
        if self.upright {
            return (x1, y1 + (y2 - y1) * t);
        }
        let middle = f64::midpoint(x1, x2);
        let s = 1.0 - t;
        let bend = |a: f64, b: f64, c: f64, d: f64| {
            s * s * s * a + 3.0 * s * s * t * b + 3.0 * s * t * t * c + t * t * t * d
        };
        (bend(x1, middle, middle, x2), bend(y1, y1, y2, y2))
    }
}

/// The cross and the step's name on a failed link, where no other mark is.
fn mark(curve: &Curve, label: &str, taken: &mut Vec<(f64, f64, f64)>) -> String {
    let wide = label_wide(label);
    let free = |(x, y): (f64, f64)| {
        taken.iter().all(|(ox, oy, other)| {
            (x - ox).abs() > f64::midpoint(wide, *other) + 4.0 || (y - oy).abs() > LABEL_HIGH + 3.0
        })
    };
    let spots = [0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8].map(|t| curve.at(t));
    let (mut x, mut y) = spots.iter().copied().find(|spot| free(*spot)).unwrap_or(spots[0]);
    while !free((x, y)) {
        y += LABEL_HIGH + 4.0;
    }
    x = x.max(wide / 2.0 + 1.0);
    y = y.max(LABEL_HIGH);
    taken.push((x, y, wide));
    format!(
        "<g class=\"mark\"><rect x=\"{:.1}\" y=\"{:.1}\" width=\"{wide:.1}\" height=\"{LABEL_HIGH}\" rx=\"9\"/>\
         <text x=\"{x:.1}\" y=\"{:.1}\">{}</text></g>\n",
        x - wide / 2.0,
        y - LABEL_HIGH / 2.0,
        y + 4.0,
        escape(label)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_breaks_at_commas_and_between_words() {
        assert_eq!(fold("Equinix Amsterdam, 1000 Mbps"), ["Equinix Amsterdam", "1000 Mbps"]);
        assert_eq!(fold(""), Vec::<String>::new());
        let lines = fold("one two three four five six seven eight nine ten eleven twelve thirteen");
        assert_eq!(lines.len(), DETAIL_LINES);
        assert!(lines[DETAIL_LINES - 1].ends_with('…'));
    }

    #[test]
    fn marks_do_not_cover_each_other() {
        let mut taken = Vec::new();
        let curve = Curve { from: (0.0, 50.0), to: (100.0, 50.0), upright: false };
        for _ in 0..5 {
            mark(&curve, "✕ loss", &mut taken);
        }
        for (i, (x, y, wide)) in taken.iter().enumerate() {
            for (ox, oy, _) in &taken[..i] {
                assert!((x - ox).abs() >= *wide || (y - oy).abs() >= LABEL_HIGH);
            }
        }
    }
}

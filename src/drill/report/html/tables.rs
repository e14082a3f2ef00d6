//! Routers' tables in Azure's columns, at several moments: one table, in which each row says when
//! it was there.
//!
//! ```text
//! before  silent-loss  failback   Network       Next hop
//!   •         − removed   + added  10.1.0.0/16   172.16.0.2
//! ```

use crate::drill::report::html::figures::{escape, value};
use crate::drill::report::html::{Context, plural, section_of};
use crate::drill::report::{Shown, Table};

/// Rows of one table; `report.json` has all.
const ROWS_MAX: usize = 60;
/// Tables of one run.
const TABLES_MAX: usize = 80;

pub(super) fn section(context: &Context<'_>) -> String {
    let mut body = String::new();
    let mut earlier: Vec<&Shown> = Vec::new();
    for of in &context.detailed {
        let Some((at, shown)) = of.shown else { continue };
        let mut tables = String::new();
        for (t, table) in shown.tables.iter().enumerate().take(TABLES_MAX) {
            let same =
                earlier.iter().find(|other| other.tables.iter().any(|one| alike(one, table)));
            tables += &match same {
                Some(other) => format!(
                    "<p class=\"same\">{} <span class=\"soft\">as under {}</span></p>\n",
                    title(table),
                    other.convergence.name()
                ),
                None => one(&format!("/shown/{at}/tables/{t}"), table),
            };
        }
        if let more @ 1.. = shown.tables.len().saturating_sub(TABLES_MAX) {
            tables += &format!("<p class=\"soft\">and {more} more in report.json</p>\n");
        }
        if !tables.is_empty() && context.detailed.len() > 1 {
            body += &format!("<h3>{}</h3>\n", of.run.convergence.means());
        }
        body += &tables;
        earlier.push(shown);
    }
    if !body.is_empty() {
        body = "<p class=\"soft key\"><span><b>•</b> there</span> <span class=\"good\"><b>+</b> added</span> \
                <span class=\"bad\"><b>−</b> removed, each since the moment before</span></p>\n"
            .to_owned()
            + &body;
    }
    section_of("tables", "Tables before, during and after", &body)
}

fn title(table: &Table) -> String {
    let kind = match table.kind.as_str() {
        "routes" => "routes",
        "arp" => "ARP",
        "bgp" => "BGP summary",
        "bfd" => "BFD",
        other => other,
    };
    format!("<b>{}</b> {}", escape(&table.node), escape(kind))
}

/// Whether two tables say the same, besides what changes by itself.
fn alike(a: &Table, b: &Table) -> bool {
    let says = |table: &Table| -> Vec<(String, u64, Vec<Vec<String>>)> {
        let rows = |rows: &[Vec<String>]| rows.iter().map(|row| lasting(table, row)).collect();
        table.moments.iter().map(|one| (one.at.clone(), one.more, rows(&one.rows))).collect()
    };
    (&a.node, &a.kind, &a.columns) == (&b.node, &b.kind, &b.columns) && says(a) == says(b)
}

/// A row without what changes by itself.
fn lasting(table: &Table, cells: &[String]) -> Vec<String> {
    let cells = cells.iter().enumerate().filter(|(c, _)| !table.volatile.contains(c));
    cells.map(|(_, cell)| cell.clone()).collect()
}

/// A row of any moment, and at which moments it stood.
struct Row<'a> {
    cells: &'a [String],
    /// What makes it the same row at another moment.
    lasting: Vec<String>,
    /// Where the row is first found: moment and row.
    place: (usize, usize),
    there: Vec<bool>,
}

impl Row<'_> {
    fn changed(&self) -> bool {
        self.there.windows(2).any(|pair| pair[0] != pair[1])
    }
}

fn one(at: &str, table: &Table) -> String {
    let moments = &table.moments;
    let mut rows: Vec<Row<'_>> = Vec::new();
    for (m, moment) in moments.iter().enumerate() {
        // A row that stands twice at a moment is two rows.
        let mut taken = vec![false; rows.len()];
        for (r, cells) in moment.rows.iter().enumerate() {
            let lasting = lasting(table, cells);
            let free = (0..taken.len()).find(|&i| !taken[i] && rows[i].lasting == lasting);
            if let Some(i) = free {
                (rows[i].there[m], taken[i]) = (true, true);
            } else {
                let mut there = vec![false; moments.len()];
                there[m] = true;
                rows.push(Row { cells, lasting, place: (m, r), there });
                taken.push(true);
            }
        }
    }
    rows.sort_by(|a, b| a.lasting.cmp(&b.lasting));
    let (mut added, mut removed) = (0, 0);
    for pair in rows.iter().flat_map(|row| row.there.windows(2)) {
        added += usize::from(!pair[0] && pair[1]);
        removed += usize::from(pair[0] && !pair[1]);
    }
    let changed = rows.iter().any(Row::changed);
    let says = if changed {
        format!("<span class=\"good\">+{added}</span> <span class=\"bad\">−{removed}</span>")
    } else {
        let n = rows.len() as u64;
        format!("<span class=\"soft\">unchanged, {n} row{}</span>", plural(n))
    };
    let left_out = rows.len().saturating_sub(ROWS_MAX);
    if left_out > 0 {
        // What changed is what a reader looks for.
        rows.sort_by_key(|row| !row.changed());
        rows.truncate(ROWS_MAX);
        rows.sort_by(|a, b| a.lasting.cmp(&b.lasting));
    }
    let when: String = moments
        .iter()
        .map(|moment| format!("<th scope=\"col\" class=\"moment\">{}</th>", escape(&moment.at)))
        .collect();
    let head = |(c, name): (usize, &String)| {
        // What changes by itself is told of the first moment.
        let first = if table.volatile.contains(&c) { " <i>(first)</i>" } else { "" };
        format!("<th scope=\"col\">{}{first}</th>", escape(name))
    };
    let columns: String = table.columns.iter().enumerate().map(head).collect();
    let lines: String = rows.iter().map(|row| line(at, table, row)).collect();
    let mut notes: Vec<String> = Vec::new();
    if left_out > 0 {
        notes.push(format!("and {left_out} more in report.json"));
    }
    for moment in moments.iter().filter(|moment| moment.more > 0) {
        notes.push(format!("{} more rows {} were not kept", moment.more, when_of(&moment.at)));
    }
    let notes: String =
        notes.iter().map(|note| format!("<p class=\"soft\">{}</p>\n", escape(note))).collect();
    format!(
        "<details{}>\n<summary>{} {says}</summary>\n<table class=\"cards list moments\">\n\
         <thead><tr>{when}{columns}</tr></thead>\n<tbody>\n{lines}</tbody>\n</table>\n{notes}</details>\n",
        if changed { " open=\"\"" } else { "" },
        title(table),
    )
}

fn when_of(at: &str) -> String {
    if at == "before" { "before the first event".to_owned() } else { format!("at the end of {at}") }
}

fn line(at: &str, table: &Table, row: &Row<'_>) -> String {
    let mut before = None;
    let mut signs = String::new();
    for (there, moment) in row.there.iter().zip(&table.moments) {
        let (class, sign, word) = match (before, there) {
            (Some(false), true) => ("moment good", "+", "added"),
            (Some(true), false) => ("moment bad", "−", "removed"),
            (_, true) => ("moment", "•", ""),
            (_, false) => ("moment", "", ""),
        };
        signs += &format!(
            "<td class=\"{class}\" data-label=\"{}\"><b>{sign}</b> {word}</td>",
            escape(&moment.at)
        );
        before = Some(*there);
    }
    let (m, r) = row.place;
    let cells: String = row
        .cells
        .iter()
        .enumerate()
        .map(|(c, cell)| {
            let label = table.columns.get(c).map_or("", String::as_str);
            let text = value(format_args!("{at}/moments/{m}/rows/{r}/{c}"), cell);
            format!("<td data-label=\"{}\">{text}</td>", escape(label))
        })
        .collect();
    let class = if row.changed() { "changed" } else { "" };
    format!("<tr class=\"{class}\">{signs}{cells}</tr>\n")
}

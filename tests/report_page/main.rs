//! `report.html` and `junit.xml`, on reports made by hand. What a browser must say of the page is
//! ignored here and run by `scripts/test` where there is a Chromium.

#![allow(clippy::format_push_string, clippy::format_collect)] // small pages, put together

mod chromium;
mod markup;
mod numbers;
mod sample;

use std::fs;
use std::path::Path;

use markup::Element;
use msee::drill::Report;
use msee::drill::report::{Topology, html, json, junit};
use serde_json::Value;

const STYLE: &str = include_str!("../../src/drill/report/html/style.css");

fn page(report: &Report) -> Element {
    markup::parse(&html::write(report)).unwrap_or_else(|error| panic!("{}: {error}", report.name))
}

fn value(report: &Report) -> Value {
    serde_json::from_str(&json::write(report)).unwrap()
}

fn samples() -> [(&'static str, Report); 4] {
    [
        ("failed", sample::report()),
        ("passed", sample::passed()),
        ("invalid", sample::invalid()),
        ("large", sample::large()),
    ]
}

/// `KEEP_PAGES=DIR` writes the samples there, for eyes.
#[test]
fn pages_are_well_formed() {
    for (name, report) in samples() {
        let page = page(&report);
        assert_eq!(page.name, "html", "{name}");
        let ids: Vec<_> = page.all().filter_map(|element| element.attribute("id")).collect();
        let mut unique = ids.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(ids.len(), unique.len(), "{name}: {ids:?}");
        if let Some(folder) = std::env::var_os("KEEP_PAGES") {
            let folder = Path::new(&folder).join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("report.html"), html::write(&report)).unwrap();
        }
    }
}

#[test]
fn every_section_is_there_in_order() {
    let page = page(&sample::report());
    let ids: Vec<_> = page.named("section").filter_map(|section| section.attribute("id")).collect();
    let order =
        ["summary", "proof", "runs", "topology", "steps", "expectations", "tables", "again"];
    assert_eq!(ids, order);
}

#[test]
fn the_first_screen_says_the_verdict_in_words() {
    let says = |report: &Report| page(report).named("h1").next().unwrap().text();
    assert_eq!(says(&sample::report()).trim(), "FAIL");
    assert_eq!(says(&sample::passed()).trim(), "PASS with 7 assumptions");
    assert_eq!(says(&sample::invalid()).trim(), "INVALID");
    let text = page(&sample::report()).text();
    for words in [
        "VM hosts follow at once (ideal)",
        "VM hosts follow as late as the documents allow",
        "2 expectations failed",
        "no evidence for your own router",
        "✕ silent-loss",
        "msee drill fixtures/drills/site-loss.yaml --seed 7 --runs 3",
    ] {
        assert!(text.contains(words), "{words}");
    }
    let text = page(&sample::invalid()).text();
    assert!(text.contains("not up before the first step: ce1 – ams/primary"), "{text}");
    assert!(text.contains("kept ce1 (172.16.0.1) waiting"), "{text}");
    assert!(text.contains("640 ms beyond its interval, ce1 (172.16.0.1)"), "{text}");
}

#[test]
fn every_number_is_that_of_report_json() {
    for (name, report) in samples() {
        let page = page(&report);
        let (compared, wrong) = numbers::compare(&page, &value(&report));
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
        assert!(compared >= 180, "{name}: {compared} numbers");
        assert_eq!(numbers::without_pointer(&page), Vec::<String>::new(), "{name}");
    }
    let (compared, _) = numbers::compare(&page(&sample::report()), &Value::Null);
    assert!(compared >= 500, "{compared} numbers");
}

/// The check above finds what it is for: one number that is another in the file, of each kind.
#[test]
fn a_wrong_number_is_found() {
    let report = sample::report();
    let page = page(&report);
    let right = value(&report);
    for pointer in [
        "/summary/2/cells/0/outage_max_ms",
        "/summary/2/cells/0/lost",
        "/summary/1/cells/0/goodput_bps",
        "/summary/0/cells/0/paths/ams~1primary",
        "/summary/0/peak/rate_bps",
        "/verdicts/0/held",
        "/runs/0/seed",
        "/runs/2/steps/1/groups/0/latency_us/p99",
        "/runs/0/steps/1/groups/0/lost",
        "/runs/2/steps/1/causes/1/at_ms",
        "/runs/2/conservation/dropped/no-route",
        "/shown/0/steps/1/drops/0/packets/3",
    ] {
        let mut json = right.clone();
        let number = json.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}"));
        *number = (number.as_f64().unwrap() * 1.2 + 1.0).into(); // more than any rounding
        let (_, wrong) = numbers::compare(&page, &json);
        assert!(!wrong.is_empty(), "{pointer}");
    }
}

/// Names are what a person typed: none may become markup, wherever it is shown.
#[test]
fn names_are_text() {
    const NASTY: &str = "<script>alert(1)</script>\"'&amp;]]>\u{1}";
    let mut report = sample::report();
    let plain = page(&report).all().count();
    poison(&mut report, NASTY);
    let text = html::write(&report);
    let root = page(&report);
    assert_eq!(root.named("script").count(), 0);
    assert!(!text.contains("<script"), "a name became an element");
    assert!(root.text().contains("<script>alert(1)</script>\"'&amp;]]>\u{fffd}"));
    // Other names change what is merged, but they do not bring elements of their own.
    assert!(
        root.all().all(|element| !element.attributes.iter().any(|(key, _)| key.starts_with("on")))
    );
    assert!(root.all().count() < plain * 2);
    let xml = markup::parse(&junit::write(&report)).unwrap();
    let lab = xml.named("property").find(|one| one.attribute("name") == Some("lab")).unwrap();
    assert!(lab.attribute("value").unwrap().starts_with("contoso<script>"));
}

/// Appends to every text of a report.
fn poison(report: &mut Report, nasty: &str) {
    let add = |text: &mut String| text.push_str(nasty);
    for text in [
        &mut report.tool,
        &mut report.name,
        &mut report.lab,
        &mut report.wire,
        &mut report.command,
        &mut report.expanded_lab,
    ] {
        add(text);
    }
    for row in &mut report.summary {
        [&mut row.step, &mut row.what, &mut row.traffic].into_iter().for_each(add);
        row.limits.iter_mut().for_each(add);
        for cell in &mut row.cells {
            add(&mut cell.direction);
            cell.paths = cell.paths.iter().map(|(k, v)| (format!("{k}{nasty}"), *v)).collect();
        }
        row.peak.iter_mut().for_each(|peak| add(&mut peak.limiter));
    }
    for one in &mut report.assumptions {
        [&mut one.key, &mut one.value, &mut one.source].into_iter().for_each(add);
    }
    for run in &mut report.runs {
        run.not_started.push(nasty.to_owned());
        let dropped = &mut run.conservation.dropped;
        *dropped = dropped.iter().map(|(k, v)| (format!("{k}{nasty}"), *v)).collect();
        for step in &mut run.steps {
            add(&mut step.step);
            step.event.iter_mut().for_each(add);
            for flow in &mut step.flows {
                [&mut flow.name, &mut flow.direction, &mut flow.path_before]
                    .into_iter()
                    .for_each(add);
            }
            for group in &mut step.groups {
                [&mut group.name, &mut group.direction].into_iter().for_each(add);
            }
            for tcp in &mut step.tcp {
                [&mut tcp.name, &mut tcp.direction].into_iter().for_each(add);
            }
            for cause in &mut step.causes {
                [&mut cause.node, &mut cause.kind, &mut cause.detail].into_iter().for_each(add);
            }
        }
    }
    for one in &mut report.expectations {
        [&mut one.text, &mut one.step, &mut one.traffic, &mut one.actual].into_iter().for_each(add);
    }
    for edge in &mut report.edges {
        [&mut edge.name, &mut edge.kind, &mut edge.version].into_iter().for_each(add);
        edge.config_sha256.iter_mut().for_each(add);
    }
    for node in &mut report.topology.nodes {
        [&mut node.name, &mut node.kind, &mut node.detail].into_iter().for_each(add);
    }
    for link in &mut report.topology.links {
        add(&mut link.name);
        link.failed_in.iter_mut().for_each(add);
    }
    for shown in &mut report.shown {
        for step in &mut shown.steps {
            add(&mut step.step);
            for line in &mut step.timelines {
                [&mut line.name, &mut line.kind, &mut line.direction].into_iter().for_each(add);
                let paths = std::mem::take(&mut line.paths).into_iter();
                line.paths = paths.map(|(k, v)| (k + nasty, v)).collect();
            }
            for series in &mut step.drops {
                [&mut series.node, &mut series.reason].into_iter().for_each(add);
            }
            step.limiters.iter_mut().for_each(|series| add(&mut series.name));
        }
        for table in &mut shown.tables {
            [&mut table.node, &mut table.kind].into_iter().for_each(add);
            table.columns.iter_mut().for_each(add);
            for moment in &mut table.moments {
                add(&mut moment.at);
                moment.rows.iter_mut().flatten().for_each(add);
            }
        }
    }
}

/// A page that is attached to a change must not ask for anything, nor run anything.
#[test]
fn the_page_asks_for_nothing() {
    let text = html::write(&sample::report());
    for thing in
        ["<script", "<link", "<img", "<iframe", " src=", "href=", "@import", "http://", "https://"]
    {
        assert!(!text.contains(thing), "{thing}");
    }
    assert!(text.split("url(").skip(1).all(|target| target.starts_with("#fill")));
    assert!(text.contains("default-src 'none'"));
}

#[test]
fn the_page_stays_small() {
    let normal = html::write(&sample::report()).len();
    let large = html::write(&sample::large()).len();
    assert!(normal < 400_000, "{normal} bytes");
    assert!(large < 1_500_000, "{large} bytes");
}

/// Without anything to show there is still a verdict.
#[test]
fn an_empty_report_has_a_page() {
    let mut report = sample::report();
    report.verdicts.clear();
    report.summary.clear();
    report.assumptions.clear();
    report.runs.clear();
    report.expectations.clear();
    report.edges.clear();
    report.topology = Topology::default();
    report.shown.clear();
    report.expanded_lab.clear();
    let page = page(&report);
    assert_eq!(page.named("h1").next().unwrap().text().trim(), "FAIL");
    markup::parse(&junit::write(&report)).unwrap();
}

#[test]
fn what_changed_in_a_table_is_marked_with_a_sign() {
    let page = page(&sample::report());
    let tables = page.named("section").find(|one| one.attribute("id") == Some("tables")).unwrap();
    let details: Vec<_> = tables.named("details").collect();
    let of = |node: &str, kind: &str| {
        let title = format!("{node} {kind}");
        details.iter().find(|one| one.text().trim().starts_with(&title)).unwrap()
    };
    let routes = of("ams/primary", "routes");
    assert!(routes.attribute("open").is_some());
    let rows: Vec<String> = routes.named("tr").map(Element::text).collect();
    let customer = rows.iter().find(|row| row.contains("192.168.0.0/22")).unwrap();
    assert!(customer.contains("• − removed + added"), "{customer:?}");
    let arp = of("ams/primary", "ARP");
    assert!(arp.attribute("open").is_none());
    assert!(arp.text().contains("unchanged, 2 rows"));
    assert!(!arp.text().contains("removed"));
    // The same tables under the other setting are not told twice.
    assert!(tables.text().contains("as under ideal"));
}

/// Text has a contrast of 4.5:1 (WCAG 2.1, 1.4.3) on the page and on the wash, in both schemes.
#[test]
fn colours_of_text_can_be_read() {
    let light = STYLE.split("@media (prefers-color-scheme: dark)").next().unwrap();
    let dark = STYLE.split("@media (prefers-color-scheme: dark)").nth(1).unwrap();
    let paper = STYLE.split("@media print").last().unwrap();
    for (name, scheme) in [("light", light), ("dark", dark), ("paper", paper)] {
        let colour = |name: &str| {
            let value = scheme.split(&format!("--{name}: #")).nth(1).unwrap();
            luminance(value.split(';').next().unwrap())
        };
        for text in ["ink", "soft", "good", "bad", "warn"] {
            for ground in ["paper", "wash"] {
                let (a, b) = (colour(text), colour(ground));
                let contrast = (a.max(b) + 0.05) / (a.min(b) + 0.05);
                assert!(contrast >= 4.5, "{name}: {text} on {ground} has {contrast:.2}:1");
            }
        }
    }
    assert!((luminance("fff") / (luminance("777777") + 0.05)).abs() < 4.5);
}

/// Relative luminance of `rgb` or `rrggbb` (WCAG 2.1).
fn luminance(hex: &str) -> f64 {
    let hex: String =
        if hex.len() == 3 { hex.chars().flat_map(|c| [c, c]).collect() } else { hex.to_owned() };
    let channel = |at: usize| {
        let value = f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0;
        if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * channel(0) + 0.7152 * channel(2) + 0.0722 * channel(4)
}

/// As a pipeline reads it; `UPDATE_FIXTURES=1` writes it anew.
#[test]
fn junit_is_as_it_is_written_down() {
    for (name, report) in [("failed", sample::report()), ("invalid", sample::invalid())] {
        let xml = junit::write(&report);
        let path = Path::new("fixtures/reports").join(format!("sample-{name}.junit.xml"));
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            fs::write(&path, &xml).unwrap();
        }
        assert_eq!(xml, fs::read_to_string(&path).unwrap(), "{name}");
    }
}

#[test]
fn junit_counts_what_it_contains() {
    for (name, report) in samples() {
        let root = markup::parse(&junit::write(&report)).unwrap();
        assert_eq!(root.name, "testsuites");
        let counts = |of: &Element| {
            ["tests", "failures", "errors"]
                .map(|key| of.attribute(key).unwrap().parse::<usize>().unwrap())
        };
        let inside =
            |of: &Element| ["testcase", "failure", "error"].map(|tag| of.named(tag).count());
        assert_eq!(counts(&root), inside(&root), "{name}");
        for suite in root.named("testsuite") {
            assert_eq!(counts(suite), inside(suite), "{name}");
        }
        assert_eq!(root.named("testsuite").count(), report.verdicts.len(), "{name}");
        let failed = report.expectations.iter().filter(|one| !one.held).count();
        assert_eq!(root.named("failure").count(), failed, "{name}");
    }
    let root = markup::parse(&junit::write(&sample::report())).unwrap();
    let kinds: Vec<_> = root.named("failure").filter_map(|one| one.attribute("type")).collect();
    assert_eq!(kinds, ["not-held", "not-evaluated"]);
}

/// The reader of this test is strict enough to see what is wrong.
#[test]
fn what_is_not_well_formed_is_an_error() {
    for text in [
        "<a><b></a></b>",
        "<a>",
        "<a b=c/>",
        "<a>&</a>",
        "<a>&nbsp;</a>",
        "<a b=\"1\" b=\"2\"/>",
        "<a/><b/>",
        "<a>\u{1}</a>",
    ] {
        assert!(markup::parse(text).is_err(), "{text}");
    }
    assert_eq!(markup::parse("<a b=\"&lt;\">x &amp; y<c/></a>").unwrap().text(), "x & y");
}

#[test]
#[ignore = "needs a Chromium: scripts/test runs it where there is one"]
fn a_browser_finds_nothing_wrong() {
    for (name, report) in samples() {
        let seen = chromium::look(name, &html::write(&report));
        assert!(seen.is_clean(), "{name}: {seen:#?}");
    }
}

/// What the check above is for is found by it.
#[test]
#[ignore = "needs a Chromium: scripts/test runs it where there is one"]
fn a_browser_finds_what_is_wrong() {
    let page = html::write(&sample::passed());
    let with = |more: &str| page.replace("<main>", &format!("<main>{more}"));
    let open = |page: String| page.replace("default-src 'none'; ", "");
    let image = chromium::look("image", &open(with("<img src=\"http://example.invalid/x.png\"/>")));
    assert!(image.requests.iter().any(|url| url.contains("example.invalid")), "{image:#?}");
    let file = chromium::look("file", &open(with("<img src=\"other.png\"/>")));
    assert!(file.requests.iter().any(|url| url.contains("other.png")), "{file:#?}");
    let blocked = chromium::look("blocked", &with("<img src=\"http://example.invalid/x.png\"/>"));
    assert!(
        blocked.console.iter().any(|line| line.contains("Content Security Policy")),
        "{blocked:#?}"
    );
    let error = chromium::look("error", &open(with("<script>console.error('wrong')</script>")));
    assert!(error.console.iter().any(|line| line.contains("wrong")), "{error:#?}");
    let wide = chromium::look("wide", &with("<div style=\"width:1300px\">wide</div>"));
    assert_eq!(wide.too_wide.len(), 3, "{wide:#?}");
    let cut = chromium::look(
        "cut",
        &with("<p style=\"width:40px;overflow:hidden;white-space:nowrap\">much too long</p>"),
    );
    assert_eq!(cut.cut.len(), chromium::WIDTHS.len(), "{cut:#?}");
}

/// On paper the folded parts are open.
#[test]
#[ignore = "needs a Chromium: scripts/test runs it where there is one"]
fn the_page_prints_with_everything_open() {
    let page = html::write(&sample::report());
    let open = chromium::print("open", &page);
    let rule = "details::details-content { display: block; content-visibility: visible; block-size: auto; }";
    assert!(page.contains(rule));
    let folded = chromium::print("folded", &page.replace(rule, ""));
    assert!(folded >= 2 && open > folded, "{open} pages, {folded} with folded parts");
}

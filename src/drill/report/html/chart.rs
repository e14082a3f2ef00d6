//! Drawings over time. Their width follows the page, so every word of them is text beside or below
//! and the drawing itself is stretched: one unit of width is a thousandth of the span.

use std::collections::BTreeMap;

use crate::drill::report::Millis;
use crate::drill::report::html::FILLS;
use crate::drill::report::html::figures::{escape, grouped, rate_text};
use crate::drill::report::words::rounded;

/// Width of every drawing, in its own units.
const WIDE: f64 = 1000.0;
/// Heights in pixels.
const RATE_HIGH: f64 = 84.0;
const LOST_HIGH: f64 = 34.0;
const BAND_HIGH: f64 = 22.0;
const SPARK_HIGH: f64 = 22.0;
/// Bins of a drawing; more are put together.
const BINS_MAX: usize = 400;
/// Most marks of a time axis.
const TICKS: u64 = 5;

/// The patterns by which areas differ without colour: defined once, used by number.
pub(super) fn patterns() -> String {
    const STROKES: [&str; FILLS] = [
        "",
        r#"<path d="M-2 2L2 -2M0 8L8 0M6 10L10 6"/>"#,
        r#"<circle cx="2" cy="2" r="1.1"/><circle cx="6" cy="6" r="1.1"/>"#,
        r#"<path d="M0 2H8M0 6H8"/>"#,
        r#"<path d="M-2 6L2 10M0 0L8 8M6 -2L10 2"/>"#,
        r#"<path d="M2 0V8M6 0V8"/>"#,
    ];
    let patterns: String = STROKES
        .iter()
        .enumerate()
        .map(|(i, stroke)| {
            format!(
                "<pattern id=\"fill{i}\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\">\
                 <rect class=\"f{i}\" width=\"8\" height=\"8\"/>{stroke}</pattern>\n"
            )
        })
        .collect();
    format!(
        "<svg class=\"patterns\" width=\"0\" height=\"0\" aria-hidden=\"true\"><defs>\n{patterns}</defs></svg>\n"
    )
}

/// A rate over time, what was lost below it, and the links flows took.
pub(super) struct Timeline<'a> {
    pub(super) bin: Millis,
    /// Bins that are drawn, of those there are.
    pub(super) bins: usize,
    /// Caption, as HTML.
    pub(super) caption: String,
    /// `delivered`, `passed`.
    pub(super) rate_word: &'static str,
    pub(super) rate_bps: &'a [u64],
    /// Top of the rate's axis, so that drawings side by side compare.
    pub(super) rate_most: u64,
    /// A rate that is not to be passed.
    pub(super) limit_bps: Option<u64>,
    /// `packets lost`, `segments sent again`.
    pub(super) lost_word: &'static str,
    pub(super) lost: &'a [u64],
    pub(super) lost_most: u64,
    /// By link, with how the link is filled.
    pub(super) paths: Vec<(&'a str, usize, &'a [u64])>,
}

impl Timeline<'_> {
    pub(super) fn html(&self) -> String {
        let all = self.rate_bps.len().max(self.lost.len());
        let bins = all.min(self.bins);
        if bins == 0 {
            return String::new();
        }
        let drawn = |values: &[u64]| {
            let mut values = values.to_vec();
            values.resize(bins, 0);
            values
        };
        let each = bins.div_ceil(BINS_MAX);
        let wide = bins.div_ceil(each) as f64 * each as f64 / bins as f64 * WIDE;
        let scale = Scale { bins: bins.div_ceil(each), wide };
        let limit = self.limit_bps.unwrap_or(0);
        let most = self.rate_most.max(limit).max(1);
        let rates = together(&drawn(self.rate_bps), each, Together::Mean);
        let line = self.limit_bps.map_or_else(String::new, |limit| {
            let y = RATE_HIGH - height(limit, most, RATE_HIGH - 6.0);
            format!("<path class=\"limit\" d=\"M0 {y:.1}H{WIDE}\"/>")
        });
        let rate = panel(
            &format!("<span>{}<br/>{}</span><span>0</span>", rate_text(most), self.rate_word),
            RATE_HIGH,
            "rate",
            &format!(
                "<path class=\"flow\" d=\"{}\"/>{line}",
                scale.area(&rates, most, RATE_HIGH, RATE_HIGH - 6.0)
            ),
        );
        let lost = together(&drawn(self.lost), each, Together::Sum);
        let lost_most = together_most(self.lost_most, &lost);
        let lost = panel(
            &if self.lost_most == 0 {
                format!("<span></span><span>0 {}</span>", self.lost_word)
            } else {
                format!("<span></span><span>{} {}</span>", grouped(lost_most), self.lost_word)
            },
            if self.lost_most == 0 { 16.0 } else { LOST_HIGH },
            "lost",
            &format!("<path class=\"loss\" d=\"{}\"/>", scale.hanging(&lost, lost_most, LOST_HIGH)),
        );
        let band =
            if self.paths.is_empty() { String::new() } else { self.band(&scale, each, bins) };
        let span = Millis(self.bin.micros().saturating_mul(bins as u64));
        let whole = Millis(self.bin.micros().saturating_mul(all as u64));
        let part = if bins < all {
            format!("first {} of {}, ", rounded(span), rounded(whole))
        } else {
            String::new()
        };
        let per = Millis(self.bin.micros().saturating_mul(each as u64));
        format!(
            "<figure class=\"timeline\">\n<figcaption><span>{}</span><span class=\"soft\">{part}per {}</span>\
             </figcaption>\n{rate}{lost}{band}{}{}</figure>\n",
            self.caption,
            rounded(per),
            axis(span),
            self.legend()
        )
    }

    /// Links stacked in the order of their names; what is left of the height is on no link.
    fn band(&self, scale: &Scale, each: usize, bins: usize) -> String {
        let total = self.flows().max(1);
        let mut below = vec![0; scale.bins];
        let mut shapes = String::new();
        for (_, fill, flows) in &self.paths {
            let mut flows = flows.to_vec();
            flows.resize(bins, 0);
            let flows = together(&flows, each, Together::Last);
            let above: Vec<u64> =
                below.iter().zip(&flows).map(|(low, flows)| low + flows).collect();
            shapes += &format!(
                "<path class=\"p{fill}\" d=\"{}\"/>",
                scale.between(&below, &above, total, BAND_HIGH)
            );
            below = above;
        }
        panel("<span>flows by link</span>", BAND_HIGH, "band", &shapes)
    }

    /// Most flows that were on any link at once.
    fn flows(&self) -> u64 {
        let bins = self.paths.iter().map(|(.., flows)| flows.len()).max().unwrap_or(0);
        let at = |bin: usize| self.paths.iter().filter_map(|(.., flows)| flows.get(bin)).sum();
        (0..bins).map(at).max().unwrap_or(0)
    }

    fn legend(&self) -> String {
        let mut items: Vec<String> = self
            .paths
            .iter()
            .map(|(link, fill, flows)| {
                let (first, last) = (flows.first().unwrap_or(&0), flows.last().unwrap_or(&0));
                let flows = if first == last {
                    grouped(*last)
                } else {
                    format!("{} → {}", grouped(*first), grouped(*last))
                };
                format!(
                    "{}{} <span class=\"soft\">{flows}</span>",
                    swatch(&format!("p{fill}")),
                    escape(link)
                )
            })
            .collect();
        let bins = self.paths.iter().map(|(.., flows)| flows.len()).max().unwrap_or(0);
        let sum =
            |bin: usize| self.paths.iter().filter_map(|(.., flows)| flows.get(bin)).sum::<u64>();
        if (0..bins).any(|bin| sum(bin) < self.flows()) {
            items.push(format!("{}on no link", swatch("none")));
        }
        if let Some(limit) = self.limit_bps {
            items.push(format!("{}rate {}", swatch("dash"), rate_text(limit)));
        }
        if items.is_empty() {
            return String::new();
        }
        let items: String = items.iter().map(|item| format!("<li>{item}</li>")).collect();
        format!("<ul class=\"legend\">{items}</ul>\n")
    }
}

fn swatch(class: &str) -> String {
    match class {
        "dash" => "<svg class=\"swatch\" viewBox=\"0 0 16 12\" aria-hidden=\"true\"><path class=\"limit\" d=\"M0 6H16\"/></svg>".to_owned(),
        class => format!("<svg class=\"swatch\" viewBox=\"0 0 16 12\" aria-hidden=\"true\"><rect class=\"{class}\" width=\"16\" height=\"12\"/></svg>"),
    }
}

/// Bars over time on one line.
pub(super) fn spark(values: &[u64], bins: usize) -> String {
    let values = &values[..values.len().min(bins)];
    let each = values.len().div_ceil(BINS_MAX).max(1);
    let values = together(values, each, Together::Sum);
    let scale = Scale { bins: values.len(), wide: WIDE };
    let most = values.iter().copied().max().unwrap_or(0);
    let flipped = scale.standing(&values, most, SPARK_HIGH);
    drawing(SPARK_HIGH, "spark", &format!("<path class=\"loss\" d=\"{flipped}\"/>"))
}

/// Times under a drawing, at round numbers.
pub(super) fn axis(span: Millis) -> String {
    let micros = span.micros().max(1);
    let step = tick(micros);
    let marks: String = (0..=micros / step)
        .map(|i| {
            let at = i * step;
            let left = at as f64 / micros as f64 * 100.0;
            // The last one must not stand out on the right.
            let class = if i == 0 {
                " class=\"first\""
            } else if left > 92.0 {
                " class=\"last\""
            } else {
                ""
            };
            format!("<span{class} style=\"left:{left:.2}%\">{}</span>", moment(at, micros))
        })
        .collect();
    format!("<div class=\"axis\"><div>{marks}</div></div>\n")
}

/// A round distance between marks, of which at most [`TICKS`] fit.
fn tick(span_micros: u64) -> u64 {
    let mut step = 1;
    loop {
        for factor in [1, 2, 5] {
            if span_micros / (step * factor) <= TICKS {
                return step * factor;
            }
        }
        step *= 10;
    }
}

/// A mark's time, in the unit of the whole axis.
fn moment(micros: u64, span: u64) -> String {
    let (unit, name) = match span {
        1_000_000.. => (1_000_000, "s"),
        1000.. => (1000, "ms"),
        _ => (1, "µs"),
    };
    match (micros, micros % unit) {
        (0, _) => "0".to_owned(),
        (_, 0) => format!("{} {name}", grouped(micros / unit)),
        (_, rest) => {
            let tenths = (rest * 1000 / unit).to_string();
            let tenths = format!("{tenths:0>3}");
            format!("{}.{} {name}", micros / unit, tenths.trim_end_matches('0'))
        }
    }
}

/// Labels on the left, the drawing on the right.
fn panel(labels: &str, high: f64, class: &str, shapes: &str) -> String {
    format!(
        "<div class=\"panel {class}\"><div class=\"labels\">{labels}</div>{}</div>\n",
        drawing(high, class, shapes)
    )
}

fn drawing(high: f64, class: &str, shapes: &str) -> String {
    format!(
        "<svg class=\"draw {class}\" style=\"height:{high}px\" viewBox=\"0 0 {WIDE} {high}\" \
         preserveAspectRatio=\"none\" aria-hidden=\"true\">{shapes}</svg>"
    )
}

enum Together {
    Sum,
    Mean,
    Last,
}

/// Each so many bins as one.
fn together(values: &[u64], each: usize, how: Together) -> Vec<u64> {
    let one = |bins: &[u64]| match how {
        Together::Sum => bins.iter().sum(),
        Together::Mean => bins.iter().sum::<u64>() / bins.len() as u64,
        Together::Last => bins[bins.len() - 1],
    };
    values.chunks(each.max(1)).map(one).collect()
}

/// The top of an axis: what drawings share, or more where bins were put together.
fn together_most(shared: u64, values: &[u64]) -> u64 {
    values.iter().copied().max().unwrap_or(0).max(shared).max(1)
}

fn height(value: u64, most: u64, high: f64) -> f64 {
    value as f64 / most.max(1) as f64 * high
}

/// Where bins are.
struct Scale {
    bins: usize,
    /// Where the last bin ends; beyond the drawing when it is not a whole one.
    wide: f64,
}

impl Scale {
    fn x(&self, bin: usize) -> f64 {
        bin as f64 * self.wide / self.bins.max(1) as f64
    }

    /// The area under values that each last a bin; equal neighbours are one line.
    fn area(&self, values: &[u64], most: u64, bottom: f64, high: f64) -> String {
        let zeros = vec![0; values.len()];
        let ceiling = self.edge(values, most, bottom, high);
        let floor = self.edge(&zeros, most, bottom, high);
        let end = floor.last().map_or(0.0, |point| point.0);
        let mut path = format!("M0 {bottom}");
        for (x, y) in ceiling {
            path += &format!("L{x:.1} {y:.1}");
        }
        path + &format!("L{end:.1} {bottom}Z")
    }

    /// The area between two rows of values.
    fn between(&self, low: &[u64], above: &[u64], most: u64, high: f64) -> String {
        if low == above {
            return String::new();
        }
        let mut path = String::new();
        for (i, (x, y)) in self.edge(above, most, high, high).into_iter().enumerate() {
            path += &format!("{}{x:.1} {y:.1}", if i == 0 { 'M' } else { 'L' });
        }
        for (x, y) in self.edge(low, most, high, high).into_iter().rev() {
            path += &format!("L{x:.1} {y:.1}");
        }
        path + "Z"
    }

    /// Corners of a line of steps, from left to right.
    fn edge(&self, values: &[u64], most: u64, bottom: f64, high: f64) -> Vec<(f64, f64)> {
        let mut points = Vec::new();
        let mut from = 0;
        while from < values.len() {
            let mut to = from;
            while to < values.len() && values[to] == values[from] {
                to += 1;
            }
            let y = bottom - height(values[from], most, high);
            points.push((self.x(from), y));
            points.push((self.x(to), y));
            from = to;
        }
        points
    }

    /// Bars that hang from the top.
    fn hanging(&self, values: &[u64], most: u64, high: f64) -> String {
        self.bars(values, 0.0, &|value| height(value, most, high).max(2.0))
    }

    /// Bars that stand on the bottom.
    fn standing(&self, values: &[u64], most: u64, high: f64) -> String {
        self.bars(values, high, &|value| high - height(value, most, high).max(2.0))
    }

    /// Neighbours are one shape, so that no seam shows between them.
    fn bars(&self, values: &[u64], base: f64, tip: &dyn Fn(u64) -> f64) -> String {
        /// A bar of a hair's width would not be seen.
        const WIDE_MIN: f64 = 3.0;
        let mut path = String::new();
        let mut bin = 0;
        while bin < values.len() {
            if values[bin] == 0 {
                bin += 1;
                continue;
            }
            let start = self.x(bin);
            path += &format!("M{start:.1} {base}");
            while bin < values.len() && values[bin] > 0 {
                let value = values[bin];
                while bin < values.len() && values[bin] == value {
                    bin += 1;
                }
                path += &format!("V{:.1}H{:.1}", tip(value), self.x(bin).max(start + WIDE_MIN));
            }
            path += &format!("V{base}Z");
        }
        path
    }
}

/// Of how many bins of a step the drawing is: when nothing changes in most of it, a little more
/// than what comes before. `busy` are the bins in which something happened.
pub(super) fn interesting(bins: usize, busy: impl Iterator<Item = usize>) -> usize {
    const LEAST: usize = 20;
    let last = busy.max().map_or(bins, |bin| bin + 1);
    let part = (last * 2).max(LEAST);
    if part * 2 <= bins { part } else { bins }
}

/// Values by link, with how each is filled.
pub(super) fn filled(
    paths: &BTreeMap<String, Vec<u64>>,
    fill: impl Fn(&str) -> usize,
) -> Vec<(&str, usize, &[u64])> {
    paths.iter().map(|(link, flows)| (link.as_str(), fill(link), flows.as_slice())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        for span in [1, 7, 999, 1000, 20_000_000, 90_000_000, 3_600_000_000] {
            let step = tick(span);
            assert!(span / step <= TICKS);
            let first = step.to_string().chars().next().unwrap();
            assert!("125".contains(first), "{step}");
        }
        assert_eq!(moment(20_000_000, 60_000_000), "20 s");
        assert_eq!(moment(500_000, 2_000_000), "0.5 s");
        assert_eq!(moment(200_000, 900_000), "200 ms");
    }

    #[test]
    fn bins_are_put_together_and_none_is_lost() {
        assert_eq!(together(&[1, 2, 3, 4, 5], 2, Together::Sum), [3, 7, 5]);
        assert_eq!(together(&[2, 4, 5], 2, Together::Mean), [3, 5]);
        assert_eq!(together(&[1, 2, 3], 2, Together::Last), [2, 3]);
    }

    #[test]
    fn a_drawing_ends_after_what_happened() {
        assert_eq!(interesting(600, [3, 8].into_iter()), 20);
        assert_eq!(interesting(600, std::iter::once(99)), 200);
        assert_eq!(interesting(600, std::iter::once(400)), 600);
        assert_eq!(interesting(600, std::iter::empty()), 600);
    }

    #[test]
    fn equal_neighbours_are_one_line() {
        let scale = Scale { bins: 4, wide: 1000.0 };
        let corners = scale.edge(&[1, 1, 0, 1], 1, 10.0, 10.0);
        let expected =
            [(0.0, 0.0), (500.0, 0.0), (500.0, 10.0), (750.0, 10.0), (750.0, 0.0), (1000.0, 0.0)];
        assert_eq!(corners, expected);
    }
}

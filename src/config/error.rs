//! What is wrong with a file: every problem of it and of the files it extends, each with its place.
//!
//! `Display` is a plain text form that stays the same; [`Errors::drawable`] has miette draw the same
//! problems into the file's text for a terminal.

use std::fmt;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};

/// Most problems kept of one file; one misplaced brace should not print a thousand.
pub(super) const PROBLEMS_MAX: usize = 100;

/// Where something stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Spot {
    /// Which file: 0 is the one that was asked for, 1 the one it extends, and so on.
    pub file: usize,
    /// From 1, in characters.
    pub line: usize,
    pub column: usize,
    /// In bytes.
    pub offset: usize,
    pub length: usize,
}

/// A spot and the keys that lead to it: `circuits[0].peerings[1].vlanId`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct At {
    pub spot: Spot,
    pub key: String,
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    pub at: At,
    /// What was found, as a sentence.
    pub found: String,
    /// What is allowed, or what to write instead.
    pub allowed: Option<String>,
    /// Id of the rule: `L-01`, `section 6.1`.
    pub rule: Option<&'static str>,
}

/// Everything that is wrong with one file and those it extends, file by file in their order.
pub struct Errors {
    /// By [`Spot::file`]; at least the file itself.
    sources: Vec<NamedSource<String>>,
    problems: Vec<Problem>,
}

impl Errors {
    pub(super) fn new(sources: Vec<NamedSource<String>>, mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| a.at.cmp(&b.at));
        problems.dedup();
        problems.truncate(PROBLEMS_MAX);
        Self { sources, problems }
    }

    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The file that was asked for.
    pub fn file(&self) -> &str {
        self.sources[0].name()
    }

    fn source(&self, problem: &Problem) -> &NamedSource<String> {
        &self.sources[problem.at.spot.file]
    }

    /// Each problem as miette draws it.
    pub fn drawable(&self) -> impl Iterator<Item = Drawable<'_>> {
        self.problems.iter().map(|problem| Drawable { problem, source: self.source(problem) })
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            let Spot { line, column, .. } = problem.at.spot;
            let key = if problem.at.key.is_empty() { "the file" } else { &problem.at.key };
            let file = self.source(problem).name();
            writeln!(f, "{file}:{line}:{column}: {key}: {}", problem.found)?;
            if let Some(allowed) = &problem.allowed {
                writeln!(f, "    allowed: {allowed}")?;
            }
            if let Some(rule) = problem.rule {
                writeln!(f, "    rule: {rule}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Errors {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at.key.as_str() {
            "" => f.write_str(&self.found),
            key => write!(f, "{key}: {}", self.found),
        }
    }
}

/// A problem with the text it is in.
#[derive(Debug)]
pub struct Drawable<'e> {
    problem: &'e Problem,
    source: &'e NamedSource<String>,
}

impl fmt::Display for Drawable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)
    }
}

impl std::error::Error for Drawable<'_> {}

impl Diagnostic for Drawable<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.problem.rule.map(|rule| Box::new(rule) as Box<dyn fmt::Display>)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let allowed = self.problem.allowed.as_ref()?;
        Some(Box::new(format!("allowed: {allowed}")))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let Spot { offset, length, .. } = self.problem.at.spot;
        let label = LabeledSpan::new(Some("here".to_owned()), offset, length);
        Some(Box::new(std::iter::once(label)))
    }
}

/// The candidate most like `word`, if one is like it at all.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let distance = |candidate: &str| edits(&lower, &candidate.to_lowercase());
    candidates
        .into_iter()
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, candidate)| {
            let length = candidate.chars().count();
            *distance <= (length / 3).max(1) && *distance < length
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Longest word compared; what is longer is no misspelt key.
const WORD_MAX: usize = 64;

/// Single-character edits, swaps of neighbours included, that turn one word into the other.
fn edits(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(WORD_MAX).collect();
    let b: Vec<char> = b.chars().take(WORD_MAX).collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_and_a_far_one_is_not() {
        let keys = ["vlanId", "peerASN", "sharedKey"];
        assert_eq!(nearest("vlandId", keys), Some("vlanId"));
        assert_eq!(nearest("peerAns", keys), Some("peerASN"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(nearest("b", ["a"]), None);
    }
}

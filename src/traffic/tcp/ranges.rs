//! Sets of bytes of a stream.

use std::ops::Range;

/// Ranges in order that neither overlap nor touch.
#[derive(Clone, Default, Debug)]
pub(super) struct Ranges(Vec<Range<u64>>);

impl Ranges {
    pub const EMPTY: Self = Self(Vec::new());

    /// Adds a range that is not empty; returns the parts of it that were not in the set.
    pub fn insert(&mut self, range: Range<u64>) -> Vec<Range<u64>> {
        let first = self.0.partition_point(|known| known.end < range.start);
        let past = first + self.0[first..].partition_point(|known| known.start <= range.end);
        if let [known] = &self.0[first..past]
            && known.start <= range.start
            && range.end <= known.end
        {
            return Vec::new();
        }
        let mut added = Vec::new();
        let mut whole = range.clone();
        let mut from = range.start;
        for known in &self.0[first..past] {
            if from < known.start {
                added.push(from..known.start);
            }
            from = from.max(known.end);
            whole = whole.start.min(known.start)..whole.end.max(known.end);
        }
        if from < range.end {
            added.push(from..range.end);
        }
        self.0.splice(first..past, [whole]);
        added
    }

    /// Takes out what is below `at`.
    pub fn remove_below(&mut self, at: u64) {
        let gone = self.0.partition_point(|known| known.end <= at);
        self.0.drain(..gone);
        if let Some(first) = self.0.first_mut() {
            first.start = first.start.max(at);
        }
    }

    /// Takes out the first range when it begins at or below `at`; returns where it ends.
    pub fn take_from(&mut self, at: u64) -> Option<u64> {
        let reached = self.0.first().is_some_and(|first| first.start <= at);
        reached.then(|| self.0.remove(0).end)
    }

    /// The range that a byte is in.
    pub fn containing(&self, at: u64) -> Option<Range<u64>> {
        let place = self.0.partition_point(|known| known.end <= at);
        self.0.get(place).filter(|known| known.start <= at).cloned()
    }

    /// Where the last range ends.
    pub fn end(&self) -> Option<u64> {
        self.0.last().map(|last| last.end)
    }

    /// From the first to the last.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Range<u64>> {
        self.0.iter()
    }

    pub const fn len(&self) -> usize {
        self.0.len()
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

//! Equal path attributes of one session share one allocation.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::control::route::Attributes;

/// Attribute sets in use. Sets that nobody else holds are dropped whenever the table has doubled,
/// so it stays within twice what the routes need.
#[derive(Debug)]
pub(super) struct Interner {
    known: BTreeSet<Arc<Attributes>>,
    sweep_at: usize,
}

impl Interner {
    const FIRST_SWEEP: usize = 1024;

    pub(super) fn new() -> Self {
        Self { known: BTreeSet::new(), sweep_at: Self::FIRST_SWEEP }
    }

    pub(super) fn intern(&mut self, attributes: Arc<Attributes>) -> Arc<Attributes> {
        if let Some(known) = self.known.get(&attributes) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|each| Arc::strong_count(each) > 1);
            self.sweep_at = Self::FIRST_SWEEP.max(2 * self.known.len());
        }
        self.known.insert(Arc::clone(&attributes));
        attributes
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::control::route::{AsPath, Origin};

    fn attributes(med: u32) -> Arc<Attributes> {
        Arc::new(Attributes {
            origin: Origin::Igp,
            as_path: AsPath::default(),
            next_hop: Ipv4Addr::LOCALHOST.into(),
            med: Some(med),
            local_preference: None,
            communities: Vec::new(),
            large_communities: Vec::new(),
        })
    }

    #[test]
    fn equal_sets_are_one_and_unused_ones_go() {
        let mut interner = Interner::new();
        let held = interner.intern(attributes(0));
        assert!(Arc::ptr_eq(&held, &interner.intern(attributes(0))));
        for med in 1..10_000 {
            interner.intern(attributes(med));
        }
        assert!(interner.known.len() <= Interner::FIRST_SWEEP);
        assert!(Arc::ptr_eq(&held, &interner.intern(attributes(0))));
    }
}

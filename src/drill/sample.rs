//! Counters of a lab at one moment: what limiters passed, and what was dropped where and why.

use std::collections::BTreeMap;

use crate::lab::Lab;
use crate::model::Instant;
use crate::router::{DropReason, LimiterRow};

/// What had been limited and dropped until a moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sample {
    pub at: Instant,
    /// By router.
    pub limiters: BTreeMap<String, Vec<LimiterRow>>,
    /// Packets by router, host or link, and reason; zeros left out.
    pub drops: BTreeMap<(String, DropReason), u64>,
}

impl Sample {
    pub fn take(lab: &Lab) -> Self {
        let mut limiters = BTreeMap::new();
        for router in lab.router_names() {
            let rows = lab.counters(router).map(|counters| counters.limiters);
            if let Some(rows) = rows.filter(|rows| !rows.is_empty()) {
                limiters.insert(router.to_owned(), rows);
            }
        }
        let mut drops = BTreeMap::new();
        let nodes = lab.node_ledgers();
        let links = lab.link_ledgers().map(|(name, ledger)| (name, ledger.clone()));
        for (name, ledger) in nodes.chain(links) {
            for &reason in DropReason::ALL {
                let packets = ledger.dropped[reason as usize];
                if packets > 0 {
                    *drops.entry((name.to_owned(), reason)).or_default() += packets;
                }
            }
        }
        Self { at: lab.now(), limiters, drops }
    }

    pub fn limiter(&self, name: &str) -> Option<&LimiterRow> {
        self.limiters.values().flatten().find(|row| row.name == name)
    }
}

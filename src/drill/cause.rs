//! The cause chain of a step: what routers said happened, and what packets showed.

use std::time::Duration;

use serde::Serialize;

use crate::drill::paths::Paths;
use crate::drill::probe::FlowWindow;
use crate::model::Instant;
use crate::telemetry::{Event, EventKind};

/// Name of the cause that packets show: the first on another path, of a flow that is delivered.
pub const FIRST_PACKET: &str = "first-packet";
/// Name of the end of the chain: after it nothing changed in the step.
pub const SETTLED: &str = "settled";

/// One link of the chain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Cause {
    #[serde(skip)]
    pub at: Instant,
    pub at_ms: crate::drill::report::Millis,
    pub node: String,
    pub kind: String,
    pub detail: String,
}

/// What happened from `from` to `to`, in order.
pub fn chain(
    events: &[Event],
    paths: &Paths,
    windows: &[FlowWindow],
    from: Instant,
    to: Instant,
) -> Vec<Cause> {
    let told = events.iter().filter(|event| event.at >= from && event.at < to);
    let mut chain: Vec<Cause> = told
        .filter(|event| event.kind != EventKind::NeighborResolved)
        .map(|event| cause(from, event.at, &event.node, event.kind.name(), &event.detail))
        .collect();
    let mut settled = chain.last().filter(|_| chain.len() > 1).map(|last| last.at);
    let moved = windows
        .iter()
        .enumerate()
        .filter_map(|(flow, window)| {
            let delivered = |at| !window.is_interrupted(at);
            Some((flow, paths.first_change(flow, from, to, delivered)?))
        })
        .min_by_key(|(flow, (at, _))| (*at, *flow));
    if let Some((flow, (at, path))) = moved {
        let detail = format!("flow {} takes {}", windows[flow].label, paths.name(path));
        chain.push(cause(from, at, paths.msee(path), FIRST_PACKET, &detail));
        settled = settled.map(|last| last.max(at));
    }
    if let Some(at) = settled {
        chain.push(cause(from, at, "drill", SETTLED, "nothing changed after this"));
    }
    chain.sort_by_key(|cause| cause.at);
    chain
}

fn cause(from: Instant, at: Instant, node: &str, kind: &str, detail: &str) -> Cause {
    let since: Duration = at.since(from);
    let (node, kind, detail) = (node.to_owned(), kind.to_owned(), detail.to_owned());
    Cause { at, at_ms: since.into(), node, kind, detail }
}

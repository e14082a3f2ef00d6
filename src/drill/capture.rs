//! Captures for expectations about what may not be seen at a place (`isolated`).

use std::time::Duration;

use crate::config::drill::{Drill, During, Form};
use crate::fabric::{self, LinkIndex};
use crate::lab::Lab;
use crate::model::{Instant, Prefix};

/// Every capture a drill asks for.
#[derive(Clone, Debug, Default)]
pub struct Captures {
    captures: Vec<Capture>,
    /// The step that runs, and when it began; none before the first.
    step: Option<(usize, Instant)>,
}

/// Of one expectation.
#[derive(Clone, Debug)]
struct Capture {
    expectation: usize,
    links: Vec<LinkIndex>,
    contains: Vec<Prefix>,
    after: Duration,
    /// By step.
    seen: Vec<Seen>,
}

/// IP packets at a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    pub packets: u64,
    /// Those with an address in one of the blocks.
    pub matching: u64,
}

impl Captures {
    /// Watches every place that an expectation names.
    pub fn watch(lab: &mut Lab, drill: &Drill) -> Self {
        let mut captures = Vec::new();
        for (expectation, entry) in drill.expect.iter().enumerate() {
            let Form::Isolated { capture, contains, .. } = &entry.form else { continue };
            let links = lab.links_at(capture);
            for &link in &links {
                lab.watch(link);
            }
            captures.push(Capture {
                expectation,
                links,
                contains: contains.clone(),
                after: entry.after.unwrap_or(Duration::ZERO),
                seen: vec![Seen::default(); drill.steps.len()],
            });
        }
        Self { captures, step: None }
    }

    pub fn begin_step(&mut self, step: usize, now: Instant) {
        self.step = Some((step, now));
    }

    pub fn frame(&mut self, link: LinkIndex, bytes: &[u8], now: Instant) {
        let Some((step, began)) = self.step else { return };
        for capture in &mut self.captures {
            if !capture.links.contains(&link) || now < began + capture.after {
                continue;
            }
            let Some((source, destination)) = fabric::addresses(bytes) else { continue };
            let inside = |block: &Prefix| block.contains(&source) || block.contains(&destination);
            let seen = &mut capture.seen[step];
            seen.packets += 1;
            seen.matching += u64::from(capture.contains.iter().any(inside));
        }
    }

    /// What the capture of an expectation saw in the steps it is about.
    pub fn seen(&self, expectation: usize, during: During) -> Seen {
        let captures = self.captures.iter().filter(|capture| capture.expectation == expectation);
        let steps = captures.flat_map(|capture| capture.seen.iter().enumerate());
        let about = steps.filter(|(step, _)| match during {
            During::Always => true,
            During::Step(index) => index == *step,
        });
        about.fold(Seen::default(), |sum, (_, seen)| Seen {
            packets: sum.packets + seen.packets,
            matching: sum.matching + seen.matching,
        })
    }
}

//! The conservation equation, added up here from every ledger of the lab, whatever the lab itself
//! says of it.

use msee::lab::Lab;
use msee::router::{DropReason, Ledger};

/// Every ledger of a lab at one moment, with the name of what it is of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Books {
    pub nodes: Vec<(String, Ledger)>,
    pub links: Vec<(String, Ledger)>,
    /// Frames that are not free; each is one packet, since the probes are no super-frames.
    pub frames_in_use: u64,
}

impl Books {
    pub fn of(lab: &Lab) -> Self {
        Self {
            nodes: lab.node_ledgers().map(|(name, ledger)| (name.to_owned(), ledger)).collect(),
            links: lab
                .link_ledgers()
                .map(|(name, ledger)| (name.to_owned(), ledger.clone()))
                .collect(),
            frames_in_use: lab.frames_in_use() as u64,
        }
    }

    /// What does not add up, in words.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, ledger) in self.nodes.iter().chain(&self.links) {
            let taken = ledger.received + ledger.originated;
            let dropped: u64 = ledger.dropped.iter().sum();
            let given = ledger.transmitted + ledger.consumed + ledger.queued + dropped;
            if taken != given {
                faults.push(format!("{name}: {taken} packets came and {given} went: {ledger:?}"));
            }
        }
        let [nodes, links] = [sum(&self.nodes), sum(&self.links)];
        for (what, left, right) in [
            ("sent by nodes, taken by links", nodes.transmitted, links.received),
            ("delivered by links, received by nodes", links.transmitted, nodes.received),
            ("originated or consumed by links, none", links.originated + links.consumed, 0),
            ("frames in use, packets queued", self.frames_in_use, nodes.queued + links.queued),
            (
                "originated, consumed + queued + dropped",
                nodes.originated,
                nodes.consumed + nodes.queued + links.queued + dropped(&nodes) + dropped(&links),
            ),
        ] {
            if left != right {
                faults.push(format!("{what}: {left} and {right}"));
            }
        }
        faults
    }

    /// Packets that are neither delivered nor dropped yet.
    pub fn on_the_way(&self) -> u64 {
        sum(&self.nodes).queued + sum(&self.links).queued
    }

    /// Packets that arrived where content of another customer must never arrive (F-05).
    pub fn misdelivered(&self) -> u64 {
        sum(&self.nodes).dropped[DropReason::Misdelivered as usize]
    }
}

fn dropped(ledger: &Ledger) -> u64 {
    ledger.dropped.iter().sum()
}

fn sum(ledgers: &[(String, Ledger)]) -> Ledger {
    let mut sum = Ledger::default();
    for (_, ledger) in ledgers {
        sum.add(ledger);
    }
    sum
}

/// Books of two nodes and a link between them: five packets sent, three delivered, one lost, one
/// on the way.
fn sound() -> Books {
    let mut link = Ledger { received: 5, transmitted: 3, queued: 1, ..Ledger::default() };
    link.drop(DropReason::LinkLoss, 1);
    let source = Ledger { originated: 5, transmitted: 5, ..Ledger::default() };
    let sink = Ledger { received: 3, consumed: 3, ..Ledger::default() };
    Books {
        nodes: vec![("source".into(), source), ("sink".into(), sink)],
        links: vec![("link".into(), link)],
        frames_in_use: 1,
    }
}

#[test]
fn sound_books_have_no_fault() {
    assert_eq!(sound().faults(), Vec::<String>::new());
}

#[test]
fn each_way_to_tamper_with_the_books_is_noticed() {
    type Tamper = fn(&mut Books);
    let tampers: [(&str, Tamper); 7] = [
        ("a packet vanishes in a node", |books| books.nodes[1].1.consumed -= 1),
        ("a packet appears in a node", |books| books.nodes[0].1.transmitted += 1),
        ("a drop is not counted", |books| books.links[0].1.dropped.fill(0)),
        ("a link makes a packet, and its own books agree", |books| {
            books.links[0].1.received += 1;
            books.links[0].1.transmitted += 1;
        }),
        ("a node receives what no link delivered", |books| {
            books.nodes[1].1.received += 1;
            books.nodes[1].1.consumed += 1;
        }),
        ("a frame is not freed", |books| books.frames_in_use += 1),
        ("a frame is freed too early", |books| books.frames_in_use -= 1),
    ];
    for (what, tamper) in tampers {
        let mut books = sound();
        tamper(&mut books);
        assert!(!books.faults().is_empty(), "{what}");
    }
}

//! Any history leads to the same table, forwarding and exports as its outcome alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use crate::control::rib::PeerIndex;
use crate::control::rib::tests::script::Script;

const PEERS: [&str; 4] = ["ce", "er0", "er1", "er2"];
const PREFIXES: [&str; 5] =
    ["10.0.0.0/16", "10.0.0.0/24", "10.1.0.0/16", "10.1.0.7/32", "2001:db8::/48"];
const PATHS: [&str; 4] = [
    "path=65010",
    "path=65010,65020 communities=5",
    "path=65515,12076",
    "path=65010 next-hop=10.50.0.9",
];

#[derive(Clone, Debug)]
enum Step {
    Announce {
        peer: usize,
        prefix: usize,
        path: usize,
    },
    Withdraw {
        peer: usize,
        prefix: usize,
    },
    Close {
        peer: usize,
        failed: bool,
    },
    Up {
        peer: usize,
    },
    /// Its routes are kept until it has said those of `said`, a bit each.
    Restart {
        peer: usize,
        said: u8,
        path: usize,
    },
    Originate {
        prefix: usize,
        on: bool,
    },
    Link {
        on: bool,
    },
    Static {
        prefix: usize,
        on: bool,
    },
    Weight {
        peer: usize,
        weight: u16,
    },
    Maintenance {
        times: u8,
    },
    Wait {
        ms: u64,
    },
}

/// What a history leads to, kept as simply as can be.
#[derive(Default)]
struct Outcome {
    up: BTreeSet<usize>,
    routes: BTreeMap<(usize, usize), usize>,
    own: BTreeSet<usize>,
    statics: BTreeSet<usize>,
    weights: BTreeMap<usize, u16>,
    link: bool,
    maintenance: u8,
}

fn step() -> impl Strategy<Value = Step> {
    let (peer, prefix) = (0..PEERS.len(), 0..PREFIXES.len());
    prop_oneof![
        8 => (peer.clone(), prefix.clone(), 0..PATHS.len())
            .prop_map(|(peer, prefix, path)| Step::Announce { peer, prefix, path }),
        4 => (peer.clone(), prefix.clone())
            .prop_map(|(peer, prefix)| Step::Withdraw { peer, prefix }),
        2 => (peer.clone(), any::<bool>()).prop_map(|(peer, failed)| Step::Close { peer, failed }),
        4 => peer.clone().prop_map(|peer| Step::Up { peer }),
        2 => (peer.clone(), any::<u8>(), 0..PATHS.len())
            .prop_map(|(peer, said, path)| Step::Restart { peer, said, path }),
        1 => (prefix.clone(), any::<bool>())
            .prop_map(|(prefix, on)| Step::Originate { prefix, on }),
        1 => any::<bool>().prop_map(|on| Step::Link { on }),
        1 => (prefix, any::<bool>()).prop_map(|(prefix, on)| Step::Static { prefix, on }),
        1 => (peer, 0..3_u16).prop_map(|(peer, weight)| Step::Weight { peer, weight }),
        1 => (0..9_u8).prop_map(|times| Step::Maintenance { times }),
        4 => (0..1500_u64).prop_map(|ms| Step::Wait { ms }),
    ]
}

proptest! {
    #[test]
    fn only_the_outcome_of_a_history_counts(
        gateway: bool,
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut outcome = Outcome { up: (0..PEERS.len()).collect(), ..Outcome::default() };
        let mut lived = script(gateway);
        for step in &steps {
            outcome.take(step);
            carry_out(&mut lived, step);
        }
        let mut fresh = script(gateway);
        outcome.play(&mut fresh);
        for script in [&mut lived, &mut fresh] {
            script.wait_until(script.now + Duration::from_secs(200));
            script.drain();
        }
        prop_assert_eq!(lived.rib.loc_rib(), fresh.rib.loc_rib());
        prop_assert_eq!(lived.rib.refused(), fresh.rib.refused());
        prop_assert_eq!(lived.forwarding.ways(), fresh.forwarding.ways());
        prop_assert_eq!(lived.forwarding.groups(), fresh.forwarding.groups());
        prop_assert_eq!(&lived.told, &fresh.told);
        for peer in (0..PEERS.len()).map(|at| PeerIndex(at as u16)) {
            let rows = lived.rib.adj_in();
            let from: BTreeSet<_> =
                rows.iter().filter(|row| row.peer == peer).map(|row| row.prefix).collect();
            prop_assert_eq!(lived.rib.received(peer), from.len() as u64);
        }
    }
}

/// A table with slow forwarding, so that much is under way at once: of an MSEE, or of a gateway
/// with its VNet last.
fn script(gateway: bool) -> Script {
    let mut script = Script::default();
    script
        .command("rib paths=2 withdraw-p50=300 withdraw-max=900 announce-p50=100 announce-max=900");
    for (at, name) in PEERS.iter().enumerate() {
        let kind = match at {
            0 if !gateway => "PrivatePeering",
            _ if !gateway => "Gateway",
            3 => "EffectiveRoutes add-path=yes asn=65515",
            _ => "Msee asn=65515",
        };
        script.command(&format!(
            "peer {name} kind={kind} at={at} local=10.{at}.255.1 peer=10.{at}.255.2 \
             peer-asn=6500{at} ordinal={at}"
        ));
        script.command(&format!("up {name} 1.1.1.{}", 9 - at));
    }
    script
}

fn carry_out(script: &mut Script, step: &Step) {
    let off = |on: bool| if on { "" } else { " off" };
    match *step {
        Step::Announce { peer, prefix, path } => script
            .command(&format!("announce {} {} {}", PEERS[peer], PREFIXES[prefix], PATHS[path])),
        Step::Withdraw { peer, prefix } => {
            script.command(&format!("withdraw {} {}", PEERS[peer], PREFIXES[prefix]));
        }
        Step::Close { peer, failed } => {
            let how = if failed { "failed" } else { "orderly" };
            script.command(&format!("close {} {how}", PEERS[peer]));
        }
        Step::Up { peer } => {
            script.command(&format!("close {} orderly", PEERS[peer]));
            script.command(&format!("up {} 1.1.1.{}", PEERS[peer], 9 - peer));
        }
        Step::Restart { peer, said, path } => {
            script.command(&format!("keep {}", PEERS[peer]));
            script.wait_until(script.now + Duration::from_millis(200));
            script.command(&format!("up {} 1.1.1.{}", PEERS[peer], 9 - peer));
            for prefix in bits(said) {
                carry_out(script, &Step::Announce { peer, prefix, path });
            }
            script.command(&format!("sweep {}", PEERS[peer]));
        }
        Step::Originate { prefix, on } => {
            script.command(&format!("originate {}{}", PREFIXES[prefix], off(on)));
        }
        Step::Link { on } => {
            script.command(&format!("connected 10.50.0.0/24 at=7 ordinal=7{}", off(on)));
        }
        Step::Static { prefix, on } => script.command(&format!(
            "static {} at=8 ordinal=8 via=10.60.0.1{}",
            PREFIXES[prefix],
            off(on)
        )),
        Step::Weight { peer, weight } => {
            script.command(&format!("policy {} weight={weight}", PEERS[peer]));
        }
        Step::Maintenance { times } => script.command(&format!("maintenance {times}")),
        Step::Wait { ms } => script.wait_until(script.now + Duration::from_millis(ms)),
    }
}

/// Prefixes by the bits that are set.
fn bits(set: u8) -> impl Iterator<Item = usize> {
    (0..PREFIXES.len()).filter(move |prefix| set >> prefix & 1 == 1)
}

impl Outcome {
    fn take(&mut self, step: &Step) {
        let set = |set: &mut BTreeSet<usize>, prefix, on| {
            let _ = if on { set.insert(prefix) } else { set.remove(&prefix) };
        };
        match *step {
            Step::Announce { peer, prefix, path } if self.up.contains(&peer) => {
                self.routes.insert((peer, prefix), path);
            }
            Step::Announce { .. } | Step::Wait { .. } => {}
            Step::Withdraw { peer, prefix } => {
                self.routes.remove(&(peer, prefix));
            }
            Step::Close { peer, .. } => {
                self.up.remove(&peer);
                self.routes.retain(|(from, _), _| *from != peer);
            }
            Step::Up { peer } => {
                self.up.insert(peer);
                self.routes.retain(|(from, _), _| *from != peer);
            }
            Step::Restart { peer, said, path } => {
                self.up.insert(peer);
                self.routes.retain(|(from, _), _| *from != peer);
                self.routes.extend(bits(said).map(|prefix| ((peer, prefix), path)));
            }
            Step::Originate { prefix, on } => set(&mut self.own, prefix, on),
            Step::Link { on } => self.link = on,
            Step::Static { prefix, on } => set(&mut self.statics, prefix, on),
            Step::Weight { peer, weight } => {
                self.weights.insert(peer, weight);
            }
            Step::Maintenance { times } => self.maintenance = times,
        }
    }

    fn play(&self, script: &mut Script) {
        let mut steps =
            vec![Step::Link { on: self.link }, Step::Maintenance { times: self.maintenance }];
        steps.extend(self.own.iter().map(|&prefix| Step::Originate { prefix, on: true }));
        steps.extend(self.statics.iter().map(|&prefix| Step::Static { prefix, on: true }));
        let weights = self.weights.iter();
        steps.extend(weights.map(|(&peer, &weight)| Step::Weight { peer, weight }));
        let down = (0..PEERS.len()).filter(|peer| !self.up.contains(peer));
        steps.extend(down.map(|peer| Step::Close { peer, failed: true }));
        let routes = self.routes.iter();
        steps.extend(routes.map(|(&(peer, prefix), &path)| Step::Announce { peer, prefix, path }));
        for step in &steps {
            carry_out(script, step);
        }
    }
}

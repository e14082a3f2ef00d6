//! Which flow a packet belongs to, as a number that spreads evenly.
//!
//! Every router has a seed of its own, so routers in a row do not all send the same flows the same
//! way, and the two directions of a conversation choose independently (section 20).

use std::net::IpAddr;

use crate::model::FlowHash;

/// What the packets of one flow have in common. Fragments and protocols without ports have zero
/// ports, so that all fragments of a packet take one way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowKey {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// IP protocol or IPv6 next header.
    pub protocol: u8,
    pub source_port: u16,
    pub destination_port: u16,
}

impl FlowKey {
    /// The flow's hash in the router with this seed. [`Group::bucket`](crate::fib::Group::bucket)
    /// uses its top six bits.
    pub fn hash(self, seed: u64, how: FlowHash) -> u32 {
        let key = match how {
            FlowHash::Asymmetric => self,
            FlowHash::Symmetric => self.ordered(),
        };
        let rest = u64::from(key.protocol) << 32
            | u64::from(key.source_port) << 16
            | u64::from(key.destination_port);
        let state = mix(mix(seed, key.source), key.destination);
        (finish(fold(state ^ rest, MULTIPLIER)) >> 32) as u32
    }

    /// Equal for both directions: the lesser endpoint first.
    fn ordered(self) -> Self {
        let (source, destination) =
            ((self.source, self.source_port), (self.destination, self.destination_port));
        if source <= destination {
            return self;
        }
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            ..self
        }
    }
}

/// 2^64 divided by the golden ratio: odd, and with no pattern in its bits.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(state: u64, address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(v4) => fold(state ^ u64::from(v4.to_bits()), MULTIPLIER),
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            let high = fold(state ^ (bits >> 64) as u64, MULTIPLIER);
            fold(high ^ bits as u64, MULTIPLIER)
        }
    }
}

/// One step of wyhash: both halves of the product, so that every bit reaches every other. Adding
/// the input keeps a zero operand from swallowing what came before.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64 ^ (product >> 64) as u64).wrapping_add(a.rotate_left(32))
}

/// The finaliser of `MurmurHash3`.
fn finish(mut h: u64) -> u64 {
    h = (h ^ h >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ h >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ h >> 33
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fib::{AdjacencyIndex, Group};

    fn flow(index: u16) -> FlowKey {
        FlowKey {
            source: "10.1.0.10".parse().unwrap(),
            destination: "10.2.0.4".parse().unwrap(),
            protocol: 17,
            source_port: 20_000 + index,
            destination_port: 5001,
        }
    }

    fn flow6(index: u16) -> FlowKey {
        FlowKey {
            source: "fd00:1::a".parse().unwrap(),
            destination: "fd00:2::4".parse().unwrap(),
            ..flow(index)
        }
    }

    fn reversed(flow: FlowKey) -> FlowKey {
        FlowKey {
            source: flow.destination,
            destination: flow.source,
            source_port: flow.destination_port,
            destination_port: flow.source_port,
            ..flow
        }
    }

    fn takes_first(key: FlowKey, seed: u64) -> bool {
        let members = [(AdjacencyIndex(1), 0), (AdjacencyIndex(2), 1)];
        let group = Group::assign(&members, |_| true);
        group.bucket(key.hash(seed, FlowHash::Asymmetric)) == Some(AdjacencyIndex(1))
    }

    /// Of 1,000 fair coins 99.84 % of rows have 450 to 550 heads, so of 1,000 seeds about two may
    /// fall outside, and none outside of 420 to 580.
    #[test]
    fn sequential_ports_spread_evenly_for_nearly_every_seed() {
        for flow in [flow, flow6] {
            let shares: Vec<usize> = (0..1_000)
                .map(|seed| (0..1_000).filter(|&i| takes_first(flow(i), seed)).count())
                .collect();
            let outside = shares.iter().filter(|share| !(450..=550).contains(*share)).count();
            assert!(outside <= 6, "{outside} seeds of 1,000 outside 45–55 %");
            assert!(shares.iter().all(|share| (420..=580).contains(share)));
            let mean = shares.iter().sum::<usize>() / shares.len();
            assert!((498..=502).contains(&mean), "{mean} of 1,000 on average");
        }
    }

    /// Section 20: about 75 % of conversations touch a given one of two links.
    #[test]
    fn the_two_directions_choose_independently() {
        for (near, far) in [(1, 2), (77, 78), (5, 5)] {
            let touched = (0..10_000)
                .filter(|&i| takes_first(flow(i), near) || takes_first(reversed(flow(i)), far))
                .count();
            assert!((7_300..=7_700).contains(&touched), "{touched} of 10,000");
        }
    }

    #[test]
    fn symmetric_is_equal_in_both_directions_and_asymmetric_is_not() {
        for flow in [flow, flow6] {
            for i in 0..100 {
                let (there, back) = (flow(i), reversed(flow(i)));
                assert_eq!(there.hash(3, FlowHash::Symmetric), back.hash(3, FlowHash::Symmetric));
                assert_ne!(there.hash(3, FlowHash::Asymmetric), back.hash(3, FlowHash::Asymmetric));
            }
        }
    }

    #[test]
    fn every_field_and_the_seed_count() {
        let key = flow(0);
        let other: IpAddr = "10.1.0.11".parse().unwrap();
        let changed = [
            FlowKey { source: other, ..key },
            FlowKey { destination: other, ..key },
            FlowKey { protocol: 6, ..key },
            FlowKey { source_port: 1, ..key },
            FlowKey { destination_port: 1, ..key },
        ];
        let hash = |key: FlowKey, seed| key.hash(seed, FlowHash::Asymmetric);
        for changed in changed {
            assert_ne!(hash(changed, 1), hash(key, 1));
        }
        assert_ne!(hash(key, 2), hash(key, 1));
    }
}

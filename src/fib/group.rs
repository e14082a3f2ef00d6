//! A group of next hops as packets read it: 64 buckets, each leading to one adjacency.
//!
//! Which member has a bucket depends on the members and on who of them is alive, and on nothing
//! that happened before. So when one dies only its buckets move, when it returns it gets exactly
//! its own back, and two routers with equal members decide alike.

use serde::{Deserialize, Serialize};

/// Buckets of a group: what the top six bits of a flow's hash choose from.
pub const BUCKETS: usize = 64;

/// Where packets leave: an entry of the data path's table of next hops.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct AdjacencyIndex(pub u16);

impl AdjacencyIndex {
    /// Reserved: a bucket that leads nowhere.
    const NOWHERE: Self = Self(u16::MAX);

    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A member and its ordinal ([`Member::ordinal`](crate::model::Member)).
pub type GroupMember = (AdjacencyIndex, u8);

/// 64 buckets in two cache lines, one of which a packet reads.
#[derive(Clone, PartialEq, Eq, Debug)]
#[repr(align(64))]
pub struct Group([AdjacencyIndex; BUCKETS]);

const _: () = assert!(size_of::<Group>() == 128);

impl Group {
    /// A group whose every bucket leads nowhere.
    pub const EMPTY: Self = Self([AdjacencyIndex::NOWHERE; BUCKETS]);

    /// Gives each bucket to the living member that ranks first in it.
    pub fn assign(members: &[GroupMember], alive: impl Fn(AdjacencyIndex) -> bool) -> Self {
        let alive: Vec<_> = members.iter().filter(|(adjacency, _)| alive(*adjacency)).collect();
        let owner = |bucket| {
            // Of equal ordinals the first in the list wins.
            let first = alive.iter().min_by_key(|(_, ordinal)| rank(bucket, *ordinal));
            first.map_or(AdjacencyIndex::NOWHERE, |(adjacency, _)| *adjacency)
        };
        Self(std::array::from_fn(owner))
    }

    /// Where every flow leaves, when all of them leave by one.
    pub fn only(&self) -> Option<AdjacencyIndex> {
        let first = self.0[0];
        let same = first != AdjacencyIndex::NOWHERE && self.0.iter().all(|other| *other == first);
        same.then_some(first)
    }

    /// Where the flow with this hash leaves; `None` when no member is alive.
    pub fn bucket(&self, hash: u32) -> Option<AdjacencyIndex> {
        let adjacency = self.0[(hash >> 26) as usize];
        (adjacency != AdjacencyIndex::NOWHERE).then_some(adjacency)
    }
}

/// The place of an ordinal in a bucket's order: lower wins. Ordinals that are equal modulo eight
/// share a place there, and settle it between themselves by another permutation.
fn rank(bucket: usize, ordinal: u8) -> (u8, u8, u8) {
    let (low, high) = (ordinal % 8, ordinal / 8 % 8);
    (PERMUTATIONS[bucket][low as usize], PERMUTATIONS[BUCKETS - 1 - bucket][high as usize], ordinal)
}

/// An order of eight ordinals for each bucket: the 56 affine maps x → a·x + b of GF(8), and the
/// eight translations again. Any two ordinals then precede one another in 32 buckets each, and
/// each of the eight comes first in eight.
const PERMUTATIONS: [[u8; 8]; BUCKETS] = {
    let mut table = [[0; 8]; BUCKETS];
    let mut bucket = 0;
    while bucket < BUCKETS {
        let (factor, shift) = (bucket as u8 / 8, bucket as u8 % 8);
        let mut x = 0;
        while x < 8 {
            table[bucket][x as usize] = times(if factor == 0 { 1 } else { factor }, x) ^ shift;
            x += 1;
        }
        bucket += 1;
    }
    table
};

/// Multiplication in GF(8), modulo x³ + x + 1.
const fn times(a: u8, b: u8) -> u8 {
    let mut product = 0;
    let mut bit = 0;
    while bit < 3 {
        if b >> bit & 1 == 1 {
            product ^= a << bit;
        }
        bit += 1;
    }
    if product & 16 != 0 {
        product ^= 0b1011 << 1;
    }
    if product & 8 != 0 {
        product ^= 0b1011;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Eight members; the alive are the bits of `alive`.
    fn eight(alive: u8) -> Group {
        let members: Vec<_> = (0..8).map(|o| (AdjacencyIndex(u16::from(o)), o)).collect();
        Group::assign(&members, |adjacency| alive >> adjacency.0 & 1 == 1)
    }

    fn owners(group: &Group) -> Vec<Option<u16>> {
        (0..BUCKETS as u32).map(|b| group.bucket(b << 26).map(|a| a.0)).collect()
    }

    fn share(group: &Group, adjacency: u16) -> usize {
        owners(group).iter().filter(|owner| **owner == Some(adjacency)).count()
    }

    #[test]
    fn permutations_are_permutations() {
        for order in PERMUTATIONS {
            let mut sorted = order;
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4, 5, 6, 7]);
        }
    }

    /// Furthest that anyone is from an equal share, buckets, with so many alive. The real worst
    /// are 0, 0, 2.7, 3, 3.2, 1.3, 0.9 and 0.
    const WORST: [usize; 9] = [0, 0, 0, 3, 3, 4, 2, 1, 0];

    #[test]
    fn every_subset_of_eight_is_balanced() {
        for alive in 1..=u8::MAX {
            let group = eight(alive);
            let members = alive.count_ones() as usize;
            for adjacency in (0..8).filter(|a| alive >> a & 1 == 1) {
                let share = share(&group, adjacency);
                let off = (share * members).abs_diff(BUCKETS);
                let bound = WORST[members] * members;
                assert!(off <= bound, "{alive:08b}: {adjacency} has {share} buckets");
            }
        }
    }

    #[test]
    fn only_the_buckets_of_a_lost_member_move_and_they_all_come_back() {
        for alive in 0..=u8::MAX {
            let before = owners(&eight(alive));
            for lost in (0..8).filter(|m| alive >> m & 1 == 1) {
                let after = owners(&eight(alive & !(1 << lost)));
                for (before, after) in before.iter().zip(&after) {
                    assert!(before == after || *before == Some(lost), "{alive:08b} − {lost}");
                    assert_ne!(*after, Some(lost));
                }
            }
        }
        // Assignment has no memory, so a member that returns meets what it left.
        assert_eq!(eight(0b1111), eight(0b1111));
    }

    #[test]
    fn the_order_of_members_does_not_matter() {
        let members = [(AdjacencyIndex(4), 0), (AdjacencyIndex(9), 3), (AdjacencyIndex(2), 7)];
        let mut turned = members;
        turned.reverse();
        assert_eq!(Group::assign(&members, |_| true), Group::assign(&turned, |_| true));
    }

    #[test]
    fn ordinals_beyond_eight_share_too() {
        let members = [(AdjacencyIndex(4), 1), (AdjacencyIndex(5), 9)];
        let group = Group::assign(&members, |_| true);
        assert_eq!([share(&group, 4), share(&group, 5)], [32, 32]);
    }

    #[test]
    fn of_equal_ordinals_the_first_alive_has_it_all() {
        let members = [(AdjacencyIndex(4), 1), (AdjacencyIndex(5), 1)];
        assert_eq!(share(&Group::assign(&members, |_| true), 4), 64);
        assert_eq!(share(&Group::assign(&members, |a| a.0 != 4), 5), 64);
    }

    #[test]
    fn the_only_one_alive_has_every_flow() {
        for alive in 0..=u8::MAX {
            let only = eight(alive).only();
            let expected = alive.is_power_of_two().then(|| alive.trailing_zeros() as u16);
            assert_eq!(only.map(|adjacency| adjacency.0), expected, "{alive:08b}");
        }
    }

    #[test]
    fn nobody_alive_leads_nowhere() {
        assert_eq!(eight(0), Group::EMPTY);
        assert_eq!(Group::EMPTY.bucket(u32::MAX), None);
    }
}

//! The slow answer that every lookup is compared with: the longest prefix of a plain list.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{GroupIndex, Prefix};

/// Routes as they come; the last of equal prefixes counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Oracle(pub(super) Vec<(Prefix, GroupIndex)>);

impl Oracle {
    /// Reads lines of `prefix group`; lines that begin with `#` are for people.
    pub(super) fn parse(text: &str) -> Self {
        let rows = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (prefix, group) = line.split_once(' ').unwrap();
            (prefix.parse().unwrap(), GroupIndex(group.parse().unwrap()))
        });
        Self(rows.collect())
    }

    pub(super) fn lookup(&self, address: IpAddr) -> GroupIndex {
        let around = self.0.iter().filter(|(prefix, _)| prefix.contains(&address));
        let longest = around.max_by_key(|(prefix, _)| prefix.prefix_len());
        longest.map_or(GroupIndex::NO_ROUTE, |(_, group)| *group)
    }

    /// The first and last address of every prefix and their neighbours outside: wherever the
    /// answer can change. And both ends of the address space.
    pub(super) fn edges(&self) -> (Vec<u32>, Vec<u128>) {
        let (mut v4, mut v6) = (vec![0, u32::MAX], vec![0, u128::MAX]);
        for (prefix, _) in &self.0 {
            match prefix {
                IpNet::V4(prefix) => {
                    let (first, last) = (prefix.network().to_bits(), prefix.broadcast().to_bits());
                    v4.extend([first, last, first.wrapping_sub(1), last.wrapping_add(1)]);
                }
                IpNet::V6(prefix) => {
                    let (first, last) = (prefix.network().to_bits(), prefix.broadcast().to_bits());
                    v6.extend([first, last, first.wrapping_sub(1), last.wrapping_add(1)]);
                }
            }
        }
        (v4, v6)
    }
}

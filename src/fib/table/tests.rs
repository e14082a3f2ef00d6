//! The table against the oracle, and readers under a writer.

use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;
use crate::fib::oracle::Oracle;
use crate::fib::{BUCKETS, pin};
use crate::model::Random;

fn table(oracle: &Oracle) -> Fib {
    let mut fib = Fib::new();
    for (prefix, group) in &oracle.0 {
        fib.set_route(*prefix, Some(*group));
    }
    let _ = fib.publish();
    fib
}

/// Asks batch, mixed and single lookup for each address and compares with the oracle.
fn agrees(fib: &Fib, oracle: &Oracle, v4: &[u32], v6: &[u128]) {
    let guard = pin();
    let view = fib.view(&guard);
    let mut groups = vec![GroupIndex(u16::MAX); v4.len()];
    view.lookup4(v4, &mut groups);
    let mut mixed = groups.clone();
    IntervalTree4::lookup_mixed(&vec![view.tree4(); v4.len()], v4, &mut mixed);
    assert_eq!(groups, mixed);
    for (address, group) in v4.iter().zip(groups) {
        let address = Ipv4Addr::from_bits(*address).into();
        assert_eq!(group, oracle.lookup(address), "{address}");
        assert_eq!(group, view.lookup(address), "{address}");
    }
    let mut groups = vec![GroupIndex(u16::MAX); v6.len()];
    view.lookup6(v6, &mut groups);
    let mut mixed = groups.clone();
    IntervalTree6::lookup_mixed(&vec![view.tree6(); v6.len()], v6, &mut mixed);
    assert_eq!(groups, mixed);
    for (address, group) in v6.iter().zip(groups) {
        let address = Ipv6Addr::from_bits(*address).into();
        assert_eq!(group, oracle.lookup(address), "{address}");
        assert_eq!(group, view.lookup(address), "{address}");
    }
}

#[test]
fn real_tables_agree_with_the_oracle_at_every_edge() {
    for text in [
        include_str!("../../../fixtures/fib/ipv4-sample.txt"),
        include_str!("../../../fixtures/fib/ipv6-sample.txt"),
    ] {
        let oracle = Oracle::parse(text);
        assert!(oracle.0.len() > 1_900);
        let (v4, v6) = oracle.edges();
        agrees(&table(&oracle), &oracle, &v4, &v6);
    }
}

/// Prefixes from a few bytes, so that they nest, meet and repeat, of all lengths.
fn prefixes() -> impl Strategy<Value = Prefix> {
    let byte = prop::sample::select(vec![0_u8, 1, 0x7f, 0x80, 0xfe, 0xff]);
    let v4 = (prop::array::uniform4(byte.clone()), 0..=32_u8);
    let v6 = (prop::array::uniform16(byte), 0..=128_u8);
    prop_oneof![
        v4.prop_map(|(a, len)| IpNet::V4(Ipv4Net::new(a.into(), len).unwrap()).trunc()),
        v6.prop_map(|(a, len)| IpNet::V6(Ipv6Net::new(a.into(), len).unwrap()).trunc()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_tables_agree_with_the_oracle(
        routes in prop::collection::btree_map(prefixes(), (1..6_u16).prop_map(GroupIndex), 0..120),
        mut v4 in prop::collection::vec(any::<u32>(), 0..40),
        mut v6 in prop::collection::vec(any::<u128>(), 0..40),
    ) {
        let oracle = Oracle(routes.into_iter().collect());
        let (edges4, edges6) = oracle.edges();
        v4.extend(edges4);
        v6.extend(edges6);
        agrees(&table(&oracle), &oracle, &v4, &v6);
    }

    /// Setting, changing and taking away, with publications between, ends where a table that was
    /// built at once begins.
    #[test]
    fn changes_end_where_a_fresh_table_begins(
        steps in prop::collection::vec(
            (prefixes(), prop::option::of((1..6_u16).prop_map(GroupIndex)), any::<bool>()), 0..80)
    ) {
        let mut fib = Fib::new();
        let mut routes = BTreeMap::new();
        for (prefix, group, publish) in steps {
            fib.set_route(prefix, group);
            match group {
                Some(group) => routes.insert(prefix, group),
                None => routes.remove(&prefix),
            };
            if publish {
                let _ = fib.publish();
            }
        }
        let _ = fib.publish();
        let listed: BTreeMap<_, _> = fib.routes().collect();
        prop_assert_eq!(&listed, &routes);
        let oracle = Oracle(routes.into_iter().collect());
        let (v4, v6) = oracle.edges();
        agrees(&fib, &oracle, &v4, &v6);
    }
}

#[test]
fn edges_of_the_address_space() {
    let oracle = Oracle::parse(
        "0.0.0.0/0 1\n0.0.0.0/32 2\n255.255.255.255/32 3\n128.0.0.0/1 4\n\
         ::/0 1\n::/128 2\nffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128 3\n8000::/1 4",
    );
    let (v4, v6) = oracle.edges();
    agrees(&table(&oracle), &oracle, &v4, &v6);
    agrees(&Fib::new(), &Oracle::default(), &v4, &v6);
}

/// Every depth from a lone leaf on, full and one beyond, in trees of both families.
#[test]
fn trees_of_every_depth_find_every_interval() {
    for intervals in [1, 2, 7, 8, 11, 12, 63, 64, 187, 188, 567, 568, 3_179, 3_180, 54_043, 54_044]
    {
        let routes = || (0..intervals).map(|i| (i, GroupIndex(i as u16 % 999 + 1)));
        let tree4 = IntervalTree4::build(routes().map(|(i, group)| (i, 32, group))).unwrap();
        let tree6 =
            IntervalTree6::build(routes().map(|(i, group)| (i.into(), 128, group))).unwrap();
        assert_eq!([tree4.intervals(), tree6.intervals()], [intervals as usize + 1; 2]);
        for (i, group) in routes() {
            assert_eq!([tree4.lookup(i), tree6.lookup(i.into())], [group; 2]);
        }
        assert_eq!(tree4.lookup(intervals), GroupIndex::NO_ROUTE);
        assert_eq!(tree4.lookup(u32::MAX), GroupIndex::NO_ROUTE);
        assert_eq!(tree6.lookup(u128::MAX), GroupIndex::NO_ROUTE);
    }
}

#[test]
fn a_mixed_batch_of_shallow_and_deep_trees_is_answered_by_each() {
    let empty = IntervalTree4::empty();
    let default = IntervalTree4::build([(0, 0, GroupIndex(7))].into_iter()).unwrap();
    let deep = IntervalTree4::build((0..9_000).map(|i| (i, 32, GroupIndex(i as u16 + 1)))).unwrap();
    let all = [&empty, &default, &deep];
    let trees: Vec<_> = (0..100).map(|i| all[i % 3]).collect();
    let addresses: Vec<u32> = (0..100).map(|i| i * 85).collect();
    let mut groups = vec![GroupIndex(u16::MAX); 100];
    IntervalTree4::lookup_mixed(&trees, &addresses, &mut groups);
    for (i, group) in groups.iter().enumerate() {
        assert_eq!(group.0, [0, 7, (i * 85) as u16 + 1][i % 3]);
    }
}

#[test]
fn equal_neighbours_are_one_interval() {
    let halves = [(0, 1, GroupIndex(5)), (1 << 31, 1, GroupIndex(5))];
    assert_eq!(IntervalTree4::build(halves.into_iter()).unwrap().intervals(), 1);
    let hidden = [(0, 0, GroupIndex(5)), (77, 32, GroupIndex(5))];
    assert_eq!(IntervalTree4::build(hidden.into_iter()).unwrap().intervals(), 1);
}

/// A /1 in two intervals is cheap to say; a table beyond the limit is not, so the limit is met by
/// alternating host routes.
#[test]
fn more_intervals_than_the_limit_are_refused() {
    let routes = |count| (0..count).map(|i| (i as u32, 32, GroupIndex(i as u16 % 2 + 1)));
    // The rest of the address space is one interval more.
    assert!(IntervalTree4::build(routes(crate::fib::MAX_INTERVALS - 1)).is_some());
    assert!(IntervalTree4::build(routes(crate::fib::MAX_INTERVALS)).is_none());
}

const ONE: AdjacencyIndex = AdjacencyIndex(1);
const TWO: AdjacencyIndex = AdjacencyIndex(2);

fn owners(fib: &Fib, group: u16) -> Vec<Option<AdjacencyIndex>> {
    let guard = pin();
    (0..BUCKETS as u32).map(|b| fib.view(&guard).bucket(GroupIndex(group), b << 26)).collect()
}

/// Group 1 over both adjacencies, 2 and 3 over one each; a route to each.
fn two_ways() -> Fib {
    let mut fib = Fib::new();
    fib.set_group(GroupIndex(1), vec![(ONE, 0), (TWO, 1)]);
    fib.set_group(GroupIndex(2), vec![(ONE, 0)]);
    fib.set_group(GroupIndex(3), vec![(TWO, 1)]);
    for i in 1..=3_u8 {
        fib.set_route(format!("10.{i}.0.0/16").parse().unwrap(), Some(GroupIndex(u16::from(i))));
    }
    assert_eq!(fib.publish(), Outcome::Applied);
    fib
}

#[test]
fn a_lost_adjacency_rewrites_its_groups_at_once_and_leaves_the_trees() {
    let mut fib = two_ways();
    let before: Vec<_> = (1..=3).map(|group| owners(&fib, group)).collect();
    let tree = fib.current().tree4;

    assert_eq!(fib.set_alive(ONE, false), 2);
    assert!(owners(&fib, 1).iter().all(|owner| *owner == Some(TWO)));
    assert!(owners(&fib, 2).iter().all(Option::is_none));
    assert_eq!(owners(&fib, 3), before[2]);
    assert!(fib.current().tree4.shares_nodes_with(&tree));
    // The group without a living member still is where the route leads.
    assert_eq!(fib.view(&pin()).lookup("10.2.0.1".parse().unwrap()), GroupIndex(2));

    assert_eq!(fib.set_alive(ONE, false), 0);
    assert_eq!(fib.set_alive(ONE, true), 2);
    assert_eq!((1..=3).map(|group| owners(&fib, group)).collect::<Vec<_>>(), before);
    assert_eq!(fib.set_alive(AdjacencyIndex(9), false), 0);
}

#[test]
fn a_group_made_while_a_member_is_dead_avoids_it() {
    let mut fib = two_ways();
    let _ = fib.set_alive(ONE, false);
    fib.set_group(GroupIndex(4), vec![(ONE, 0), (TWO, 1)]);
    assert_eq!(fib.publish(), Outcome::Applied);
    assert!(owners(&fib, 4).iter().all(|owner| *owner == Some(TWO)));
    assert_eq!(fib.set_alive(ONE, true), 3);
    assert_eq!(owners(&fib, 4), owners(&fib, 1));
}

#[test]
fn routes_and_groups_wait_for_publication_together() {
    let mut fib = two_ways();
    assert_eq!(fib.publish(), Outcome::Unchanged);
    fib.set_group(GroupIndex(1), vec![]);
    fib.set_group(GroupIndex(5), vec![(TWO, 1)]);
    fib.set_route("10.1.0.0/16".parse().unwrap(), Some(GroupIndex(5)));
    // The loss of an adjacency does not publish what else waits.
    assert_eq!(fib.set_alive(ONE, false), 2);
    assert_eq!(fib.view(&pin()).lookup("10.1.0.1".parse().unwrap()), GroupIndex(1));
    assert!(owners(&fib, 1).iter().all(|owner| *owner == Some(TWO)));
    assert!(owners(&fib, 5).iter().all(Option::is_none));

    assert_eq!(fib.publish(), Outcome::Applied);
    assert_eq!(fib.view(&pin()).lookup("10.1.0.1".parse().unwrap()), GroupIndex(5));
    assert!(owners(&fib, 1).iter().all(Option::is_none));
    assert!(owners(&fib, 5).iter().all(|owner| *owner == Some(TWO)));

    fib.set_route("10.1.0.0/16".parse().unwrap(), Some(GroupIndex(5)));
    assert_eq!(fib.publish(), Outcome::Unchanged);
}

#[test]
fn no_route_has_no_bucket() {
    let fib = two_ways();
    assert!(owners(&fib, 0).iter().all(Option::is_none));
    assert!(owners(&fib, u16::MAX).iter().all(Option::is_none));
}

#[test]
fn routes_are_listed_in_order() {
    let mut fib = Fib::new();
    for prefix in ["::/0", "10.0.0.0/16", "10.0.0.0/8", "9.0.0.0/8", "fd00::/8"] {
        fib.set_route(prefix.parse().unwrap(), Some(GroupIndex(1)));
    }
    fib.set_route("9.0.0.0/8".parse().unwrap(), None);
    let listed: Vec<_> = fib.routes().map(|(prefix, _)| prefix.to_string()).collect();
    assert_eq!(listed, ["10.0.0.0/8", "10.0.0.0/16", "::/0", "fd00::/8"]);
}

/// The writer turns all routes from one group to the other, and frees the group that is left, in
/// one publication. A reader must never see part of that: every answer of a view is of one group,
/// and that group has members.
#[test]
fn readers_under_a_writer_see_whole_publications() {
    let mut fib = Fib::new();
    let mut random = Random::new(1, "routes");
    let routes: Vec<Prefix> = (0..500)
        .map(|_| IpNet::V4(Ipv4Net::new(random.next_u32().into(), 24).unwrap().trunc()))
        .collect();
    let addresses: Vec<u32> = routes.iter().map(|route| bits(*route)).collect();
    let turn_to = |fib: &mut Fib, to: u16| {
        fib.set_group(GroupIndex(to), vec![(AdjacencyIndex(to), 0)]);
        fib.set_group(GroupIndex(3 - to), vec![]);
        for route in &routes {
            fib.set_route(*route, Some(GroupIndex(to)));
        }
        assert_eq!(fib.publish(), Outcome::Applied);
    };
    turn_to(&mut fib, 1);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| fib.reader())
            .map(|r| scope.spawn(|| read(r, &addresses, &done)))
            .collect();
        for round in 0..300 {
            turn_to(&mut fib, 2 - round % 2);
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().unwrap() > 0, "no batch was read");
        }
    });
}

fn bits(prefix: Prefix) -> u32 {
    let IpAddr::V4(address) = prefix.network() else { unreachable!("IPv4 only") };
    address.to_bits()
}

/// Reads until `done`; returns the number of batches.
fn read(reader: Reader, addresses: &[u32], done: &AtomicBool) -> usize {
    let mut groups = vec![GroupIndex::NO_ROUTE; addresses.len()];
    let mut batches = 0;
    while !done.load(Ordering::Relaxed) || batches == 0 {
        let guard = pin();
        let view = reader.view(&guard);
        view.lookup4(addresses, &mut groups);
        let group = groups[0];
        assert!(groups.iter().all(|other| *other == group));
        assert_eq!(view.bucket(group, 0), Some(AdjacencyIndex(group.0)));
        batches += 1;
    }
    batches
}

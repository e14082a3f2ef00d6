//! Install, then advertise; withdraw, then remove; and when the FIB follows.

use std::time::Duration;

use crate::control::rib::fib::COALESCE;
use crate::control::rib::tests::script::Script;
use crate::model::{Instant, Prefix};

const MSEE: &str = "\
peer ce kind=PrivatePeering at=1 local=172.16.0.2 peer=172.16.0.1 peer-asn=65010
peer er0 kind=Gateway at=2 local=10.1.255.1 peer=10.1.255.4 peer-asn=65515 ordinal=1
peer er1 kind=Gateway at=3 local=10.1.255.2 peer=10.1.255.5 peer-asn=65515 ordinal=2
up ce 1.1.1.1
up er0 2.2.2.1
up er1 2.2.2.2
";

fn msee() -> Script {
    let mut script = Script::default();
    script.run(MSEE);
    script
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

#[test]
fn nobody_hears_of_a_route_before_forwarding_has_it() {
    let mut script = msee();
    let ce = script.index("ce");
    let er0 = script.index("er0");
    let update = crate::control::route::Update {
        announced: vec![prefix("10.0.0.0/16")],
        attributes: Some(std::sync::Arc::new(
            crate::control::policy::text::Words::of("path=65010")
                .attributes("172.16.0.1".parse().unwrap()),
        )),
        ..Default::default()
    };
    script.rib.update(ce, &update, script.now);
    assert_eq!(script.rib.poll_export(er0), None);
    assert!(!script.rib.poll_changes().is_empty());
    assert_eq!(script.rib.poll_export(er0).unwrap().announced, [prefix("10.0.0.0/16")]);
}

#[test]
fn a_route_lost_in_order_is_withdrawn_at_once_and_forwarded_for_the_linger() {
    let mut script = msee();
    script.command("announce ce 10.0.0.0/16 path=65010");
    script.command("at 100");
    script.log.clear();
    script.command("close ce orderly");
    assert_eq!(script.log, "  er0 <- withdraw 10.0.0.0/16\n  er1 <- withdraw 10.0.0.0/16\n");
    script.command("at 1099");
    assert!(script.forwarding.way(prefix("10.0.0.0/16")).is_some());
    script.command("at 1100");
    assert!(script.forwarding.way(prefix("10.0.0.0/16")).is_none());
    assert_eq!(script.forwarding.groups(), 0);
}

#[test]
fn a_route_lost_to_a_failure_leaves_forwarding_at_once() {
    let mut script = msee();
    script.command("announce ce 10.0.0.0/16 path=65010");
    script.command("at 100");
    script.command("close ce failed");
    assert!(script.forwarding.way(prefix("10.0.0.0/16")).is_none());
}

#[test]
fn with_a_replacement_nothing_lingers() {
    let mut script = msee();
    script.command("announce er0 10.1.0.0/16 path=65515");
    script.command("announce er1 10.1.0.0/16 path=65515");
    script.command("at 100");
    assert_eq!(script.forwarding.way(prefix("10.1.0.0/16")).unwrap().len(), 2);
    script.command("close er0 orderly");
    assert_eq!(script.forwarding.way(prefix("10.1.0.0/16")).unwrap().len(), 1);
}

#[test]
fn a_neighbour_that_is_back_within_the_linger_moves_nothing() {
    let mut script = msee();
    script.command("announce ce 10.0.0.0/16 path=65010");
    script.command("at 100");
    script.command("close ce orderly");
    script.command("at 500");
    script.command("up ce 1.1.1.1");
    script.log.clear();
    script.command("announce ce 10.0.0.0/16 path=65010");
    script.command("at 5000");
    assert!(!script.log.contains("route"), "{}", script.log);
    assert!(script.forwarding.way(prefix("10.0.0.0/16")).is_some());
}

#[test]
fn an_unrelated_link_does_not_cut_a_linger_short() {
    let mut script = msee();
    script.command("announce ce 10.0.0.0/16 path=65010");
    script.command("at 100");
    script.command("close ce orderly");
    script.command("at 200");
    script.command("connected 192.168.0.0/24 at=9");
    script.command("originate 10.0.0.0/16");
    script.command("at 1000");
    assert!(script.forwarding.way(prefix("10.0.0.0/16")).is_some());
}

#[test]
fn the_first_change_goes_at_once_and_a_burst_waits_for_company() {
    let mut script = msee();
    script.command("at 100");
    script.command("announce ce 10.0.0.0/16 path=65010");
    assert!(script.forwarding.way(prefix("10.0.0.0/16")).is_some());
    script.command("at 101");
    script.command("announce ce 10.2.0.0/16 path=65010");
    script.command("announce ce 10.3.0.0/16 path=65010");
    assert!(script.forwarding.way(prefix("10.2.0.0/16")).is_none());
    assert_eq!(script.rib.poll_timeout(), Instant::from_millis(100) + COALESCE);
    script.log.clear();
    script.command("at 102");
    assert_eq!(script.log.matches("route").count(), 2);
    assert_eq!(script.rib.poll_timeout(), Instant::NEVER);
}

#[test]
fn a_vnet_follows_late_and_its_table_at_once() {
    let mut script = Script::default();
    script.run(
        "rib asn=65515 withdraw-p50=3000 withdraw-max=60000 announce-p50=3000 announce-max=60000\n\
         peer er0 kind=EffectiveRoutes at=1 local=10.1.0.1 peer=10.1.255.4 asn=65515 peer-asn=65515\n\
         connected 10.1.255.1/32 at=2 ordinal=1\n\
         up er0 2.2.2.1\n",
    );
    let prefixes: Vec<_> = (0..200).map(|n| format!("10.9.{n}.0/24")).collect();
    let list = prefixes.join(",");
    script.command(&format!("announce er0 {list} path=12076,65010 next-hop=10.1.255.1"));
    assert_eq!(script.rib.loc_rib().iter().filter(|row| row.fib_behind).count(), 200);
    let there = |script: &Script| {
        let routes = prefixes.iter().filter(|each| script.forwarding.way(prefix(each)).is_some());
        routes.count()
    };
    script.command("at 3000");
    assert!((60..140).contains(&there(&script)), "{}", there(&script));
    script.command("at 60000");
    assert_eq!(there(&script), 200);

    script.command("close er0 failed");
    assert_eq!(script.rib.loc_rib().len(), 1);
    script.command("at 63000");
    assert!((60..140).contains(&there(&script)), "{}", there(&script));
    script.command("at 120000");
    assert_eq!(there(&script), 0);
}

#[test]
fn a_later_change_replaces_one_that_is_not_due() {
    let mut script = Script::default();
    script.run(
        "rib asn=65515 withdraw-p50=3000 withdraw-max=60000\n\
         peer er0 kind=EffectiveRoutes at=1 local=10.1.0.1 peer=10.1.255.4 asn=65515 peer-asn=65515\n\
         up er0 2.2.2.1\n\
         announce er0 10.9.0.0/24 path=12076,65010\n\
         at 100\n\
         withdraw er0 10.9.0.0/24\n\
         at 101\n\
         announce er0 10.9.0.0/24 path=12076,65010\n",
    );
    assert_eq!(script.rib.poll_timeout(), Instant::NEVER);
    script.wait_until(script.now + Duration::from_secs(100));
    assert!(script.forwarding.way(prefix("10.9.0.0/24")).is_some());
}

#[test]
fn a_removed_neighbour_leaves_nothing_behind() {
    let mut script = msee();
    script.command("announce ce 10.0.0.0/16,10.2.0.0/16 path=65010");
    script.command("announce ce 10.3.0.0/16 path=65010 next-hop=10.99.0.1");
    script.command("remove ce");
    script.command("at 2000");
    assert!(script.rib.loc_rib().is_empty() && script.rib.adj_in().is_empty());
    assert!(script.told.is_empty());
    assert!(script.rib.table.is_empty());
}

/// RFC 4724, 4.2.
#[test]
fn what_is_kept_for_a_neighbour_moves_nothing_until_it_has_said_all() {
    let mut script = msee();
    let blocks = ["10.0.0.0/16", "10.1.0.0/16", "10.2.0.0/16"].map(prefix);
    script.command("announce ce 10.0.0.0/16,10.1.0.0/16,10.2.0.0/16 path=65010");
    script.command("at 100");
    script.log.clear();
    script.command("keep ce");
    script.command("at 60000");
    assert_eq!(script.log, "");
    assert_eq!(script.rib.received(script.index("ce")), 3);
    // It hears everything anew, and what it says again is no news.
    script.command("up ce 1.1.1.1");
    assert_eq!(script.log, "  ce <- end of rib\n");
    script.log.clear();
    script.command("announce ce 10.0.0.0/16 path=65010");
    assert_eq!(script.log, "");
    script.command("withdraw ce 10.1.0.0/16");
    assert_eq!(script.log, "  er0 <- withdraw 10.1.0.0/16\n  er1 <- withdraw 10.1.0.0/16\n");
    script.log.clear();
    script.command("sweep ce");
    assert_eq!(script.log, "  er0 <- withdraw 10.2.0.0/16\n  er1 <- withdraw 10.2.0.0/16\n");
    script.command("at 70000");
    let present = blocks.map(|block| script.forwarding.way(block).is_some());
    assert_eq!(present, [true, false, false]);
    assert_eq!(script.rib.received(script.index("ce")), 1);
}

#[test]
fn what_is_kept_goes_at_once_when_the_path_fails_and_stays_for_the_next_session() {
    let mut script = msee();
    script.command("announce ce 10.0.0.0/16 path=65010");
    script.command("at 100");
    script.command("keep ce");
    script.command("close ce failed");
    assert!(script.forwarding.way(prefix("10.0.0.0/16")).is_none());

    // A second restart before the end of what the first session said.
    script.command("up ce 1.1.1.1");
    script.command("announce ce 10.0.0.0/16,10.1.0.0/16 path=65010");
    script.command("keep ce");
    script.command("up ce 1.1.1.1");
    script.command("keep ce");
    script.command("up ce 1.1.1.1");
    script.command("announce ce 10.1.0.0/16 path=65010");
    script.command("sweep ce");
    script.command("at 5000");
    assert!(script.forwarding.way(prefix("10.0.0.0/16")).is_none());
    assert!(script.forwarding.way(prefix("10.1.0.0/16")).is_some());
}

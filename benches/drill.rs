//! How long drills take in virtual time, with their reports, on one core: 64 flows at 2,000 packets
//! a second each way through a silent loss and its end; `cargo bench --bench drill`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

use msee::config;
use msee::drill::Verdict;

/// One link of one circuit.
const LINK_LOSS: &str = "\
lab: quickstart.yaml
traffic:
  - { name: erp, kind: probe, from: dc1.erp, to: hub.app, directions: both, flows: 64, rate: 2000pps, size: 512 }
steps:
  - { step: baseline, for: 20s }
  - { step: silent-loss, do: blackhole, at: 'ams/primary:nni', direction: both, for: 20s }
  - { step: failback, do: restore, for: 20s }
expect:
  - { that: path, of: erp, during: silent-loss, through: ams/secondary, convergence: ideal }
";

/// One of two circuits: what a comparison of 40 settings runs 40 times.
const SITE_LOSS: &str = "\
lab: two-circuits.yaml
traffic:
  - { name: erp, kind: probe, from: dc1.erp, to: hub.app, directions: both, flows: 64, rate: 2000pps, size: 256 }
steps:
  - { step: baseline, for: 20s }
  - { step: site-loss, do: blackhole, at: ['ams/primary:nni', 'ams/secondary:nni'], direction: both, for: 60s }
  - { step: failback, do: restore, for: 60s }
expect:
  - { that: path, of: erp, during: site-loss, through: lon, convergence: ideal }
";

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(5));
    targets = drills
}
criterion_main!(benches);

fn drills(criterion: &mut Criterion) {
    run(criterion, "drill of 60 s, one circuit", "quickstart", LINK_LOSS);
    run(criterion, "drill of 140 s, two circuits", "two-circuits", SITE_LOSS);
}

fn run(criterion: &mut Criterion, name: &str, lab: &str, drill: &str) {
    let path = format!("fixtures/labs/{lab}.yaml");
    let text = fs::read_to_string(&path).expect("the lab is in the tree");
    let lab = config::load_lab(Path::new(&path), &text).expect("the lab is right");
    let drill = config::load_drill(Path::new("bench.yaml"), drill, &lab).expect("so is the drill");
    criterion.bench_function(name, |bench| {
        bench.iter(|| {
            let report = msee::drill::run(&lab, &drill, &mut |_| {});
            assert_eq!(report.verdict, Verdict::PassAssuming);
            report
        });
    });
}

//! How long a drill of one minute takes in virtual time: 64 flows at 2,000 packets a second each
//! way, a silent loss and its end; `cargo bench --bench drill`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

use msee::config;
use msee::drill::Verdict;

const DRILL: &str = "\
lab: quickstart.yaml
traffic:
  - { name: erp, kind: probe, from: dc1.erp, to: hub.app, directions: both, flows: 64, rate: 2000pps, size: 512 }
steps:
  - { step: baseline, for: 20s }
  - { step: silent-loss, do: blackhole, at: 'ams/primary:nni', direction: both, for: 20s }
  - { step: failback, do: restore, for: 20s }
expect:
  - { that: path, of: erp, during: silent-loss, through: ams/secondary }
";

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(5));
    targets = one_minute
}
criterion_main!(benches);

fn one_minute(criterion: &mut Criterion) {
    let path = Path::new("fixtures/labs/quickstart.yaml");
    let text = fs::read_to_string(path).expect("the lab is in the tree");
    let lab = config::load_lab(path, &text).expect("the lab is right");
    let drill = config::load_drill(Path::new("bench.yaml"), DRILL, &lab).expect("so is the drill");
    criterion.bench_function("drill of 60 s, 64 flows, 2,000 pps each way", |bench| {
        bench.iter(|| {
            let report = msee::drill::run(&lab, &drill, &mut |_| {});
            assert_eq!(report.verdict, Verdict::PassAssuming);
            report
        });
    });
}

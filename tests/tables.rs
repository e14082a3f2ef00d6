//! The tables of events and expectations: each row's example is what a person can write, and is of
//! that row's kind.

use std::fs;
use std::path::Path;

use msee::config::{self, drill::Drill, lab::Lab};
use msee::drill::{event, expect};

fn lab() -> Lab {
    let path = Path::new("fixtures/labs/active-active.yaml");
    config::load_lab(path, &fs::read_to_string(path).unwrap()).unwrap()
}

fn drill(lab: &Lab, steps: &[&str], expectations: &[&str]) -> Drill {
    let list = |rows: &[&str]| rows.iter().flat_map(|row| ["  - ", row, "\n"]).collect::<String>();
    let text = format!(
        "lab: lab.yaml\ntraffic:\n  - {{ name: erp, kind: probe, from: dc1.erp, to: hub.app, directions: both, \
         flows: 8, rate: 800pps, size: 256 }}\n  - {{ name: bulk, kind: tcp, from: hub.app, to: dc1.erp, flows: 2, \
         rate: 10Mbps }}\nsteps:\n{}expect:\n{}",
        list(steps),
        list(expectations)
    );
    let loaded = config::load_drill(Path::new("drill.yaml"), &text, lab);
    loaded.unwrap_or_else(|errors| panic!("{text}\n{errors}"))
}

const BASELINE: &str = "{ step: baseline, for: 1s }";

/// Each event runs, and afterwards every packet is accounted for and the lab comes back.
#[test]
fn every_event_runs_and_is_undone() {
    let lab = lab();
    for row in event::EVENTS {
        // What enables or restores needs something to undo first.
        let before = match row.name {
            "peering-enable" => {
                "{ step: earlier, do: peering-disable, at: ams/AzurePrivatePeering, for: 1s }"
            }
            "restore" => "{ step: earlier, do: cut, at: ams/primary, for: 1s }",
            _ => BASELINE,
        };
        let before = before.replace("step: baseline", "step: earlier");
        let after = "{ step: at-last, do: restore, until: { stable: 2s }, within: 5m }";
        let drill = drill(&lab, &[BASELINE, &before, row.example, after], &[]);
        let event = drill.steps[2].event.as_ref().unwrap();
        assert_eq!(event.name(), row.name);
        assert_eq!(event::row(event).name, row.name);
        let report = msee::drill::run(&lab, &drill, &mut |_| {});
        let run = &report.runs[0];
        assert!(run.conservation.held, "{}: {:?}", row.name, run.conservation);
        let last = run.steps.last().unwrap();
        assert!(last.finished, "{} is not undone within five minutes", row.name);
        let lost: u64 = last.groups.iter().map(|group| group.lost).sum();
        let reached = last.groups.iter().all(|group| group.lost < group.sent);
        assert!(reached, "{}: {lost} packets lost after the restore", row.name);
    }
}

#[test]
fn every_form_has_an_example_of_its_own_kind() {
    let lab = lab();
    let steps = [
        BASELINE,
        "{ step: loss, do: blackhole, at: ams/primary, for: 2s }",
        "{ step: overload, for: 1s }",
        "{ step: failback, do: restore, until: { stable: 2s }, within: 5m }",
    ];
    for row in expect::FORMS {
        let drill = drill(&lab, &steps, &[row.example]);
        assert_eq!(expect::row(&drill.expect[0].form).name, row.name);
        let report = msee::drill::run(&lab, &drill, &mut |_| {});
        assert!(report.expectations[0].evaluated, "{}: {:?}", row.name, report.expectations[0]);
    }
}

/// Names are unique, so that a row can be found by its name.
#[test]
fn no_name_stands_twice() {
    let mut names: Vec<_> = event::EVENTS.iter().map(|row| row.name).collect();
    names.extend(expect::FORMS.iter().map(|row| row.name));
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}

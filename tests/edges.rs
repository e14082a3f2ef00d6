//! The customer's side of a lab: what each language's configuration says (`fixtures/edges`,
//! `UPDATE_FIXTURES=1` rewrites), and that FRR and BIRD take theirs and come up with it.

use std::fs;
use std::path::{Path, PathBuf};

use msee::config;
use msee::config::lab::Lab;
use msee::lab::edge::{Customer, FORMATS};

const FOLDER: &str = "fixtures/edges";

#[test]
fn every_router_is_configured_as_written_beside_its_lab() {
    let update = std::env::var_os("UPDATE_FIXTURES").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let lab = lab(&case);
        for router in lab.sites.iter().flat_map(|site| &site.routers) {
            let customer = Customer::of(&lab, &router.name).unwrap();
            for format in FORMATS {
                let found = (format.configuration)(&customer);
                let beside = case.join(format!("{}.{}", router.name, format.name));
                if update {
                    fs::write(&beside, &found).unwrap();
                }
                let expected = fs::read_to_string(&beside).unwrap_or_default();
                if expected != found {
                    wrong.push(format!(
                        "{}: expected\n{expected}\nfound\n{found}",
                        beside.display()
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The folders of [`FOLDER`], in order.
fn cases() -> Vec<PathBuf> {
    let entries = fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    cases.sort();
    cases
}

fn lab(case: &Path) -> Lab {
    let path = case.join("lab.yaml");
    config::load_lab(&path, &fs::read_to_string(&path).unwrap())
        .unwrap_or_else(|errors| panic!("{errors}"))
}

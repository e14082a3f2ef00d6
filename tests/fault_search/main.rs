//! A search for faults: thousands of random labs, each with traffic and a random schedule of
//! broken links, crashed routers and operators' acts, and after each what must hold whatever
//! happened: every packet is accounted for, nothing reaches another customer, and a lab that was
//! restored works again. A case is its number; a failure prints the command that repeats it.

mod books;
mod case;
mod faults;
mod generate;
mod regressions;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Cases of one test; there are eight tests, so that they run beside one another.
const CASES: u64 = 250;
/// Each of so many is run twice and must be the same run.
const REPEAT_EACH: u64 = 10;
/// A broken build fails often; the first failures say enough.
const FAILURES_MAX: usize = 5;

macro_rules! searches {
    ($($name:ident = $share:literal),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                search($share * CASES..($share + 1) * CASES);
            }
        )+
    };
}

searches! {
    cases_0_to_249 = 0,
    cases_250_to_499 = 1,
    cases_500_to_749 = 2,
    cases_750_to_999 = 3,
    cases_1000_to_1249 = 4,
    cases_1250_to_1499 = 5,
    cases_1500_to_1749 = 6,
    cases_1750_to_1999 = 7,
}

/// The case of `MSEE_CASE`, or the first one, told step by step.
#[test]
fn replay() {
    let number = std::env::var("MSEE_CASE")
        .ok()
        .map_or(0, |text| text.parse().expect("MSEE_CASE is the number of a case"));
    println!("case {number}; MSEE_CASE=N chooses another");
    if let Err(why) = case::tell(number) {
        panic!("case {number}: {why}");
    }
}

fn search(numbers: std::ops::Range<u64>) {
    let mut failures = Vec::new();
    for number in numbers {
        if let Err(why) = attempt(number) {
            eprintln!(
                "case {number} (replay: MSEE_CASE={number} cargo nextest run --test fault_search \
                 replay): {why}"
            );
            failures.push(number);
        }
        if failures.len() == FAILURES_MAX {
            break;
        }
    }
    assert!(failures.is_empty(), "cases {failures:?} failed; how to replay each is above");
}

/// Runs a case, and some twice; a panic is a failure like others.
fn attempt(number: u64) -> Result<(), String> {
    let run = || {
        catch_unwind(AssertUnwindSafe(|| case::run(number, &mut |_| {})))
            .unwrap_or_else(|_| Err("it panicked, as said above".to_owned()))
    };
    let digest = run()?;
    if number.is_multiple_of(REPEAT_EACH) && run()? != digest {
        return Err("a second run was another run".to_owned());
    }
    Ok(())
}

//! Events outside a drill: an operator does one after another to a lab that runs. Each is read and
//! checked as the next step of a drill would be, so that what is wrong with it is told as well.

use std::fmt::Write as _;
use std::path::Path;

use crate::config::drill::{Event, Target};
use crate::config::{Errors, NodeRef, Source};
use crate::drill::event;
use crate::lab::Lab;
use crate::lab::edge::run::is_run;

/// Acts that are kept, each different from the others; a restore of everything forgets them.
const ACTS_MAX: usize = 1_000;
/// Keys of a step that are no event's, and what stands in their place here.
const NOT_OF_EVENTS: [&str; 5] = ["step", "do", "for", "until", "within"];
/// Where the one step stands in the text that is checked.
const STEP: &str = "steps[0]";

/// What was done to a lab since everything was as its file says.
#[derive(Debug, Default)]
pub struct Acts {
    done: Vec<Event>,
}

impl Acts {
    /// Does an event, given by the name and the keys of a drill's step, and returns it in words.
    ///
    /// # Errors
    /// What is wrong with it, a line or more for a person.
    pub fn act(
        &mut self,
        lab: &mut Lab,
        name: &str,
        keys: &[(String, Vec<String>)],
    ) -> Result<String, String> {
        let text = step(name, keys)?;
        let source = Source::alone(Path::new("act"), &text);
        let drill = source.and_then(|source| source.drill_after(&self.done, lab.file()));
        let mut drill = drill.map_err(|errors| told(name, &errors))?;
        let event = drill.steps.pop().and_then(|step| step.event);
        let event = event.expect("a step that names an event has it");
        let restores_all = matches!(&event, Event::Restore { at } if at.is_empty());
        if !restores_all && self.done.len() >= ACTS_MAX {
            return Err(format!("{ACTS_MAX} acts are not restored; restore first"));
        }
        let console = |name: &str| lab.is_external(name).then(|| lab.has_console(name));
        if let Some(router) = event::out_of_reach(&event, lab.file(), console) {
            let means = if is_run(lab.file(), &router) {
                format!(": msee lab exec {router} -- CMD")
            } else {
                String::new()
            };
            return Err(format!(
                "{name}: {router} runs outside msee and is told by its own means{means}"
            ));
        }
        if let Some(what) = event.targets().iter().find_map(|target| elsewhere(lab, target)) {
            return Err(format!("{name}: {what} is no part of what this msee runs"));
        }
        let touched: Vec<Target> = self.done.iter().flat_map(Event::targets).collect();
        event::start(lab, &event, touched.iter(), "operator", name);
        let words = event::describe(&event);
        if restores_all {
            self.done.clear();
        } else if !self.done.contains(&event) {
            self.done.push(event);
        }
        Ok(words.trim_end().to_owned())
    }
}

/// What of an event's target is outside: a place without a link here, or a router.
fn elsewhere(lab: &Lab, target: &Target) -> Option<String> {
    let is_outside = |router: &String| lab.is_external(router) && !lab.has_console(router);
    let outside = |node: &NodeRef| lab.routers_of(node).into_iter().find(is_outside);
    match target {
        Target::Place(place) => lab.links_at(place).is_empty().then(|| place.to_string()),
        Target::Node(node) => outside(node),
        Target::Link(link) => outside(&NodeRef::Msee(link.clone())),
        Target::Session(_) | Target::Peering(_) | Target::Circuit(_) => None,
    }
}

/// A drill of the one step.
fn step(name: &str, keys: &[(String, Vec<String>)]) -> Result<String, String> {
    let mut text = format!("lab: lab.yaml\nsteps:\n  - step: act\n    for: 1s\n    do: {name}\n");
    let words = keys.iter().flat_map(|(key, values)| values.iter().chain([key]));
    if words.chain([&name.to_owned()]).any(|word| word.contains(char::is_control)) {
        return Err("a name, key or value is text on one line".to_owned());
    }
    for (key, values) in keys {
        if NOT_OF_EVENTS.contains(&key.as_str()) {
            return Err(format!(
                "{key}: of a step in a drill; an act lasts until `msee lab do restore`"
            ));
        }
        // Writing into a string does not fail.
        let _ = match values.as_slice() {
            [value] => writeln!(text, "    {key}: {value}"),
            _ => writeln!(text, "    {key}:"),
        };
        for value in values.iter().filter(|_| values.len() > 1) {
            let _ = writeln!(text, "      - {value}");
        }
    }
    Ok(text)
}

/// Problems without the places of a text that nobody wrote.
fn told(name: &str, errors: &Errors) -> String {
    let problem = |problem: &crate::config::Problem| {
        let key = problem.at.key.strip_prefix(STEP).map(|key| key.trim_start_matches('.'));
        let key = key.filter(|key| !key.is_empty()).unwrap_or(name);
        let allowed = problem.allowed.iter().map(|allowed| format!("\n    allowed: {allowed}"));
        format!("{key}: {}{}", problem.found, allowed.collect::<String>())
    };
    errors.problems().iter().map(problem).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::config;
    use crate::fabric::{Direction, LinkIndex, Observer};
    use crate::model::Instant;

    struct Nobody;

    impl Observer for Nobody {
        fn frame(&mut self, _: LinkIndex, _: Direction, _: &[u8], _: Instant) {}
    }

    fn lab() -> Lab {
        let path = Path::new("fixtures/labs/quickstart.yaml");
        let file = config::load_lab(path, &fs::read_to_string(path).unwrap()).unwrap();
        let mut lab = Lab::new(&file, file.seed);
        run(&mut lab, 20);
        assert!(lab.is_converged());
        lab
    }

    fn run(lab: &mut Lab, seconds: u64) {
        lab.run_until(lab.now() + Duration::from_secs(seconds), &mut Nobody);
    }

    fn keys(pairs: &[(&str, &str)]) -> Vec<(String, Vec<String>)> {
        pairs.iter().map(|(key, value)| (key.to_string(), vec![value.to_string()])).collect()
    }

    fn down(lab: &Lab) -> usize {
        lab.sessions().filter(|(_, session)| !session.established).count()
    }

    #[test]
    fn what_was_cut_is_down_until_everything_is_restored() {
        let (mut lab, mut acts) = (lab(), Acts::default());
        assert!(acts.act(&mut lab, "restore", &[]).unwrap_err().contains("nothing to restore"));
        let words = acts.act(&mut lab, "cut", &keys(&[("at", "ams/primary:nni")])).unwrap();
        assert_eq!(words, "cut ams/primary:nni");
        run(&mut lab, 5);
        assert!(down(&lab) > 0);
        acts.act(&mut lab, "restore", &[]).unwrap();
        run(&mut lab, 60);
        assert_eq!(down(&lab), 0);
        assert!(acts.act(&mut lab, "restore", &[]).is_err(), "it is forgotten");
    }

    #[test]
    fn what_is_wrong_is_told_as_in_a_drill_file() {
        let (mut lab, mut acts) = (lab(), Acts::default());
        let mut wrong = |name, pairs: &[_]| acts.act(&mut lab, name, &keys(pairs)).unwrap_err();
        let place = wrong("cut", &[("at", "ams/primry")]);
        assert!(place.starts_with("at: the lab has no place `ams/primry`"), "{place}");
        assert!(place.contains("did you mean `ams/primary"), "{place}");
        let event = wrong("cutt", &[]);
        assert!(event.starts_with("do: ") && event.contains("cut"), "{event}");
        assert!(wrong("cut", &[]).contains("at"), "a key is missing");
        assert!(wrong("cut", &[("att", "ams/primary")]).contains("att"));
        assert!(wrong("cut", &[("at", "ams/primary"), ("for", "3s")]).contains("restore"));
        assert!(wrong("cut", &[("at", "ams/primary\n    for: 9s")]).contains("one line"));
        let less = wrong("bandwidth", &[("at", "ams"), ("bandwidthInMbps", "50")]);
        assert!(less.contains("less than"), "{less}");
        assert!(lab.events().iter().all(|event| event.node != "operator"), "nothing was done");
    }

    #[test]
    fn several_places_are_a_list() {
        let (mut lab, mut acts) = (lab(), Acts::default());
        let at = vec!["ams/primary".to_owned(), "ams/secondary:access".to_owned()];
        let words = acts.act(&mut lab, "cut", &[("at".to_owned(), at)]).unwrap();
        assert_eq!(words, "cut ams/primary:nni, ams/secondary:access");
    }
}

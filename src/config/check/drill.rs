//! A drill file's rules, against its lab.
//!
//! Goes through the file once, in order, because steps depend on earlier ones (what a restore can
//! undo, what a bandwidth was). What does not fit is reported and left out of the value, which is
//! used only when nothing was reported.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::config::check::lab::known_or_near;
use crate::config::drill::{
    Amount, Directions, Drill, During, Event, Expectation, Flaps, Form, Impairment, Limits,
    MaintenanceCategory, PathPoint, Step, Target, Traffic, TrafficKind, Until,
};
use crate::config::error::At;
use crate::config::lab::Lab;
use crate::config::raw::drill as raw;
use crate::config::raw::{
    CategoryWord, Field, Int, Name, OneOrMany, Origin, Percent, Raw, Reader, Text, TrafficRate,
};
use crate::config::{CircuitLink, HostRef, NodeRef, PeeringRef, Place, SessionRef, Unknown};
use crate::model::{Bandwidth, Prefix};

/// Id of rules that are of the file's own form.
const OURS: Option<&str> = Some("drill file");

/// How long a step waits for something when the file does not say.
const WITHIN: Duration = Duration::from_mins(10);

/// Most flows of a drill with TCP: as many ports as they are numbered from.
const FLOWS_BESIDE_TCP_MAX: u64 = 40_000;

/// Gives values to what depends on the rest of the files. `stem` is the file's name.
pub fn fill(drill: &mut raw::Drill, stem: &str, lab: &Lab) {
    drill.name.fill(Text(stem.to_owned()), Some("file name"));
    drill.seed.fill(Int(lab.seed), Some("lab"));
    for step in drill.steps.items_mut() {
        if step.keys.until.value.is_some() {
            step.keys.within.fill(WITHIN, OURS);
        }
        if let Some(raw::Event::Maintenance(maintenance)) = &mut step.event
            && maintenance.category.get() == Some(&CategoryWord::AsPathPrepend)
        {
            maintenance.prepends.fill(Int(8), Some("L-49"));
        }
    }
}

/// The drill; to be used only when nothing was reported. `earlier` is what was done to the lab
/// before its first step.
pub fn check(
    drill: &raw::Drill,
    lab: &Lab,
    earlier: &[Event],
    reader: &mut Reader,
) -> Option<Drill> {
    let mut checker = Checker::new(drill, lab, reader);
    for event in earlier {
        checker.remember(event);
    }
    let traffic: Vec<_> = drill.traffic.items().map(|(raw, _)| checker.traffic(raw)).collect();
    checker.traffic.clone_from(&traffic);
    checker.flows_have_ids(drill);
    let steps: Vec<_> = drill.steps.items().map(|(raw, _)| checker.step(raw)).collect();
    let expect: Vec<_> = drill.expect.items().map(|(raw, _)| checker.expectation(raw)).collect();
    Some(Drill {
        name: drill.name.get()?.0.clone(),
        lab: drill.lab.get()?.0.clone(),
        seed: drill.seed.get()?.0,
        runs: drill.runs.get()?.0 as u32,
        traffic: traffic.into_iter().collect::<Option<_>>()?,
        steps: steps.into_iter().collect::<Option<_>>()?,
        expect: expect.into_iter().collect::<Option<_>>()?,
    })
}

struct Checker<'a> {
    lab: &'a Lab,
    reader: &'a mut Reader,
    traffic_names: Vec<&'a str>,
    step_names: Vec<&'a str>,
    steps: Vec<&'a raw::Step>,
    /// None: an entry with problems.
    traffic: Vec<Option<Traffic>>,
    /// What earlier steps did something to.
    touched: Vec<Target>,
    bandwidths: BTreeMap<String, Bandwidth>,
    /// Announced by earlier steps: router and block.
    announced: BTreeSet<(String, Prefix)>,
}

impl<'a> Checker<'a> {
    fn new(drill: &'a raw::Drill, lab: &'a Lab, reader: &'a mut Reader) -> Self {
        let steps: Vec<_> = drill.steps.items().map(|(step, _)| step).collect();
        let mut checker = Self {
            lab,
            reader,
            traffic_names: drill.traffic.items().map(|(t, _)| name_of(&t.keys.name)).collect(),
            step_names: steps.iter().map(|step| name_of(&step.keys.step)).collect(),
            steps,
            traffic: Vec::new(),
            touched: Vec::new(),
            bandwidths: lab.circuits.iter().map(|c| (c.name.clone(), c.bandwidth)).collect(),
            announced: BTreeSet::new(),
        };
        checker.unique("traffic entry", drill.traffic.items().map(|(t, _)| &t.keys.name));
        checker.unique("step", drill.steps.items().map(|(step, _)| &step.keys.step));
        if drill.steps.is_given() && checker.steps.is_empty() {
            checker.refuse(&drill.steps.at, "no step", "at least one");
        }
        checker
    }

    fn refuse(&mut self, at: &At, found: impl Into<String>, allowed: impl Into<String>) {
        self.reader.refuse(at, found, allowed, OURS);
    }

    fn unique<'f>(&mut self, what: &str, names: impl Iterator<Item = &'f Field<Name>>) {
        let mut seen = BTreeSet::new();
        for field in names.filter(|field| field.value.is_some()) {
            if !seen.insert(name_of(field)) {
                let text = format!("another {what} is called `{}`", name_of(field));
                self.refuse(&field.at, text, "a name of its own");
            }
        }
    }

    /// What a text names, by the given way of looking it up.
    fn named<T>(
        &mut self,
        field: &Field<Text>,
        resolve: impl Fn(&str, &Lab) -> Result<T, Unknown>,
    ) -> Option<T> {
        match resolve(&field.get()?.0, self.lab) {
            Ok(value) => Some(value),
            Err(Unknown { found, allowed }) => {
                self.refuse(&field.at, found, allowed);
                None
            }
        }
    }

    fn all_named<T>(
        &mut self,
        field: &Field<OneOrMany<Text>>,
        resolve: impl Fn(&str, &Lab) -> Result<T, Unknown> + Copy,
    ) -> Option<Vec<T>> {
        let many = &field.get()?.0;
        if many.is_empty() {
            self.refuse(&field.at, "an empty list", "at least one");
        }
        let all: Vec<_> = many.iter().map(|text| self.named(text, resolve)).collect();
        all.into_iter().collect()
    }

    // Traffic.

    /// Hosts behind an attached router are the lab's where the router has a port to their network.
    fn is_within_reach(&mut self, end: &HostRef, field: &Field<Text>) {
        let HostRef::Site { site, host } = end else { return };
        let Some(site) = self.lab.site(site) else { return };
        let Some((network, _)) = site.host(host) else { return };
        let Some(router) = site.gateway_of(&network.name) else { return };
        if !router.has_hosts_of(&network.name) {
            let (name, network) = (&router.name, &network.name);
            self.refuse(
                &field.at,
                format!("{end} is behind {name}, which is attached without a port to its network"),
                format!("{{ network: {network}, as: … }} in `attach` of {name} in the lab file"),
            );
        }
    }

    fn traffic(&mut self, raw: &raw::Traffic) -> Option<Traffic> {
        let keys = &raw.keys;
        let (from, to) =
            (self.named(&keys.from, HostRef::resolve), self.named(&keys.to, HostRef::resolve));
        let (from, to) = (from?, to?);
        for (end, field) in [(&from, &keys.from), (&to, &keys.to)] {
            self.is_within_reach(end, field);
        }
        if from.is_on_site() == to.is_on_site() {
            self.refuse(
                &keys.to.at,
                format!("{from} and {to} are on the same side"),
                "one end in a site, one in a VNet",
            );
            return None;
        }
        let Some((from_address, to_address)) = common_addresses(&from, &to, self.lab) else {
            self.refuse(
                &keys.to.at,
                format!("{from} and {to} have no address family in common"),
                "both IPv4 or both IPv6",
            );
            return None;
        };
        let (kind, directions, flows) = match raw.kind.as_ref()? {
            raw::TrafficKind::Probe(probe) => {
                (self.probe(probe)?, *probe.directions.get()?, probe.flows.get()?.0)
            }
            raw::TrafficKind::Tcp(tcp) => {
                let directions =
                    if from.is_on_site() { Directions::ToAzure } else { Directions::ToOnprem };
                let kind = TrafficKind::Tcp { rate: copied(&tcp.rate) };
                (kind, directions, tcp.flows.get()?.0)
            }
        };
        Some(Traffic {
            name: keys.name.get()?.0.clone(),
            kind,
            from,
            to,
            from_address,
            to_address,
            directions,
            flows: flows as u32,
        })
    }

    fn probe(&mut self, raw: &raw::Probe) -> Option<TrafficKind> {
        let size = raw.size.get()?.0;
        let packets_per_second = match *raw.rate.get()? {
            TrafficRate::PacketsPerSecond(pps) => pps,
            TrafficRate::Bits(bandwidth) => bandwidth.bps() / (size * 8),
        };
        if packets_per_second == 0 {
            self.refuse(
                &raw.rate.at,
                format!("less than a packet of {size} bytes a second"),
                "more",
            );
            return None;
        }
        Some(TrafficKind::Probe { packets_per_second, size: size as u16 })
    }

    /// Beside TCP every flow has ports of its own, whichever host it is on.
    fn flows_have_ids(&mut self, drill: &raw::Drill) {
        let all = || self.traffic.iter().flatten();
        let ids: u64 = all().map(|t| u64::from(t.flows) * t.directions.each().count() as u64).sum();
        if all().any(Traffic::is_tcp) && ids > FLOWS_BESIDE_TCP_MAX {
            let found = format!("{ids} flows, each direction of a probe counted, some of them TCP");
            self.refuse(&drill.traffic.at, found, format!("at most {FLOWS_BESIDE_TCP_MAX}"));
        }
    }

    // Steps.

    fn step(&mut self, raw: &raw::Step) -> Option<Step> {
        let keys = &raw.keys;
        if keys.lasts.origin == Origin::Absent && keys.until.origin == Origin::Absent {
            self.refuse(
                &raw.here,
                "a step that takes no time",
                "for: 10s, until: converged, or both",
            );
        }
        if keys.within.is_given() && keys.until.origin == Origin::Absent {
            self.refuse(&keys.within.at, "within, and nothing is waited for", "until: beside it");
        }
        if let (Some(within), Some(lasts)) = (keys.within.get(), keys.lasts.get())
            && within < lasts
            && keys.until.value.is_some()
        {
            let at = if keys.within.is_given() { &keys.within.at } else { &keys.lasts.at };
            self.refuse(
                at,
                "the step ends before its `for` is over",
                "within as long as `for`, or longer",
            );
        }
        let until = keys.until.get().map(|until| self.until(until, &keys.until.at));
        let event = raw.event.as_ref().map(|event| self.event(event, raw));
        if let Some(Some(event)) = &event {
            self.remember(event);
        }
        Some(Step {
            name: keys.step.get()?.0.clone(),
            event: event.map_or(Some(None), |event| event.map(Some))?,
            lasts: keys.lasts.get().copied(),
            until: until.map_or(Some(None), |until| until.map(Some))?,
            within: keys.within.get().copied(),
        })
    }

    fn until(&mut self, raw: &raw::Until, at: &At) -> Option<Until> {
        let raw::Until::Map(map) = raw else { return Some(Until::Converged) };
        match (map.stable.get(), map.session.get(), map.state.get()) {
            (Some(stable), None, None) => Some(Until::Stable(*stable)),
            (None, Some(_), Some(state)) => {
                let session = self.named(&map.session, SessionRef::resolve)?;
                Some(Until::Session { session, state: *state })
            }
            _ => {
                self.refuse(
                    at,
                    "neither one nor the other",
                    "{ stable: 30s } or { session: …, state: up }",
                );
                None
            }
        }
    }

    fn event(&mut self, raw: &raw::Event, step: &raw::Step) -> Option<Event> {
        Some(match raw {
            raw::Event::Cut(places) => {
                Event::Cut { at: self.all_named(&places.at, Place::resolve)? }
            }
            raw::Event::Blackhole(hole) => Event::Blackhole {
                at: self.all_named(&hole.at, Place::resolve)?,
                direction: *hole.direction.get()?,
                only: hole.only.get().copied(),
            },
            raw::Event::Impair(impair) => self.impair(impair)?,
            raw::Event::BgpShutdown(sessions) => {
                Event::BgpShutdown { at: self.sessions(sessions)? }
            }
            raw::Event::BgpReset(sessions) => Event::BgpReset { at: self.sessions(sessions)? },
            raw::Event::BfdDisable(sessions) => Event::BfdDisable { at: self.sessions(sessions)? },
            raw::Event::RouterCrash(nodes) => {
                Event::RouterCrash { at: self.all_named(&nodes.at, NodeRef::resolve)? }
            }
            raw::Event::RouterRestart(nodes) => {
                Event::RouterRestart { at: self.all_named(&nodes.at, NodeRef::resolve)? }
            }
            raw::Event::Maintenance(maintenance) => self.maintenance(maintenance)?,
            raw::Event::PeeringDisable(switch) => Event::PeeringDisable {
                at: self.all_named(&switch.at, PeeringRef::resolve)?,
                families: *switch.family.get()?,
            },
            raw::Event::PeeringEnable(switch) => Event::PeeringEnable {
                at: self.all_named(&switch.at, PeeringRef::resolve)?,
                families: *switch.family.get()?,
            },
            raw::Event::Bandwidth(more) => self.bandwidth(more)?,
            raw::Event::Announce(announcement) => {
                let (at, prefixes) = self.announcement(announcement, step)?;
                Event::Announce { at, prefixes }
            }
            raw::Event::Withdraw(announcement) => {
                let (at, prefixes) = self.announcement(announcement, step)?;
                self.is_announced(&at, &prefixes, announcement);
                Event::Withdraw { at, prefixes }
            }
            raw::Event::ControlKill(nodes) => {
                Event::ControlKill { at: self.all_named(&nodes.at, NodeRef::resolve)? }
            }
            raw::Event::ReplaceDevice(replacement) => Event::ReplaceDevice {
                at: self.all_named(&replacement.at, site_router_named)?,
                gratuitous_arp: *replacement.gratuitous_arp.get()?,
            },
            raw::Event::ProviderRate(throttle) => Event::ProviderRate {
                at: self.all_named(&throttle.at, circuit_named)?,
                rate: throttle.rate.get()?.0.map(Bandwidth::from_mbps),
            },
            raw::Event::Restore(restore) => Event::Restore { at: self.restore(restore, step)? },
        })
    }

    fn sessions(&mut self, raw: &raw::Sessions) -> Option<Vec<SessionRef>> {
        self.all_named(&raw.at, SessionRef::resolve)
    }

    fn impair(&mut self, raw: &raw::Impair) -> Option<Event> {
        let at = self.all_named(&raw.at, Place::resolve);
        let share = |given: &Field<Percent>| given.get().map_or(0, |percent| percent.0);
        let impairment = Impairment {
            loss_ppm: share(&raw.loss),
            corrupt_ppm: share(&raw.corrupt),
            truncate_ppm: share(&raw.truncate),
            duplicate_ppm: share(&raw.duplicate),
            reorder_ppm: share(&raw.reorder),
            delay: raw.delay.get().copied().unwrap_or_default(),
            jitter: raw.jitter.get().copied().unwrap_or_default(),
            rate: raw.rate.get().copied(),
        };
        let shares = [&raw.loss, &raw.corrupt, &raw.truncate, &raw.duplicate, &raw.reorder];
        let shares = shares.into_iter().map(|share| share.origin);
        let given = shares.chain([raw.delay.origin, raw.jitter.origin, raw.rate.origin]);
        if given.into_iter().all(|origin| origin == Origin::Absent) {
            self.refuse(
                &raw.here,
                "an impairment of nothing",
                "one of loss, corrupt, truncate, duplicate, reorder, delay, jitter, rate, or more",
            );
        }
        Some(Event::Impair { at: at?, direction: *raw.direction.get()?, impairment })
    }

    fn maintenance(&mut self, raw: &raw::Maintenance) -> Option<Event> {
        let at = self.all_named(&raw.at, CircuitLink::resolve);
        let category = match raw.category.get()? {
            CategoryWord::AsPathPrepend => {
                MaintenanceCategory::AsPathPrepend { prepends: raw.prepends.get()?.0 as u8 }
            }
            CategoryWord::BgpDisconnect if raw.prepends.is_given() => {
                self.refuse(
                    &raw.prepends.at,
                    "BgpDisconnect prepends nothing",
                    "category: ASPathPrepend",
                );
                return None;
            }
            CategoryWord::BgpDisconnect => MaintenanceCategory::BgpDisconnect,
        };
        Some(Event::Maintenance { at: at?, category })
    }

    fn bandwidth(&mut self, raw: &raw::MoreBandwidth) -> Option<Event> {
        let at = self.all_named(&raw.at, circuit_named);
        let bandwidth = raw.bandwidth.get()?.bandwidth();
        let at = at?;
        for circuit in &at {
            let before = self.bandwidths.insert(circuit.clone(), bandwidth);
            if let Some(before) = before.filter(|before| *before > bandwidth) {
                let text = format!("{bandwidth} is less than the {before} of `{circuit}`");
                let allowed = "as much or more; a smaller circuit is another circuit";
                self.reader.refuse(&raw.bandwidth.at, text, allowed, Some("section 3.2"));
            }
        }
        Some(Event::Bandwidth { at, bandwidth })
    }

    fn announcement(
        &mut self,
        raw: &raw::Announcement,
        step: &raw::Step,
    ) -> Option<(Vec<String>, Vec<Prefix>)> {
        let at = self.all_named(&raw.at, site_router_named);
        let fields = raw.all();
        if fields.is_empty() {
            self.refuse(&step.here, "no address block", "prefix: or prefixes: []");
            return None;
        }
        let prefixes: Option<Vec<_>> = fields.into_iter().map(|field| field.value).collect();
        Some((at?, prefixes?))
    }

    /// Only what a router announces itself can be withdrawn: the networks it is the gateway of, or
    /// what a step announced.
    fn is_announced(&mut self, at: &[String], prefixes: &[Prefix], raw: &raw::Announcement) {
        for name in at {
            let Some((site, router)) = self.lab.site_router(name) else { continue };
            let networks =
                || site.networks.iter().filter(|network| router.gateway_of.contains(&network.name));
            for prefix in prefixes {
                let network = networks().any(|network| network.prefix == *prefix);
                if !network && !self.announced.contains(&(name.clone(), *prefix)) {
                    let known: Vec<_> = networks().map(|n| n.prefix.to_string()).collect();
                    let field =
                        if raw.prefix.value.is_some() { &raw.prefix.at } else { &raw.prefixes.at };
                    self.refuse(
                        field,
                        format!("`{name}` does not announce {prefix}"),
                        match known.as_slice() {
                            [] => "a router that is a network's gateway".to_owned(),
                            some => some.join(", "),
                        },
                    );
                }
            }
        }
    }

    fn restore(&mut self, raw: &raw::Restore, step: &raw::Step) -> Option<Vec<Target>> {
        if self.touched.is_empty() && raw.at.origin == Origin::Absent {
            self.refuse(&step.here, "nothing to restore", "an event in an earlier step");
            return None;
        }
        let Some(many) = raw.at.get() else { return Some(Vec::new()) };
        let mut targets = Vec::new();
        for field in &many.0 {
            let text = &field.get()?.0;
            let found: Vec<_> = targets_called(text, self.lab)
                .into_iter()
                .filter(|target| self.touched.contains(target))
                .collect();
            if found.is_empty() {
                let known: Vec<_> = self.touched.iter().map(ToString::to_string).collect();
                let known: Vec<_> = known.iter().map(String::as_str).collect();
                let text = format!("no earlier step did anything to `{text}`");
                self.refuse(&field.at, text, known_or_near("", &known));
            }
            targets.extend(found);
        }
        Some(targets)
    }

    fn remember(&mut self, event: &Event) {
        match event {
            Event::Restore { .. } => {}
            Event::Announce { at, prefixes } => {
                for router in at {
                    self.announced.extend(prefixes.iter().map(|prefix| (router.clone(), *prefix)));
                }
                self.touched.extend(event.targets());
            }
            _ => self.touched.extend(event.targets()),
        }
        let mut kept = Vec::new();
        self.touched.retain(|target| {
            let first = !kept.contains(target);
            kept.push(target.clone());
            first
        });
    }

    // Expectations.

    fn expectation(&mut self, raw: &raw::Expectation) -> Option<Expectation> {
        let during = self.during(&raw.keys.during);
        if let Some(Judged { at, after, lasts }) = self.after(raw, during)
            && after >= lasts
        {
            self.refuse(
                &at,
                "the step is over before this is judged",
                "less than the step's `for`",
            );
        }
        self.is_of_whole_step(raw, during);
        let lasts = during.and_then(|during| self.length_of(during));
        let form = raw.form.as_ref().map(|form| self.form(form, &raw.here, lasts));
        Some(Expectation {
            text: raw.line(),
            form: form??,
            during: during?,
            after: raw.keys.after.get().copied(),
            every_run: raw.keys.each.value.is_some(),
            convergence: raw.keys.convergence.get().copied(),
        })
    }

    /// A chain of causes begins with one step's event and is judged whole; what is as it was is so
    /// by the end of a step.
    fn is_of_whole_step(&mut self, raw: &raw::Expectation, during: Option<During>) {
        let keys = &raw.keys;
        let form = match raw.form {
            Some(raw::Form::CauseOrder(_)) => "cause-order",
            Some(raw::Form::BackToBaseline(_)) => "back-to-baseline",
            _ => return,
        };
        if keys.after.is_given() {
            let found = format!("`{form}` is not judged from a moment on");
            self.refuse(&keys.after.at, found, "within: how long it takes at most");
        }
        if form == "cause-order" && during == Some(During::Always) {
            let at = if keys.during.is_given() { &keys.during.at } else { &raw.here };
            self.refuse(at, "a chain of causes is one step's", "during: the name of a step");
        }
    }

    fn during(&mut self, field: &Field<Name>) -> Option<During> {
        let name = &field.get()?.0;
        if name == "always" {
            return Some(During::Always);
        }
        let step = self.step_names.iter().position(|step| step == name);
        if step.is_none() {
            let known: Vec<_> = self.step_names.iter().copied().chain(["always"]).collect();
            let text = format!("no step is called `{name}`");
            self.refuse(&field.at, text, known_or_near(name, &known));
        }
        step.map(During::Step)
    }

    /// `after` of an expectation about a step of known length.
    fn after(&self, raw: &raw::Expectation, during: Option<During>) -> Option<Judged> {
        let lasts = self.length_of(during?)?;
        Some(Judged { at: raw.keys.after.at.clone(), after: *raw.keys.after.get()?, lasts })
    }

    /// How long what is judged takes; none when that is not known before.
    fn length_of(&self, during: During) -> Option<Duration> {
        let During::Step(index) = during else { return None };
        let keys = &self.steps[index].keys;
        keys.lasts.get().filter(|_| keys.until.value.is_none()).copied()
    }

    /// `lasts` is the length of what is judged, where it is known.
    fn form(&mut self, raw: &raw::Form, here: &At, lasts: Option<Duration>) -> Option<Form> {
        match raw {
            raw::Form::Outage(outage) => self.outage(outage, here),
            raw::Form::Lost(lost) => {
                let (of, direction) = self.probes_of(&lost.of, &lost.direction, "lost")?;
                let limits =
                    Limits { min: copied(&lost.min), max: copied(&lost.max), p50: None, p99: None };
                self.some_bound(limits.min.is_some() || limits.max.is_some(), here)?;
                Some(Form::Lost { of, direction, limits })
            }
            raw::Form::FlowsHit(hit) => self.flows_hit(hit),
            raw::Form::Path(path) => self.path(path, here),
            raw::Form::Route(route) => {
                let node = self.named(&route.node, NodeRef::resolve);
                let best = match route.best.get() {
                    Some(_) => Some(self.named(&route.best, NodeRef::resolve)?),
                    None => None,
                };
                let present = *route.present.get()?;
                if !present && (best.is_some() || route.as_path.value.is_some()) {
                    self.refuse(
                        here,
                        "asPath or best of a route that is not there",
                        "present: true",
                    );
                    return None;
                }
                let as_path = route.as_path.get().map(|path| path.0.clone());
                Some(Form::Route {
                    node: node?,
                    prefix: *route.prefix.get()?,
                    present,
                    as_path,
                    best,
                })
            }
            raw::Form::NoRoute(route) => {
                let node = self.named(&route.node, NodeRef::resolve)?;
                Some(Form::NoRoute { node, prefix: *route.prefix.get()? })
            }
            raw::Form::Session(session) => self.session(session, here),
            raw::Form::CauseOrder(order) => {
                let is: Vec<_> = order.is.items().map(|(cause, _)| *cause).collect();
                if is.len() < 2 && order.is.is_given() {
                    self.refuse(
                        &order.is.at,
                        "no order of less than two",
                        "two links of the chain or more",
                    );
                }
                Some(Form::CauseOrder { is, within: order.within.get().copied() })
            }
            raw::Form::BackToBaseline(back) => {
                let compare: Vec<_> = back.compare.items().map(|(compared, _)| *compared).collect();
                if compare.is_empty() && back.compare.is_given() {
                    self.refuse(&back.compare.at, "nothing to compare", "routes, paths, sessions");
                }
                Some(Form::BackToBaseline { within: back.within.get().copied(), compare })
            }
            raw::Form::LimiterDrops(drops) => self.limiter_drops(drops, here),
            raw::Form::Throughput(throughput) => self.throughput(throughput, here, lasts),
            raw::Form::Tcp(tcp) => self.tcp(tcp, here),
            raw::Form::Symmetric(symmetric) => self.symmetric(symmetric),
            raw::Form::Isolated(isolated) => {
                let capture = self.named(&isolated.capture, Place::resolve);
                let contains = self.blocks(&isolated.contains);
                let packets = isolated.packets.get()?.0;
                Some(Form::Isolated { capture: capture?, contains: contains?, packets })
            }
            raw::Form::PrefixesReceived(received) => self.prefixes_received(received, here),
        }
    }

    fn throughput(
        &mut self,
        raw: &raw::Throughput,
        here: &At,
        lasts: Option<Duration>,
    ) -> Option<Form> {
        let (of, direction) = self.traffic_of(&raw.of, &raw.direction)?;
        let per = copied(&raw.per);
        self.some_bound(raw.min.value.is_some() || raw.max.value.is_some(), here)?;
        self.in_order(&raw.min, &raw.max);
        if per.is_some_and(|per| per.is_zero() || lasts.is_some_and(|lasts| per > lasts)) {
            let found = "a span that no part of the step has";
            self.refuse(&raw.per.at, found, "more than 0s and no longer than the step");
        }
        let limits = Limits { min: copied(&raw.min), max: copied(&raw.max), p50: None, p99: None };
        Some(Form::Throughput { of, direction, limits, per })
    }

    fn tcp(&mut self, raw: &raw::Tcp, here: &At) -> Option<Form> {
        let given = [raw.resets.origin, raw.longest_stall.origin, raw.retransmitted.origin];
        self.some_bound(given.iter().any(|origin| *origin != Origin::Absent), here)?;
        let (of, traffic) = self.entry(&raw.of)?;
        if !traffic.is_tcp() {
            let found = format!("`{}` is no TCP traffic", traffic.name);
            let allowed = "traffic of kind tcp; of probes: `that: outage`, `lost` or `flows-hit`";
            self.refuse(&raw.of.at, found, allowed);
            return None;
        }
        Some(Form::Tcp {
            of,
            resets: raw.resets.get().map(|int| int.0),
            longest_stall: copied(&raw.longest_stall),
            retransmitted: copied(&raw.retransmitted),
        })
    }

    fn symmetric(&mut self, raw: &raw::Symmetric) -> Option<Form> {
        let (of, traffic) = self.entry(&raw.of)?;
        if !traffic.is_tcp() && traffic.directions != Directions::Both {
            let found = format!("`{}` goes one way only", traffic.name);
            self.refuse(&raw.of.at, found, "probes with directions: both, or TCP");
            return None;
        }
        Some(Form::Symmetric { of })
    }

    fn prefixes_received(&mut self, raw: &raw::PrefixesReceived, here: &At) -> Option<Form> {
        let given = [raw.min.origin, raw.max.origin, raw.of_limit.origin];
        self.some_bound(given.iter().any(|origin| *origin != Origin::Absent), here)?;
        self.in_order(&raw.min, &raw.max);
        let session = self.named(&raw.session, SessionRef::resolve)?;
        if !session.is_of_customer() {
            let found = format!("{session} is no session of a customer and an MSEE");
            self.refuse(&raw.session.at, found, "circuit/link, or router>circuit/link");
            return None;
        }
        let count = |field: &Field<Int<0, { u64::MAX }>>| field.get().map(|int| int.0);
        let limits = Limits { min: count(&raw.min), max: count(&raw.max), p50: None, p99: None };
        let of_limit = raw.of_limit.get().map(|percent| percent.0);
        Some(Form::PrefixesReceived { session, limits, of_limit })
    }

    fn blocks(&mut self, field: &Field<OneOrMany<Prefix>>) -> Option<Vec<Prefix>> {
        let many = &field.get()?.0;
        if many.is_empty() {
            self.refuse(&field.at, "an empty list", "at least one");
        }
        many.iter().map(|block| block.value).collect()
    }

    /// Reports a lower bound above the upper one.
    fn in_order<T: Raw + PartialOrd>(&mut self, min: &Field<T>, max: &Field<T>) {
        if let (Some(least), Some(most)) = (min.get(), max.get())
            && least > most
        {
            let found = format!("at least {} and at most {}", text(least), text(most));
            self.refuse(&min.at, found, "min no more than max");
        }
    }

    fn outage(&mut self, raw: &raw::Outage, here: &At) -> Option<Form> {
        let (of, direction) = self.probes_of(&raw.of, &raw.direction, "outage")?;
        let bounds = [&raw.min, &raw.max, &raw.p50, &raw.p99];
        self.some_bound(bounds.iter().any(|bound| bound.value.is_some()), here)?;
        for bound in bounds {
            self.is_coarse_enough(bound, of);
        }
        let limits = Limits {
            min: copied(&raw.min),
            max: copied(&raw.max),
            p50: copied(&raw.p50),
            p99: copied(&raw.p99),
        };
        Some(Form::Outage { of, direction, limits })
    }

    /// A flow shows no outage shorter than the gap between its packets.
    fn is_coarse_enough(&mut self, bound: &Field<Duration>, of: usize) {
        let Some(Some(traffic)) = self.traffic.get(of) else { return };
        let resolution = traffic.resolution();
        let Some(value) = bound.get().filter(|value| **value < resolution) else { return };
        let (value, gap) = (text(value), text(&resolution));
        let found = format!(
            "{value} is finer than the resolution of `{}`: a flow's packets are {gap} apart",
            traffic.name,
        );
        let allowed =
            format!("{gap} or more, fewer flows, a higher rate; or `that: lost` with `max: 0`");
        self.refuse(&bound.at, found, allowed);
    }

    fn flows_hit(&mut self, raw: &raw::FlowsHit) -> Option<Form> {
        let (of, direction) = self.probes_of(&raw.of, &raw.direction, "flows-hit")?;
        let bounds: Vec<_> = raw.between.items().map(|(amount, _)| *amount).collect();
        let between = match bounds[..] {
            [Amount::Count(low), Amount::Count(high)] if low <= high => {
                Some((Amount::Count(low), Amount::Count(high)))
            }
            [Amount::Share(low), Amount::Share(high)] if low <= high => {
                Some((Amount::Share(low), Amount::Share(high)))
            }
            _ => None,
        };
        if between.is_none() && raw.between.is_given() {
            let allowed = "the least and the most, both numbers or both shares: [40%, 60%]";
            self.refuse(&raw.between.at, "not a range", allowed);
        }
        Some(Form::FlowsHit { of, direction, between: between? })
    }

    fn path(&mut self, raw: &raw::Path, here: &At) -> Option<Form> {
        let of = self.traffic_of(&raw.of, &raw.direction);
        self.some_bound(raw.through.value.is_some() || raw.never.value.is_some(), here)?;
        let mut points = |field: &Field<OneOrMany<Text>>| match field.get() {
            Some(_) => self.all_named(field, path_point),
            None => Some(Vec::new()),
        };
        let (through, never) = (points(&raw.through), points(&raw.never));
        let (of, direction) = of?;
        Some(Form::Path { of, direction, through: through?, never: never? })
    }

    fn session(&mut self, raw: &raw::Session, here: &At) -> Option<Form> {
        let session = self.named(&raw.session, SessionRef::resolve);
        self.some_bound(raw.state.value.is_some() || raw.flaps.value.is_some(), here)?;
        let flaps = match raw.flaps.get() {
            Some(flaps) => Some(self.flaps(flaps, &raw.flaps.at)?),
            None => None,
        };
        Some(Form::Session {
            session: session?,
            families: *raw.family.get()?,
            state: raw.state.get().copied(),
            flaps,
        })
    }

    fn flaps(&mut self, raw: &OneOrMany<Int<0, 1_000_000>>, at: &At) -> Option<Flaps> {
        let bounds: Vec<_> = raw.0.iter().filter_map(|field| Some(field.get()?.0)).collect();
        match bounds[..] {
            [exactly] => Some(Flaps { min: exactly, max: exactly }),
            [min, max] if min <= max => Some(Flaps { min, max }),
            _ => {
                self.refuse(at, "not a range", "a number, or the least and the most: [1, 2]");
                None
            }
        }
    }

    fn limiter_drops(&mut self, raw: &raw::LimiterDrops, here: &At) -> Option<Form> {
        self.some_bound(raw.min.value.is_some() || raw.max.value.is_some(), here)?;
        let point = self.named(&raw.at, |text, lab| {
            let circuit = circuit_named(text, lab).map(|circuit| (circuit, None));
            circuit
                .or_else(|_| CircuitLink::resolve(text, lab).map(|at| (at.circuit, Some(at.link))))
        });
        let (circuit, link) = point?;
        let count = |field: &Field<Int<0, { u64::MAX }>>| field.get().map(|int| int.0);
        let limits = Limits { min: count(&raw.min), max: count(&raw.max), p50: None, p99: None };
        Some(Form::LimiterDrops { circuit, link, limits })
    }

    fn some_bound(&mut self, given: bool, here: &At) -> Option<()> {
        if !given {
            self.refuse(
                here,
                "an expectation that nothing can fail",
                "at least one bound of the form",
            );
        }
        given.then_some(())
    }

    /// Traffic whose packets are numbered, and which way is looked at.
    fn probes_of(
        &mut self,
        of: &Field<Name>,
        direction: &Field<Directions>,
        form: &str,
    ) -> Option<(usize, Directions)> {
        let (_, traffic) = self.entry(of)?;
        if traffic.is_tcp() {
            let found = format!("`{form}` of `{}`, which is TCP: it sends again", traffic.name);
            let allowed = "`that: tcp` with resets, longestStall or retransmitted; \
                           `that: throughput`; or traffic of kind probe";
            self.refuse(&of.at, found, allowed);
            return None;
        }
        self.traffic_of(of, direction)
    }

    /// A traffic entry by its name.
    fn entry(&mut self, of: &Field<Name>) -> Option<(usize, Traffic)> {
        let name = &of.get()?.0;
        let Some(index) = self.traffic_names.iter().position(|known| known == name) else {
            let text = format!("no traffic is called `{name}`");
            let allowed = known_or_near(name, &self.traffic_names);
            self.refuse(&of.at, text, allowed);
            return None;
        };
        Some((index, self.traffic.get(index)?.clone()?))
    }

    fn traffic_of(
        &mut self,
        of: &Field<Name>,
        direction: &Field<Directions>,
    ) -> Option<(usize, Directions)> {
        let (index, Traffic { name, directions: has, .. }) = self.entry(of)?;
        let wanted = direction.get().copied().unwrap_or(has);
        if wanted.each().all(|direction| has.includes(direction)) {
            return Some((index, wanted));
        }
        self.refuse(&direction.at, format!("`{name}` does not go that way"), text(&has));
        None
    }
}

/// When an expectation is first judged, and how long its step is.
struct Judged {
    at: At,
    after: Duration,
    lasts: Duration,
}

fn name_of(field: &Field<Name>) -> &str {
    field.get().map_or("", |name| &name.0)
}

fn copied<T: Copy>(field: &Field<T>) -> Option<T> {
    field.get().copied()
}

fn text(value: &impl Raw) -> String {
    value.inline().unwrap_or_default()
}

fn common_addresses(from: &HostRef, to: &HostRef, lab: &Lab) -> Option<(IpAddr, IpAddr)> {
    let (from, to) = (from.host(lab)?, to.host(lab)?);
    from.addresses.iter().find_map(|address| Some((*address, to.address_like(*address)?)))
}

fn circuit_named(text: &str, lab: &Lab) -> Result<String, Unknown> {
    let names: Vec<_> = lab.circuits.iter().map(|circuit| circuit.name.as_str()).collect();
    one_of("circuit", text, &names)
}

fn site_router_named(text: &str, lab: &Lab) -> Result<String, Unknown> {
    let routers = lab.sites.iter().flat_map(|site| &site.routers);
    let names: Vec<_> = routers.map(|router| router.name.as_str()).collect();
    one_of("router of a site", text, &names)
}

fn one_of(what: &str, text: &str, names: &[&str]) -> Result<String, Unknown> {
    if names.contains(&text) {
        return Ok(text.to_owned());
    }
    let found = format!("the lab has no {what} `{text}`");
    Err(Unknown { found, allowed: known_or_near(text, names) })
}

fn path_point(text: &str, lab: &Lab) -> Result<PathPoint, Unknown> {
    match lab.circuit(text) {
        Some(circuit) => Ok(PathPoint::Circuit(circuit.name.clone())),
        None => NodeRef::resolve(text, lab).map(PathPoint::Node),
    }
}

/// Everything a text can mean to some event.
fn targets_called(text: &str, lab: &Lab) -> Vec<Target> {
    let targets = [
        Place::resolve(text, lab).ok().map(Target::Place),
        SessionRef::resolve(text, lab).ok().map(Target::Session),
        NodeRef::resolve(text, lab).ok().map(Target::Node),
        CircuitLink::resolve(text, lab).ok().map(Target::Link),
        PeeringRef::resolve(text, lab).ok().map(Target::Peering),
        circuit_named(text, lab).ok().map(Target::Circuit),
    ];
    targets.into_iter().flatten().collect()
}

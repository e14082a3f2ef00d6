//! One case: a lab, traffic, faults, restoration, and what must hold afterwards.

use std::collections::BTreeMap;
use std::time::Duration;

use msee::config::{HostRef, Place, Segment};
use msee::fabric::{self, LinkIndex, Observer};
use msee::lab::Lab;
use msee::model::{Instant, LinkRole};
use msee::traffic::{Direction, End, Flow, Meter, Spread, sighting};

use crate::books::Books;
use crate::faults::{self, Act};
use crate::generate::{self, Dice, World};

/// A lab has this long to come up, and to come up again once all is restored: a session whose
/// other end forgot it is found by a keepalive, 60 s, or the hold timer, 180 s (L-11).
const CONVERGE_MAX: Duration = Duration::from_secs(200);
/// BFD comes up in steps of a second while it is down (RFC 5880, 6.8.3).
const BFD_START: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Between the last session's coming up and the window in which nothing may be lost.
const SETTLE: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_secs(1);
/// For what is on the way to arrive.
const DRAIN: Duration = Duration::from_millis(500);
/// BFD and keepalives never end; between them there are moments without a packet.
const QUIET_STEP: Duration = Duration::from_micros(700);
const QUIET_STEPS: u32 = 10_000;

/// What a case is made of, all of it from its number.
struct Plan {
    world: World,
    flows: Vec<Probe>,
    /// Some faults come before the lab is up.
    warm_up: Option<Duration>,
    schedule: Vec<(Duration, Act)>,
    /// From the last act to the restoration.
    suffering: Duration,
    restoration: Vec<Act>,
}

struct Probe {
    customer: usize,
    flow: Flow,
    from: HostRef,
    to: HostRef,
}

/// Runs a case, and shows the lab at its end to `look`; the answer is a digest of all that
/// happened, or what does not hold.
pub fn run(number: u64, look: &mut dyn FnMut(&Lab)) -> Result<u64, String> {
    let plan = Plan::new(number);
    let mut lab = Lab::new(&plan.world.lab, number);
    let mut guard = Guard::watch(&mut lab, &plan);
    let baseline = begin(&mut lab, &plan, &mut guard).map_err(|why| format!("at first, {why}"))?;
    let flows = start(&mut lab, &plan);
    for (wait, act) in &plan.schedule {
        lab.run_until(lab.now() + *wait, &mut guard);
        act.perform(&mut lab);
    }
    lab.run_until(lab.now() + plan.suffering, &mut guard);
    for act in &plan.restoration {
        act.undo(&mut lab);
    }
    let recovered = recover(&mut lab, &plan, &flows, &baseline, &mut guard);
    stop(&mut lab, &plan);
    lab.run_until(lab.now() + DRAIN, &mut guard);
    let quiet = quiesce(&mut lab, &mut guard);
    look(&lab);
    conserved(&lab)?;
    quiet?;
    isolated(&lab, &guard)?;
    recovered.map_err(|why| format!("restored, {why}"))?;
    Ok(digest(&mut lab, &plan))
}

/// Runs a case and prints all about it.
pub fn tell(number: u64) -> Result<u64, String> {
    let plan = Plan::new(number);
    println!("{:#?}", plan.world);
    println!("warm-up {:?}", plan.warm_up);
    for (wait, act) in &plan.schedule {
        println!("after {wait:?}: {act:?}");
    }
    println!("restored after {:?}", plan.suffering);
    run(number, &mut |lab| {
        for event in lab.events() {
            println!("{:?} {} {} {}", event.at, event.node, event.kind, event.detail);
        }
        for (name, ledger) in lab.node_ledgers() {
            println!("{name}: {ledger:?}");
            println!("{:#?}", lab.snapshot(name));
        }
    })
}

impl Plan {
    fn new(number: u64) -> Self {
        let world = generate::world(&mut Dice::new(number, "lab"));
        let flows = probes(&world, &mut Dice::new(number, "traffic"));
        let mut dice = Dice::new(number, "faults");
        let warm_up = dice.chance(15).then(|| dice.millis(0, 1500));
        let schedule = faults::schedule(&world, &mut dice);
        let suffering = dice.millis(0, 4000);
        let restoration = faults::restoration(&world, &mut dice);
        Self { world, flows, warm_up, schedule, suffering, restoration }
    }
}

/// A few flows a conversation and direction. They begin at zero; [`start`] moves them.
fn probes(world: &World, dice: &mut Dice) -> Vec<Probe> {
    let mut probes = Vec::new();
    for (number, customer) in world.customers.iter().enumerate() {
        for [site, vnet] in world.conversations(customer) {
            let size = dice.between(90, 1400) as u16;
            for (direction, from, to) in
                [(Direction::ToAzure, &site, &vnet), (Direction::ToOnprem, &vnet, &site)]
            {
                let end = |(host, address): &(HostRef, _)| End {
                    host: host.to_string(),
                    address: *address,
                };
                let spread = Spread {
                    name: format!("customer {number}"),
                    direction,
                    from: end(from),
                    to: end(to),
                    flows: dice.between(1, 3) as u32,
                    rate_pps: dice.between(20, 80),
                    size,
                    start: Instant::ZERO,
                    stop: Instant::NEVER,
                    first_id: probes.len() as u32,
                };
                let probe =
                    |flow| Probe { customer: number, flow, from: from.0.clone(), to: to.0.clone() };
                probes.extend(spread.flows().into_iter().map(probe));
            }
        }
    }
    probes
}

/// Sets the flows up so that they begin as soon as the lab goes on.
fn start(lab: &mut Lab, plan: &Plan) -> Vec<Flow> {
    let lead = lab.now().since(Instant::ZERO);
    let begin = |probe: &Probe| {
        let flow = Flow { start: probe.flow.start + lead, ..probe.flow.clone() };
        for host in [&probe.from, &probe.to] {
            lab.with_host(host, |host| host.add_flow(&flow)).expect("flows fit their hosts");
        }
        flow
    };
    plan.flows.iter().map(begin).collect()
}

fn stop(lab: &mut Lab, plan: &Plan) {
    let now = lab.now();
    for probe in &plan.flows {
        lab.with_host(&probe.from, |host| host.stop_flows(now));
    }
}

/// Brings a lab up, or half up; what its routers know once it is up is what they are to know again
/// when all is restored.
fn begin(lab: &mut Lab, plan: &Plan, guard: &mut Guard) -> Result<State, String> {
    if let Some(time) = plan.warm_up {
        lab.run_until(Instant::ZERO + time, guard);
        return Ok(State::default());
    }
    converge(lab, lab.now() + CONVERGE_MAX, guard)?;
    lab.run_until(lab.now() + BFD_START, guard);
    Ok(State::of(lab))
}

/// Waits for a while in which everything arrives. A session that is up may still fall when its
/// hold timer ends sooner than the pause between two attempts of its TCP to repeat what was lost.
fn recover(
    lab: &mut Lab,
    plan: &Plan,
    flows: &[Flow],
    baseline: &State,
    guard: &mut Guard,
) -> Result<(), String> {
    let deadline = lab.now() + CONVERGE_MAX;
    loop {
        converge(lab, deadline, guard)?;
        lab.run_until(lab.now() + SETTLE, guard);
        let from = lab.now();
        lab.run_until(from + WINDOW + DRAIN, guard);
        match delivered(lab, plan, flows, from).and_then(|()| baseline.is_back(lab)) {
            Err(_) if lab.now() < deadline => {}
            result => return result,
        }
    }
}

/// Waits until every session is up that should be, and no table waits for a timer.
fn converge(lab: &mut Lab, deadline: Instant, guard: &mut Guard) -> Result<(), String> {
    while !lab.is_converged() {
        if lab.now() >= deadline {
            let missing = lab.sessions_missing();
            return Err(format!("not converged in {CONVERGE_MAX:?}; missing: {missing:?}"));
        }
        lab.run_until(lab.now() + LOOK_EVERY, guard);
    }
    Ok(())
}

/// Goes to a moment at which nothing is on the way anywhere.
fn quiesce(lab: &mut Lab, guard: &mut Guard) -> Result<(), String> {
    for _ in 0..QUIET_STEPS {
        if lab.frames_in_use() == 0 && Books::of(lab).on_the_way() == 0 {
            return Ok(());
        }
        lab.run_until(lab.now() + QUIET_STEP, guard);
    }
    let frames = lab.frames_in_use();
    let books = Books::of(lab);
    let all = books.nodes.iter().chain(&books.links);
    let waiting: Vec<_> = all.filter(|(_, ledger)| ledger.queued > 0).collect();
    Err(format!("{frames} frames stay in use, and packets stay in {waiting:?}"))
}

fn conserved(lab: &Lab) -> Result<(), String> {
    let faults = Books::of(lab).faults();
    match faults.as_slice() {
        [] if lab.totals().held => Ok(()),
        [] => Err("the lab says that its books do not hold, and they do".to_owned()),
        faults => Err(faults.join("; ")),
    }
}

fn isolated(lab: &Lab, guard: &Guard) -> Result<(), String> {
    if let Some(crossing) = &guard.crossing {
        return Err(crossing.clone());
    }
    if guard.seen == 0 {
        return Err("nobody looked at what travels on customers' links".to_owned());
    }
    match Books::of(lab).misdelivered() {
        0 => Ok(()),
        packets => Err(format!("{packets} packets were delivered to the wrong host")),
    }
}

/// Nothing is lost in the last window, but by a limiter, and that not everything.
fn delivered(lab: &mut Lab, plan: &Plan, flows: &[Flow], from: Instant) -> Result<(), String> {
    let (to, end) = (from + WINDOW, lab.now());
    let mut received = BTreeMap::new();
    let mut lost = Vec::new();
    for (probe, flow) in plan.flows.iter().zip(flows) {
        let sent = lab.with_host(&probe.from, |host| host.sent(flow.id)).expect("it begins there");
        let window = lab.with_host(&probe.to, |host| {
            let arrivals = host.arrivals(flow.id).expect("it ends there");
            Meter::new(flow, sent, arrivals, end).window(from, to)
        });
        *received.entry((probe.customer, flow.direction)).or_insert(0) += window.received;
        if window.lost > 0 && !plan.world.customers[probe.customer].limited {
            let (from, to) = (&probe.from, &probe.to);
            lost.push(format!("{from}>{to}: {} of {}", window.lost, window.sent));
        }
    }
    if !lost.is_empty() {
        return Err(format!("there is still loss: {}", lost.join(", ")));
    }
    match received.iter().find(|(_, received)| **received == 0) {
        None => Ok(()),
        Some(((customer, direction), _)) => {
            let direction = direction.name();
            Err(format!("nothing arrives of customer {customer} {direction}"))
        }
    }
}

/// Routes and BFD sessions of each router.
#[derive(Default)]
struct State(BTreeMap<String, Vec<String>>);

impl State {
    fn of(lab: &Lab) -> Self {
        let names: Vec<_> = lab.router_names().map(str::to_owned).collect();
        Self(names.into_iter().map(|name| (name.clone(), rows(lab, &name))).collect())
    }

    /// Whether each router it tells of is as it was.
    fn is_back(&self, lab: &Lab) -> Result<(), String> {
        let differs = |(name, before): (&String, &Vec<String>)| {
            let after = rows(lab, name);
            let only = |these: &[String], those: &[String]| -> Vec<String> {
                these.iter().filter(|row| !those.contains(row)).cloned().collect()
            };
            let (gone, come) = (only(before, &after), only(&after, before));
            (before != &after).then(|| format!("{name} had {gone:#?} and has {come:#?}"))
        };
        self.0.iter().find_map(differs).map_or(Ok(()), Err)
    }
}

fn rows(lab: &Lab, router: &str) -> Vec<String> {
    let Some(snapshot) = lab.snapshot(router) else { return vec!["it is down".to_owned()] };
    let routes = snapshot
        .vrfs
        .iter()
        .flat_map(|vrf| vrf.routes.iter().map(move |route| format!("{} {route:?}", vrf.name)));
    // A session that was made again has another discriminator.
    let bfd = snapshot
        .bfd
        .iter()
        .map(|row| format!("{} {} {} {:?}", row.attachment, row.peer, row.state, row.detection));
    routes.chain(bfd).collect()
}

/// FNV-1a of all that is known of a run.
fn digest(lab: &mut Lab, plan: &Plan) -> u64 {
    let books = Books::of(lab);
    let mut text = format!("{:?} {books:?}", lab.events());
    for probe in &plan.flows {
        let id = probe.flow.id;
        text += &lab.with_host(&probe.to, |host| format!("{:?}", host.arrivals(id)));
    }
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Looks at what travels on each customer's own links: access, and to gateways and VNets.
struct Guard {
    /// Owner of each link that is watched.
    owners: BTreeMap<LinkIndex, usize>,
    /// Customer of each flow, by its identifier.
    customers: Vec<usize>,
    /// Probes looked at.
    seen: u64,
    /// The first packet seen on another customer's link (F-05).
    crossing: Option<String>,
}

impl Guard {
    fn watch(lab: &mut Lab, plan: &Plan) -> Self {
        let mut owners = BTreeMap::new();
        for circuit in &plan.world.lab.circuits {
            let owner = plan.world.owner_of_circuit(&circuit.name);
            for link in LinkRole::BOTH {
                for segment in [Segment::Access, Segment::Core] {
                    let place = Place { circuit: circuit.name.clone(), link, segment };
                    for index in lab.links_at(&place) {
                        owners.insert(index, owner);
                        lab.watch(index);
                    }
                }
            }
        }
        let customers = plan.flows.iter().map(|probe| probe.customer).collect();
        Self { owners, customers, seen: 0, crossing: None }
    }
}

impl Observer for Guard {
    fn frame(&mut self, link: LinkIndex, _: fabric::Direction, bytes: &[u8], now: Instant) {
        let Some(probe) = sighting(bytes) else { return };
        self.seen += 1;
        let (sender, owner) = (self.customers[probe.flow as usize], self.owners[&link]);
        if sender != owner && self.crossing.is_none() {
            let what = format!("a packet of customer {sender} on a link of customer {owner}");
            self.crossing = Some(format!("{what} at {now:?}"));
        }
    }
}

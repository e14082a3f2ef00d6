//! The rules of the peerings, one row each, in the order in which a route meets them.
//!
//! To add one, write its function and its row, and a folder of cases in `fixtures/policy/`.

use crate::control::policy::{
    DEFAULT_LOCAL_PREFERENCE, Refusal, Route, Session, Source, is_internal,
};
use crate::model::NeighborKind::{
    self, EffectiveRoutes, Gateway, Internal, Msee, PrivatePeering, Provider,
};

/// How often the own ASN may be in a path from the customer over private peering (L-50).
const OWN_AS_FROM_CUSTOMER: usize = 1;

const EVERY: &[NeighborKind] =
    &[PrivatePeering, Gateway, Msee, EffectiveRoutes, Provider, Internal];
const EXTERNAL: &[NeighborKind] = &[PrivatePeering, Gateway, Msee, Provider];

/// A rule of import or export.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// As in reports, and the folder of its cases.
    pub name: &'static str,
    /// Where the reference says so.
    pub id: &'static str,
    pub kinds: &'static [NeighborKind],
    pub direction: Direction,
    pub step: Step,
}

/// What a rule does with a route.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Check(fn(&Session, &Route) -> Result<(), Refusal>),
    Edit(fn(&Session, &mut Route)),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    Import,
    Export,
}

pub const RULES: &[Rule] = &[
    Rule {
        name: "own-as-in-path",
        id: "L-50, F-53; RFC 4271, 9.1.2",
        kinds: EVERY,
        direction: Direction::Import,
        step: Step::Check(own_as_in_path),
    },
    Rule {
        name: "ignore-communities",
        id: "7.1, F-54",
        kinds: &[PrivatePeering],
        direction: Direction::Import,
        step: Step::Edit(ignore_communities),
    },
    Rule {
        name: "ignore-med",
        id: "section 20, BGP details",
        kinds: &[PrivatePeering],
        direction: Direction::Import,
        step: Step::Edit(ignore_med),
    },
    Rule {
        name: "local-preference",
        id: "7.4, section 20; RFC 4271, 5.1.5",
        kinds: EVERY,
        direction: Direction::Import,
        step: Step::Edit(local_preference),
    },
    Rule {
        name: "weight",
        id: "7.3, L-25",
        kinds: EVERY,
        direction: Direction::Import,
        step: Step::Edit(weight),
    },
    Rule {
        name: "split-horizon",
        id: "RFC 4271, 9.2",
        kinds: EVERY,
        direction: Direction::Export,
        step: Step::Check(split_horizon),
    },
    Rule {
        name: "no-reflection",
        id: "RFC 4271, 9.2",
        kinds: &[EffectiveRoutes, Internal],
        direction: Direction::Export,
        step: Step::Check(no_reflection),
    },
    Rule {
        name: "no-transit",
        id: "7.2, 9.4, 9.6, F-60, D-03",
        kinds: EVERY,
        direction: Direction::Export,
        step: Step::Check(no_transit),
    },
    Rule {
        name: "strip-leading-private",
        id: "7.2, F-53",
        kinds: &[PrivatePeering],
        direction: Direction::Export,
        step: Step::Edit(strip_leading_private),
    },
    Rule {
        name: "prepend-own-as",
        id: "7.2; RFC 4271, 5.1.2",
        kinds: EXTERNAL,
        direction: Direction::Export,
        step: Step::Edit(prepend_own_as),
    },
    Rule {
        name: "maintenance",
        id: "section 15, L-49, F-125",
        kinds: &[PrivatePeering, Gateway],
        direction: Direction::Export,
        step: Step::Edit(maintenance),
    },
    Rule {
        name: "next-hop-self",
        id: "section 20; RFC 4271, 5.1.3",
        kinds: EVERY,
        direction: Direction::Export,
        step: Step::Edit(next_hop_self),
    },
    Rule {
        name: "stays-inside",
        id: "section 20, MED not sent; RFC 4271, 5.1.4, 5.1.5",
        kinds: EXTERNAL,
        direction: Direction::Export,
        step: Step::Edit(stays_inside),
    },
    Rule {
        name: "carry-local-preference",
        id: "RFC 4271, 5.1.5",
        kinds: &[Internal],
        direction: Direction::Export,
        step: Step::Edit(carry_local_preference),
    },
    Rule {
        name: "weight-as-preference",
        id: "7.3, 9.6",
        kinds: &[EffectiveRoutes],
        direction: Direction::Export,
        step: Step::Edit(weight_as_preference),
    },
];

/// Takes `route` through the rules that apply to it, up to the first that refuses it.
pub(super) fn run(
    direction: Direction,
    session: &Session,
    route: &mut Route,
) -> Result<(), Refusal> {
    run_through(RULES.iter(), direction, session, route)
}

/// [`run`] with only some of the rows; tests leave one out to see that it matters.
pub(super) fn run_through<'a>(
    mut rules: impl Iterator<Item = &'a Rule>,
    direction: Direction,
    session: &Session,
    route: &mut Route,
) -> Result<(), Refusal> {
    rules.try_for_each(|rule| {
        let concerned = rule.direction == direction && rule.kinds.contains(&session.kind);
        match rule.step {
            Step::Check(check) if concerned => check(session, route)?,
            Step::Edit(edit) if concerned => edit(session, route),
            Step::Check(_) | Step::Edit(_) => {}
        }
        Ok(())
    })
}

/// A loop, except that a customer may reflect a VNet's route: it then stays a losing path (7.1).
fn own_as_in_path(session: &Session, route: &Route) -> Result<(), Refusal> {
    let accepted = if session.kind == PrivatePeering { OWN_AS_FROM_CUSTOMER } else { 0 };
    let asn = session.local_asn;
    let times = route.attributes.as_path.occurrences(asn);
    if times > accepted { Err(Refusal::OwnAs { asn, times, accepted }) } else { Ok(()) }
}

fn ignore_communities(_: &Session, route: &mut Route) {
    route.attributes.communities.clear();
    route.attributes.large_communities.clear();
}

fn ignore_med(_: &Session, route: &mut Route) {
    route.attributes.med = None;
}

/// What the configuration gives; else what iBGP carries; another AS has no say in it.
fn local_preference(session: &Session, route: &mut Route) {
    let carried = route.attributes.local_preference.filter(|_| is_internal(session.kind));
    let preference = session.import.local_preference.or(carried);
    route.attributes.local_preference = Some(preference.unwrap_or(DEFAULT_LOCAL_PREFERENCE));
}

fn weight(session: &Session, route: &mut Route) {
    route.weight = session.import.weight;
}

fn split_horizon(_: &Session, route: &Route) -> Result<(), Refusal> {
    match route.source {
        Source::Learned { back: true, .. } => Err(Refusal::SplitHorizon),
        Source::Learned { back: false, .. } | Source::Own => Ok(()),
    }
}

fn no_reflection(_: &Session, route: &Route) -> Result<(), Refusal> {
    match route.source {
        Source::Learned { kind, .. } if is_internal(kind) => Err(Refusal::Reflected),
        Source::Learned { .. } | Source::Own => Ok(()),
    }
}

/// Who hears of whom. ExpressRoute joins a customer with its VNets and nothing else: circuits are
/// not joined with one another, VNets only where the hairpin is on (D-03), and a site with two
/// links is not a way between two MSEEs.
fn no_transit(session: &Session, route: &Route) -> Result<(), Refusal> {
    let to = session.kind;
    let from = match route.source {
        // A VNet knows its own address space better than its gateway does.
        Source::Own if to == EffectiveRoutes => return Err(Refusal::OwnNotSent { to }),
        Source::Own => return Ok(()),
        Source::Learned { kind, .. } => kind,
    };
    let passes = match to {
        PrivatePeering => from == Gateway,
        Gateway => from == PrivatePeering,
        Msee => false,
        EffectiveRoutes => from == Msee,
        Provider => from == Internal,
        Internal => from == Provider,
    };
    if passes { Ok(()) } else { Err(Refusal::Transit { from, to }) }
}

/// Comes before the own ASN is put in front, so that the customer sees a VNet behind it alone.
fn strip_leading_private(_: &Session, route: &mut Route) {
    route.attributes.as_path.strip_leading_private();
}

fn prepend_own_as(session: &Session, route: &mut Route) {
    let times = 1 + usize::from(session.export.prepend);
    route.attributes.as_path.prepend(session.local_asn, times);
}

/// Drains a link: both directions see a longer path there, and leave before anything closes.
fn maintenance(session: &Session, route: &mut Route) {
    route.attributes.as_path.prepend(session.local_asn, usize::from(session.maintenance));
}

/// Except that a VNet's hosts send straight to the MSEEs, past the gateway (9.6).
fn next_hop_self(session: &Session, route: &mut Route) {
    if session.kind != EffectiveRoutes {
        route.attributes.next_hop = session.local;
    }
}

fn stays_inside(_: &Session, route: &mut Route) {
    route.attributes.local_preference = None;
    route.attributes.med = None;
}

fn carry_local_preference(_: &Session, route: &mut Route) {
    route.attributes.local_preference.get_or_insert(DEFAULT_LOCAL_PREFERENCE);
}

/// BGP carries no weight; added to the preference it decides at the VNet as it did at the gateway.
fn weight_as_preference(_: &Session, route: &mut Route) {
    let preference = DEFAULT_LOCAL_PREFERENCE + u32::from(route.weight);
    route.attributes.local_preference = Some(preference);
}

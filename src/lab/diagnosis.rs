//! Why sessions do not come up: for each of them the cause, the remedy, and what was seen.
//!
//! The causes are a list in the order of the path: link, tags, addresses, TCP, BGP. The first that
//! fits is told, since what comes after it cannot work either.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::azure;
use crate::config::lab::{Circuit, Peering, SiteRouter, Uni};
use crate::config::{CircuitLink, NodeRef, SessionRef};
use crate::fabric::Direction;
use crate::lab::watch::{Observed, Segments, Sighting};
use crate::lab::{Lab, SessionEnd, neighbor_base};
use crate::model::{Asn, LinkRole};
use crate::router::SessionRow;

/// Most sessions that are told of.
const SESSIONS_MAX: usize = 20;
/// TTL of a router with TTL security (RFC 5082, 3).
const SECURED_TTL: u8 = 255;
/// NOTIFICATION of an ASN that is not the one expected (RFC 4271, 6.2).
const BAD_PEER_AS: (u8, u8) = (2, 2);

/// What can be wrong between a customer's router and an MSEE; the answer is the first line.
type Cause = fn(&Case<'_>) -> Option<String>;

/// In the order in which they are looked for.
const CAUSES: &[Cause] = &[
    no_carrier,
    wrong_tag,
    no_frame,
    wrong_address,
    no_answer,
    wrong_asn,
    one_signs,
    keys_differ,
    ttl_security,
    refused,
    closed,
    silent,
];

/// One paragraph for each session that should be up and is not: the first line names the cause and
/// the remedy, the others, indented, what was seen. Sessions of circuits come first, since others
/// wait for them.
pub fn diagnose(lab: &Lab, observed: &Observed) -> Vec<String> {
    let mut missing: Vec<_> = lab.missing().collect();
    let mut told: Vec<String> =
        lab.routers_down().map(|router| format!("{router} is down")).collect();
    for circuit in &lab.file().circuits {
        for link in LinkRole::BOTH {
            for (peering, ipv6) in families(circuit) {
                let ends = Ends::of(lab, circuit, link, ipv6);
                let is_end = |(router, row): &(&str, SessionRow)| ends.has(router, row);
                let here = missing.iter().filter(|row| is_end(row)).cloned().collect::<Vec<_>>();
                missing.retain(|row| !is_end(row));
                if here.is_empty() {
                    continue;
                }
                let session = (peering, link, ipv6);
                told.push(match lab.file().edge_of(&circuit.name, link) {
                    Some((_, edge)) => explain(lab, observed, circuit, session, edge, &here),
                    None => no_router(circuit, link, &here),
                });
            }
        }
    }
    told.extend(missing.iter().map(|(router, row)| state_of(router, row)));
    let more = told.len().saturating_sub(SESSIONS_MAX);
    told.truncate(SESSIONS_MAX);
    if more > 0 {
        told.push(format!("and {more} more"));
    }
    told
}

fn families(circuit: &Circuit) -> impl Iterator<Item = (&Peering, bool)> {
    circuit.peerings.iter().flat_map(|peering| {
        let families = [(peering.ipv4.is_some(), false), (peering.ipv6.is_some(), true)];
        families.into_iter().filter_map(move |(there, ipv6)| there.then_some((peering, ipv6)))
    })
}

/// Both ends of a circuit's session, as their session rows are called.
struct Ends {
    ends: Vec<SessionEnd>,
    ipv6: bool,
}

impl Ends {
    fn of(lab: &Lab, circuit: &Circuit, link: LinkRole, ipv6: bool) -> Self {
        let place = CircuitLink { circuit: circuit.name.clone(), link };
        let node = NodeRef::Msee(place.clone());
        let pairs = lab.session_ends(&SessionRef::Link(place));
        let mut ends: Vec<_> = pairs.into_iter().flatten().collect();
        if ends.is_empty() {
            let vrf = lab.vrf_of(&node);
            let neighbor = azure::NO_ROUTER.to_owned();
            let routers = lab.routers_of(&node).into_iter();
            ends.extend(routers.map(|router| SessionEnd {
                router,
                vrf: vrf.clone(),
                neighbor: neighbor.clone(),
            }));
        }
        Self { ends, ipv6 }
    }

    fn has(&self, router: &str, row: &SessionRow) -> bool {
        let named = |end: &SessionEnd| {
            let name = neighbor_base(&row.neighbor);
            end.router == router && end.vrf == row.vrf && end.neighbor == name
        };
        row.peer.is_ipv6() == self.ipv6 && self.ends.iter().any(named)
    }
}

/// A session of a circuit that is not up, and what was seen of it.
struct Case<'a> {
    /// The customer's router.
    edge: &'a str,
    /// Of the ports of the customer's router and of the MSEE.
    carrier: [bool; 2],
    outer: u16,
    inner: u16,
    uni: Uni,
    customer: IpAddr,
    microsoft: IpAddr,
    peer_asn: Asn,
    /// With the right tags, where provider and MSEE meet.
    to_azure: Sighting,
    to_onprem: Sighting,
    /// Frames to Azure with other inner tags of the circuit.
    other_tags: Vec<(u16, u64)>,
    /// Frames to Azure by their tag, where customer and provider meet.
    access: Vec<(Option<u16>, u64)>,
}

/// The paragraph of one session of a circuit; `rows` are those of its ends that are not up.
fn explain(
    lab: &Lab,
    observed: &Observed,
    circuit: &Circuit,
    (peering, link, ipv6): (&Peering, LinkRole, bool),
    edge: &SiteRouter,
    rows: &[(&str, SessionRow)],
) -> String {
    let subnets = if ipv6 { &peering.ipv6 } else { &peering.ipv4 };
    let subnets = subnets.as_ref().expect("only families that the peering has are asked about");
    let uplink = edge.uplink(&circuit.name, link).expect("it was found by it");
    // Where only a part of the lab runs, the links may be elsewhere.
    let links = lab.nni(&circuit.name, link).zip(lab.access(&circuit.name, link));
    let Some((nni, access)) = links else {
        let states: Vec<_> = rows.iter().map(|(router, row)| state_of(router, row)).collect();
        return states.join("\n");
    };
    let (outer, inner) = (circuit.stag.get(), peering.vlan.get());
    let at_msee = |direction| observed.with(nni, direction, (Some(outer), Some(inner)));
    let tagged = observed.tags(nni, Direction::Forward).into_iter();
    let access = observed.tags(access, Direction::Forward).into_iter();
    let case = Case {
        edge: &edge.name,
        carrier: [
            lab.is_external(&edge.name)
                || lab.router(&edge.name).is_some_and(|router| router.has_carrier(&uplink.port)),
            lab.router(&azure::msee_name(lab.file(), circuit, link)).is_some_and(|router| {
                let vrf = azure::vrf_name(circuit, peering);
                let attachments = router.config().attachments.iter();
                let mut own = attachments.filter(|attachment| attachment.name == vrf);
                own.all(|attachment| router.has_carrier(&attachment.port))
            }),
        ],
        outer,
        inner,
        uni: circuit.provider.uni,
        customer: subnets.customer(link),
        microsoft: subnets.microsoft(link),
        peer_asn: peering.peer_asn,
        to_azure: at_msee(Direction::Forward),
        to_onprem: at_msee(Direction::Backward),
        other_tags: tagged
            .filter(|((s, c), _)| *s == Some(outer) && *c != Some(inner))
            .filter_map(|((_, c), frames)| Some((c?, frames)))
            .collect(),
        access: access.map(|((tag, _), frames)| (tag, frames)).collect(),
    };
    let family = if ipv6 { azure::IPV6_SUFFIX } else { "" };
    let cause = CAUSES.iter().find_map(|cause| cause(&case));
    let cause = cause.unwrap_or_else(|| {
        let (router, row) = &rows[0];
        state_of(router, row)
    });
    let mut text = format!("{}/{link}{family}: {cause}", circuit.name);
    for (way, sighting) in [("Azure", &case.to_azure), ("on-premises", &case.to_onprem)] {
        let seen = case.seen(sighting);
        let _ = write!(text, "\n  to {way} on {}: {seen}", case.tags(inner));
    }
    for (router, row) in rows {
        let _ = write!(text, "\n  {}", state_of(router, row));
    }
    text
}

/// The paragraph of a session whose customer's end is missing in the lab.
fn no_router(circuit: &Circuit, link: LinkRole, rows: &[(&str, SessionRow)]) -> String {
    let name = &circuit.name;
    let mut text = format!(
        "{name}/{link}: no router is on this link. Give one an uplink {{ circuit: {name}, link: \
         {link} }}."
    );
    for (router, row) in rows {
        let _ = write!(text, "\n  {}", state_of(router, row));
    }
    text
}

/// `ce1: ams/primary is Active (connection lost)`.
pub(super) fn state_of(router: &str, row: &SessionRow) -> String {
    let why = match row.last_error.as_str() {
        "" => String::new(),
        error => format!(" ({error})"),
    };
    format!("{router}: {} is {}{why}", row.neighbor, row.state)
}

fn no_carrier(case: &Case<'_>) -> Option<String> {
    let edge = case.edge;
    match case.carrier {
        [true, true] => None,
        [false, _] => Some(format!(
            "the access link has no carrier at {edge}. Look at the port and its link."
        )),
        [_, false] => {
            Some("the provider's link has no carrier at the MSEE. Look at the provider.".to_owned())
        }
    }
}

fn wrong_tag(case: &Case<'_>) -> Option<String> {
    if case.to_azure.frames > 0 {
        return None;
    }
    let asked = case.customer;
    let what = if asked.is_ipv4() { "ARP reply" } else { "neighbor advertisement" };
    let silence = format!("no {what} from {asked} on {}", case.tags(case.inner));
    if !case.other_tags.is_empty() {
        let seen = case.other_tags.iter();
        let seen: Vec<_> = seen.map(|(tag, n)| format!("{}: {n}", case.tags(*tag))).collect();
        return Some(format!("{silence}; frames seen on {}. Check vlanId.", seen.join(", ")));
    }
    let wrong = |tag: &Option<u16>| match case.uni {
        Uni::Dot1q => *tag != Some(case.inner),
        Uni::Untagged => tag.is_some(),
    };
    let (tag, frames) = case.access.iter().find(|(tag, _)| wrong(tag))?;
    let tag = tag.map_or("without a tag".to_owned(), |tag| format!("with tag {tag}"));
    let takes = match case.uni {
        Uni::Dot1q => format!("takes tag {}", case.inner),
        Uni::Untagged => "takes no tag".to_owned(),
    };
    let edge = case.edge;
    Some(format!(
        "{silence}; frames {edge} sends {tag}: {frames}, the provider {takes} there. \
         Check vlanId and uni."
    ))
}

fn no_frame(case: &Case<'_>) -> Option<String> {
    if case.to_azure.frames > 0 {
        return None;
    }
    let sent: u64 = case.access.iter().map(|(_, frames)| frames).sum();
    let (edge, tags) = (case.edge, case.tags(case.inner));
    Some(match sent {
        0 => format!(
            "no frame from {edge} on the access link. Look at its port and whether it runs."
        ),
        _ => format!(
            "no frame from {edge} on {tags}; on the access link: {sent}. Look at the provider."
        ),
    })
}

/// The two halves of the subnet exchanged, or another subnet.
fn wrong_address(case: &Case<'_>) -> Option<String> {
    let claims = &case.to_azure.claims;
    if claims.contains_key(&case.customer) {
        return None;
    }
    let mut of_family = claims.keys().filter(|used| used.is_ipv4() == case.customer.is_ipv4());
    let used =
        if claims.contains_key(&case.microsoft) { case.microsoft } else { *of_family.next()? };
    let Case { edge, customer, .. } = case;
    Some(format!(
        "{used} is used by {edge}; the customer has the first usable address {customer}, \
         Microsoft the second (6.1). Check the addresses at {edge}."
    ))
}

fn no_answer(case: &Case<'_>) -> Option<String> {
    let Case { edge, customer, .. } = case;
    let asked = case.to_onprem.asks.get(customer)?;
    (!case.to_azure.claims.contains_key(customer)).then(|| {
        format!(
            "the MSEE asked {asked} times for {customer} and {edge} did not answer. \
             Check its address."
        )
    })
}

fn wrong_asn(case: &Case<'_>) -> Option<String> {
    let asn = case.by_customer().opens_as?;
    let peer_asn = case.peer_asn.get();
    let refused = case.by_microsoft().notifications.contains_key(&BAD_PEER_AS);
    let refused = if refused { ": 2/2 Bad Peer AS" } else { "" };
    let edge = case.edge;
    (asn != peer_asn).then(|| {
        format!(
            "{edge} opens as AS {asn}, peerASN is {peer_asn}{refused}. \
             Check peerASN and the ASN of {edge}."
        )
    })
}

fn one_signs(case: &Case<'_>) -> Option<String> {
    let (customer, microsoft) = (case.by_customer(), case.by_microsoft());
    if case.is_answered() || customer.count == 0 || microsoft.count == 0 {
        return None;
    }
    let edge = case.edge;
    match (customer.signed > 0, microsoft.signed > 0) {
        (false, true) => Some(format!(
            "the MSEE signs its BGP segments (TCP-MD5), {edge} does not; a router with a key \
             drops what is not signed. Set the sharedKey of the peering at {edge}."
        )),
        (true, false) => Some(format!(
            "{edge} signs its BGP segments (TCP-MD5), the MSEE does not; a router with a key \
             drops what is not signed. Set the key as sharedKey of the peering, or take it off \
             {edge}."
        )),
        (true, true) | (false, false) => None,
    }
}

fn keys_differ(case: &Case<'_>) -> Option<String> {
    let both = case.by_customer().signed > 0 && case.by_microsoft().signed > 0;
    let edge = case.edge;
    (both && !case.is_answered()).then(|| {
        format!(
            "{edge} and the MSEE sign their BGP segments (TCP-MD5) and neither answers the other: \
             the keys differ. Check sharedKey."
        )
    })
}

fn ttl_security(case: &Case<'_>) -> Option<String> {
    let (customer, microsoft) = (case.by_customer(), case.by_microsoft());
    let (sent, (_, arrives)) = (customer.ttl?.0, microsoft.ttl?);
    let only_asks = customer.count == customer.syns;
    let edge = case.edge;
    (sent == SECURED_TTL && arrives < SECURED_TTL && only_asks).then(|| {
        format!(
            "{edge}'s BGP segments arrive with TTL {sent} and it answers nothing that arrives \
             with TTL {arrives}: ttl-security or multihop; sessions to an MSEE are single hop, \
             without GTSM (section 20). Take it off the neighbor at {edge}."
        )
    })
}

fn refused(case: &Case<'_>) -> Option<String> {
    let (customer, microsoft) = (case.by_customer(), case.by_microsoft());
    let Case { edge, customer: own, microsoft: peer, .. } = case;
    if customer.resets > 0 && microsoft.syns > 0 && customer.syn_acks == 0 {
        return Some(format!(
            "{edge} refuses BGP connections from {peer} (RST). Look whether it has the neighbor \
             and does not keep it shut."
        ));
    }
    (microsoft.resets > 0 && customer.syns > 0 && microsoft.syn_acks == 0).then(|| {
        format!(
            "the MSEE refuses BGP connections from {own} (RST). Look whether the peering is \
             enabled."
        )
    })
}

fn closed(case: &Case<'_>) -> Option<String> {
    let ends = [
        (case.edge, "Microsoft", case.by_customer()),
        ("the MSEE", case.edge, case.by_microsoft()),
    ];
    ends.into_iter().find_map(|(who, whom, segments)| {
        let ((code, subcode), times) = segments.notifications.into_iter().next()?;
        Some(format!(
            "{who} closes the session with {whom} by NOTIFICATION {code}/{subcode}, {times} times. \
             Check the BGP neighbor at {}.",
            case.edge
        ))
    })
}

/// Addresses and tags are right and BGP is not.
fn silent(case: &Case<'_>) -> Option<String> {
    let Case { edge, microsoft, .. } = case;
    (case.by_customer().count == 0).then(|| {
        format!(
            "no BGP segment from {edge} to {microsoft}. Look whether it has the neighbor and \
             nothing filters TCP port 179."
        )
    })
}

impl Case<'_> {
    fn tags(&self, inner: u16) -> String {
        format!("S{}/C{inner}", self.outer)
    }

    fn by_customer(&self) -> Segments {
        self.to_azure.segments(self.customer, self.microsoft)
    }

    fn by_microsoft(&self) -> Segments {
        self.to_onprem.segments(self.microsoft, self.customer)
    }

    /// Whether either end has taken a connection of the other.
    fn is_answered(&self) -> bool {
        self.by_customer().syn_acks > 0 || self.by_microsoft().syn_acks > 0
    }

    /// What passed in one direction, in counts.
    fn seen(&self, sighting: &Sighting) -> String {
        let mut parts = vec![format!("{} frames", sighting.frames)];
        let v4 = self.customer.is_ipv4();
        let (asks, answers) = if v4 {
            ("ARP requests for", "ARP replies from")
        } else {
            ("solicitations for", "advertisements of")
        };
        for (what, counts) in [(asks, &sighting.asks), (answers, &sighting.answers)] {
            let counts = counts.iter().filter(|(address, _)| address.is_ipv4() == v4);
            parts.extend(counts.map(|(address, n)| format!("{what} {address}: {n}")));
        }
        for ((from, to), bgp) in sighting.bgp.iter().filter(|((from, _), _)| from.is_ipv4() == v4) {
            let (least, most) = bgp.ttl.unwrap_or_default();
            let ttl = if least == most { least.to_string() } else { format!("{least}–{most}") };
            parts.push(format!(
                "BGP {from} → {to}: {} (TTL {ttl}, signed {}, SYN {}, SYN-ACK {}, RST {})",
                bgp.count, bgp.signed, bgp.syns, bgp.syn_acks, bgp.resets
            ));
            let notified = bgp.notifications.iter();
            parts
                .extend(notified.map(|((code, sub), n)| format!("NOTIFICATION {code}/{sub}: {n}")));
        }
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUSTOMER: &str = "172.16.0.1";
    const MICROSOFT: &str = "172.16.0.2";

    /// ARP works, TCP does, OPENs are right.
    fn sound() -> Case<'static> {
        let [customer, microsoft]: [IpAddr; 2] = [CUSTOMER, MICROSOFT].map(|a| a.parse().unwrap());
        let way = |own: IpAddr, other: IpAddr, ttl| {
            let segments = Segments {
                count: 20,
                ttl: Some((ttl, ttl)),
                syns: 1,
                syn_acks: 1,
                opens_as: Some(65010),
                ..Segments::default()
            };
            Sighting {
                frames: 30,
                claims: [(own, 3)].into(),
                asks: [(other, 3)].into(),
                answers: [(own, 2)].into(),
                bgp: [((own, other), segments)].into(),
            }
        };
        Case {
            edge: "ce1",
            carrier: [true; 2],
            outer: 2,
            inner: 100,
            uni: Uni::Dot1q,
            customer,
            microsoft,
            peer_asn: Asn::new(65010).unwrap(),
            to_azure: way(customer, microsoft, 1),
            to_onprem: way(microsoft, customer, 1),
            other_tags: Vec::new(),
            access: vec![(Some(100), 30)],
        }
    }

    fn by_customer<'c>(case: &'c mut Case<'_>) -> &'c mut Segments {
        case.to_azure.bgp.values_mut().next().unwrap()
    }

    fn by_microsoft<'c>(case: &'c mut Case<'_>) -> &'c mut Segments {
        case.to_onprem.bgp.values_mut().next().unwrap()
    }

    /// Nobody takes a connection of the other.
    fn unanswered(case: &mut Case<'_>) {
        for segments in case.to_azure.bgp.values_mut().chain(case.to_onprem.bgp.values_mut()) {
            *segments =
                Segments { count: 9, syns: 9, syn_acks: 0, opens_as: None, ..segments.clone() };
        }
    }

    type Wrong = fn(&mut Case<'_>);

    /// What is wrong, and how the first line begins; one row for each cause, in their order.
    const WRONG: &[(Wrong, &str)] = &[
        (|case| case.carrier[0] = false, "the access link has no carrier at ce1."),
        (
            |case| {
                case.to_azure = Sighting::default();
                case.other_tags = vec![(200, 14)];
            },
            "no ARP reply from 172.16.0.1 on S2/C100; frames seen on S2/C200: 14.",
        ),
        (
            |case| {
                case.to_azure = Sighting::default();
                case.access.clear();
            },
            "no frame from ce1 on the access link.",
        ),
        (
            |case| case.to_azure.claims = [(MICROSOFT.parse().unwrap(), 3)].into(),
            "172.16.0.2 is used by ce1;",
        ),
        (|case| case.to_azure.claims.clear(), "the MSEE asked 3 times for 172.16.0.1"),
        (
            |case| by_customer(case).opens_as = Some(65011),
            "ce1 opens as AS 65011, peerASN is 65010. Check",
        ),
        (
            |case| {
                unanswered(case);
                by_microsoft(case).signed = 9;
            },
            "the MSEE signs its BGP segments",
        ),
        (
            |case| {
                unanswered(case);
                by_microsoft(case).signed = 9;
                by_customer(case).signed = 9;
            },
            "ce1 and the MSEE sign their BGP segments",
        ),
        (
            |case| {
                unanswered(case);
                by_customer(case).ttl = Some((255, 255));
            },
            "ce1's BGP segments arrive with TTL 255 and it answers nothing that arrives with TTL 1",
        ),
        (
            |case| {
                unanswered(case);
                by_customer(case).resets = 9;
            },
            "ce1 refuses BGP connections from 172.16.0.2 (RST).",
        ),
        (
            |case| by_customer(case).notifications = [((6, 2), 4)].into(),
            "ce1 closes the session with Microsoft by NOTIFICATION 6/2, 4 times.",
        ),
        (|case| case.to_azure.bgp.clear(), "no BGP segment from ce1 to 172.16.0.2."),
    ];

    #[test]
    fn each_cause_is_found_by_its_row_alone() {
        assert_eq!(WRONG.len(), CAUSES.len());
        for (i, (wrong, expected)) in WRONG.iter().enumerate() {
            let mut case = sound();
            wrong(&mut case);
            let found = CAUSES.iter().position(|cause| cause(&case).is_some());
            assert_eq!(found, Some(i), "{expected}");
            let line = CAUSES[i](&case).unwrap();
            assert!(line.starts_with(expected), "{line}");
        }
    }

    #[test]
    fn a_sound_case_has_no_cause() {
        assert_eq!(CAUSES.iter().find_map(|cause| cause(&sound())), None);
    }
}

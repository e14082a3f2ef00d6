//! Bytes ⇄ [`Message`]. The only place that names the library that does it (measured: it costs
//! 5.6 ms per 100,000 prefixes).
//!
//! [`frame`] finds the next message in a stream, [`decode`] reads it, [`encode`] and
//! [`encode_update`] append messages to a buffer. What is wrong with a message comes back as the
//! NOTIFICATION to send, or, for an UPDATE that RFC 7606 lets live, as a [`Fault`] beside what is
//! left of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{Ipv4Net, Ipv6Net};
use rustbgpd_wire as library;
use rustbgpd_wire::{Capability, PathAttribute};
use thiserror::Error;

use crate::control::bgp::message::{
    AddPath, Disposition, Family, Fault, GracefulOffer, Kind, Message, Notification, Open,
    RouteRefresh, SAFI_UNICAST, code, subcode,
};
use crate::control::route::{AsPath, Attributes, Origin, Segment, Update};
use crate::model::{Asn, Prefix};

/// Marker, length and type (RFC 4271, 4.1).
pub const HEADER_LEN: usize = 19;
/// Largest message; the extension of RFC 8654 is not offered.
pub const MAX_LEN: usize = 4096;

const VERSION: u8 = 4;
const MARKER: [u8; 16] = [0xff; 16];
/// Local preference of a route that has none (section 20).
const DEFAULT_LOCAL_PREFERENCE: u32 = 100;

/// What both ends agreed on and decoding depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Context {
    pub family: Family,
    /// AS numbers in AS_PATH are four octets wide (RFC 6793).
    pub four_octet: bool,
    /// The peer is in the same AS.
    pub internal: bool,
    /// Where prefixes have path identifiers.
    pub add_path: AddPath,
}

/// Why a route cannot be said in a message.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum EncodeError {
    #[error("{0} is not of the session's address family")]
    Family(IpAddr),
    #[error("announced routes without attributes")]
    NoAttributes,
    #[error("path attributes of {0} octets leave no room for a prefix")]
    TooLong(usize),
    #[error("path attributes cannot be encoded: {0}")]
    Attributes(String),
}

/// Length and type of the message at the front of `stream`; `None` until its header is complete.
/// The message itself may still be incomplete (RFC 4271, 6.1).
pub fn frame(stream: &[u8]) -> Result<Option<(usize, Kind)>, Notification> {
    let Some(header) = stream.first_chunk::<HEADER_LEN>() else { return Ok(None) };
    let length = [header[16], header[17]];
    if header[..16] != MARKER {
        return Err(Notification::new(code::HEADER, subcode::header::NOT_SYNCHRONIZED));
    }
    let bad_length = Notification::with_data(code::HEADER, subcode::header::BAD_LENGTH, length);
    let length = usize::from(u16::from_be_bytes(length));
    if !(HEADER_LEN..=MAX_LEN).contains(&length) {
        return Err(bad_length);
    }
    let kind = Kind::from_octet(header[18]).ok_or_else(|| {
        Notification::with_data(code::HEADER, subcode::header::BAD_TYPE, [header[18]])
    })?;
    let fits = match kind {
        Kind::Open => length >= 29,
        Kind::Update => length >= 23,
        Kind::Notification => length >= 21,
        Kind::Keepalive => length == HEADER_LEN,
        // Its length depends on its subtype (RFC 7313, 5).
        Kind::RouteRefresh => true,
    };
    if fits { Ok(Some((length, kind))) } else { Err(bad_length) }
}

/// Reads one whole message, as [`frame`] delimited it.
pub fn decode(
    message: &[u8],
    kind: Kind,
    context: Context,
) -> Result<(Message, Option<Fault>), Notification> {
    let body = &message[HEADER_LEN..];
    Ok(match kind {
        Kind::Open => (Message::Open(decode_open(body)?), None),
        Kind::Update => {
            let (updates, fault) = decode_update(body, context)?;
            (Message::Update(updates), fault)
        }
        Kind::Notification => {
            let notification = Notification::with_data(body[0], body[1], &body[2..]);
            (Message::Notification(notification), None)
        }
        Kind::Keepalive => (Message::Keepalive, None),
        Kind::RouteRefresh => (Message::RouteRefresh(decode_route_refresh(message)?), None),
    })
}

/// Appends a message, the updates of an UPDATE as [`encode_update`] does. On an error nothing was
/// appended.
pub fn encode(message: &Message, context: Context, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match message {
        Message::Open(open) => encode_open(open, out),
        Message::Update(updates) => {
            let before = out.len();
            let one = |update| encode_update(update, context, out);
            return updates.iter().try_for_each(one).inspect_err(|_| out.truncate(before));
        }
        Message::Notification(notification) => encode_notification(notification, out),
        Message::Keepalive => framed(Kind::Keepalive, out, |_| {}),
        Message::RouteRefresh(refresh) => encode_route_refresh(*refresh, out),
    }
    Ok(())
}

/// Appends as few messages as hold the update: withdrawals first, then announcements, then the
/// End-of-RIB marker, each in messages of their own (RFC 7606, 5.1). Its path identifier is in
/// front of each prefix where that was agreed, and is not said otherwise. On an error nothing was
/// appended.
pub fn encode_update(
    update: &Update,
    context: Context,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let prefixes = update.withdrawn.iter().chain(&update.announced);
    for prefix in prefixes {
        of_family(prefix.addr(), context.family)?;
    }
    let announcement = match &update.attributes {
        _ if update.announced.is_empty() => None,
        Some(attributes) => Some(Announcement::new(attributes, context)?),
        None => return Err(EncodeError::NoAttributes),
    };
    let nlri = Nlri { path_id: context.add_path.send.then_some(update.path_id) };
    withdraw_all(&update.withdrawn, nlri, context.family, out);
    if let Some(announcement) = announcement {
        announcement.announce(&update.announced, nlri, out);
    }
    if update.end_of_rib {
        withdraw(&[], nlri, context.family, out);
    }
    Ok(())
}

/// The data of an administrative shutdown or reset (RFC 9003), cut to what RFC 8203 peers take.
pub fn shutdown_communication(text: &str) -> Vec<u8> {
    if text.is_empty() {
        return Vec::new();
    }
    library::notification::encode_shutdown_communication(text).to_vec()
}

/// A NOTIFICATION in words: `Cease/Administrative Shutdown: "maintenance"`.
pub fn describe(notification: &Notification) -> String {
    let Notification { code, subcode, data } = notification;
    let code_of = library::NotificationCode::from_u8(*code);
    let name = library::notification::description(code_of, *subcode);
    let said = library::notification::decode_shutdown_communication(data);
    let administrative = [subcode::cease::ADMIN_SHUTDOWN, subcode::cease::ADMIN_RESET];
    match said {
        Some(said) if *code == code::CEASE && administrative.contains(subcode) => {
            format!("{code}/{subcode} {name}: {said:?}")
        }
        _ => format!("{code}/{subcode} {name}"),
    }
}

/// Turns what the update announces into withdrawals (RFC 7606, 2).
pub(super) fn treat_as_withdraw(update: &mut Update) {
    update.withdrawn.append(&mut update.announced);
    update.attributes = None;
}

// Reading.

fn decode_open(body: &[u8]) -> Result<Open, Notification> {
    let open = library::OpenMessage::decode(&mut &*body, body.len()).map_err(|e| answer(&e))?;
    let mut families = Vec::new();
    let mut multiprotocol = false;
    let mut found = Open {
        asn: open.four_byte_as(),
        hold: open.hold_time,
        id: open.bgp_identifier,
        families: Vec::new(),
        four_octet: false,
        route_refresh: false,
        enhanced_refresh: false,
        add_path: Vec::new(),
        graceful: None,
    };
    for capability in &open.capabilities {
        multiprotocol |= capability.code() == library::constants::capability_code::MULTI_PROTOCOL;
        match capability {
            Capability::MultiProtocol { afi, safi: library::Safi::Unicast } => match afi {
                library::Afi::Ipv4 => families.push(Family::Ipv4),
                library::Afi::Ipv6 => families.push(Family::Ipv6),
                _ => {}
            },
            Capability::FourOctetAs { .. } => found.four_octet = true,
            Capability::RouteRefresh => found.route_refresh = true,
            Capability::EnhancedRouteRefresh => found.enhanced_refresh = true,
            // Of several the last counts (RFC 4724, 3); one of a wrong length is unknown.
            Capability::GracefulRestart { restart_state, restart_time, families, .. } => {
                let one = |each: &library::GracefulRestartFamily| {
                    let family = Family::from_numbers(each.afi as u16, each.safi as u8)?;
                    Some((family, each.forwarding_preserved))
                };
                found.graceful = Some(GracefulOffer {
                    restarted: *restart_state,
                    restart_secs: *restart_time,
                    families: families.iter().filter_map(one).collect(),
                });
            }
            Capability::AddPath(offers) => {
                let parts = |offer: &library::AddPathFamily| {
                    (offer.afi as u16, offer.safi as u8, offer.send_receive as u8)
                };
                found.add_path.extend(add_path_offers(offers.iter().map(parts)));
            }
            // What the library makes of a list with a family that it does not know.
            Capability::Unknown { code: library::constants::capability_code::ADD_PATH, data } => {
                let (offers, rest) = data.as_chunks();
                let parts = |&[high, low, safi, octet]: &[u8; 4]| {
                    (u16::from_be_bytes([high, low]), safi, octet)
                };
                if rest.is_empty() {
                    found.add_path.extend(add_path_offers(offers.iter().map(parts)));
                }
            }
            _ => {}
        }
    }
    // AS 0 in either place is an error (RFC 7607, 2).
    if open.my_as == 0 {
        found.asn = 0;
    }
    families.sort_unstable();
    families.dedup();
    found.families = if multiprotocol { families } else { vec![Family::Ipv4] };
    Ok(found)
}

/// The offers for families spoken here, of AFI, SAFI and Send/Receive. With one value that has no
/// meaning the whole list has none (RFC 7911, 4).
fn add_path_offers(list: impl Iterator<Item = (u16, u8, u8)>) -> Vec<(Family, AddPath)> {
    let offer = |(afi, safi, octet)| {
        AddPath::from_octet(octet).map(|offer| (Family::from_numbers(afi, safi), offer))
    };
    let offers = list.map(offer).collect::<Option<Vec<_>>>().unwrap_or_default();
    offers.into_iter().filter_map(|(family, offer)| Some((family?, offer))).collect()
}

fn decode_route_refresh(message: &[u8]) -> Result<RouteRefresh, Notification> {
    let body = &message[HEADER_LEN..];
    let &[afi_high, afi_low, kind, safi] = body else {
        return Err(match body.get(2) {
            Some(1 | 2) => Notification::with_data(
                code::ROUTE_REFRESH,
                subcode::route_refresh::INVALID_LENGTH,
                message,
            ),
            _ => {
                Notification::with_data(code::HEADER, subcode::header::BAD_LENGTH, &message[16..18])
            }
        });
    };
    let family = match u16::from_be_bytes([afi_high, afi_low]) {
        1 => Family::Ipv4,
        2 => Family::Ipv6,
        _ => return Ok(RouteRefresh::Unknown),
    };
    Ok(match (safi, kind) {
        (SAFI_UNICAST, 0) => RouteRefresh::Request(family),
        (SAFI_UNICAST, 1) => RouteRefresh::Begin(family),
        (SAFI_UNICAST, 2) => RouteRefresh::End(family),
        _ => RouteRefresh::Unknown,
    })
}

fn decode_update(
    body: &[u8],
    context: Context,
) -> Result<(Vec<Update>, Option<Fault>), Notification> {
    let sections =
        library::UpdateMessage::decode(&mut &*body, body.len()).map_err(|e| answer(&e))?;
    let with_ids = context.add_path.receive;
    let with_ids_in_body = with_ids && context.family == Family::Ipv4;
    let families = [(afi_of(context.family), library::Safi::Unicast)];
    let with_ids = if with_ids { &families[..] } else { &[] };
    let parsed = sections
        .parse_revised(context.four_octet, context.internal, with_ids_in_body, with_ids)
        .map_err(|e| answer(&e))?;
    let routes = Routes::of(&parsed.update, context.family);
    let mut faults: Vec<_> = parsed.malformed.iter().map(fault_of).collect();
    if routes.multicast {
        faults.push(discard("a multicast prefix was announced".to_owned()));
    }
    if routes.strangers {
        faults.push(discard("routes of an address family that was not negotiated".to_owned()));
    }
    let validated = library::validate::validate_update_attributes(
        &parsed.update.attributes,
        routes.is_announcing(),
        routes.in_body,
        !context.internal,
    );
    if let Err(error) = validated {
        faults.push(Fault {
            disposition: disposition(error.disposition),
            subcode: error.subcode,
            why: library::notification::description(
                library::NotificationCode::UpdateMessage,
                error.subcode,
            )
            .to_owned(),
        });
    }

    let unsound = |faults: &[Fault]| {
        faults.iter().any(|fault| fault.disposition == Disposition::TreatAsWithdraw)
    };
    let mut attributes = None;
    if !unsound(&faults) && routes.is_announcing() {
        match attributes_of(&parsed.update.attributes, &routes.next_hops, context) {
            Ok(found) => attributes = Some(Arc::new(found)),
            Err(fault) => faults.push(fault),
        }
    }
    let mut updates = routes.by_path.updates;
    for update in updates.iter_mut().filter(|update| !update.announced.is_empty()) {
        update.attributes.clone_from(&attributes);
    }
    // With no reachable NLRI beside the bad attributes, they may have been in what could not be
    // read (RFC 7606, 5.2).
    let strongest = faults.into_iter().rev().max_by_key(|fault| fault.disposition);
    if let Some(fault) = &strongest
        && fault.disposition == Disposition::TreatAsWithdraw
    {
        if !routes.reachable {
            return Err(Notification::new(code::UPDATE, fault.subcode));
        }
        updates.iter_mut().for_each(treat_as_withdraw);
    }
    if strongest.is_none() && routes.only_marker {
        updates.push(Update { end_of_rib: true, ..Update::default() });
    }
    Ok((updates, strongest))
}

/// The routes of an UPDATE that belong to the session's family, wherever in it they stand.
struct Routes {
    by_path: ByPath,
    next_hops: Vec<IpAddr>,
    /// Announced outside MP_REACH_NLRI.
    in_body: bool,
    /// Some were of another family.
    strangers: bool,
    /// Some were multicast, and are not in `by_path` (RFC 4271, 6.3).
    multicast: bool,
    /// Something is announced, of whatever family.
    reachable: bool,
    /// An End-of-RIB marker of the family (RFC 4724, 2).
    only_marker: bool,
}

impl Routes {
    fn of(parsed: &library::ParsedUpdate, family: Family) -> Self {
        let mut by_path = ByPath::default();
        let mut next_hops = Vec::new();
        let mut strangers = false;
        let mut reachable = !parsed.announced.is_empty();
        let mut only_marker = family == Family::Ipv4 && parsed.attributes.is_empty();
        let in_body = family == Family::Ipv4 && !parsed.announced.is_empty();
        if family == Family::Ipv4 {
            by_path.withdraw(parsed.withdrawn.iter().map(route4));
            by_path.announce(parsed.announced.iter().map(route4));
        } else {
            strangers |= !parsed.withdrawn.is_empty() || !parsed.announced.is_empty();
        }
        for attribute in &parsed.attributes {
            match attribute {
                PathAttribute::NextHop(address) if in_body => next_hops.push((*address).into()),
                PathAttribute::MpReachNlri(reach) => {
                    reachable = true;
                    if is_family(reach.afi, reach.safi, family) {
                        by_path.announce(reach.announced.iter().map(route_of));
                        next_hops.push(reach.next_hop);
                    } else {
                        strangers = true;
                    }
                }
                PathAttribute::MpUnreachNlri(unreach) => {
                    if is_family(unreach.afi, unreach.safi, family) {
                        only_marker = parsed.attributes.len() == 1;
                        by_path.withdraw(unreach.withdrawn.iter().map(route_of));
                    } else {
                        strangers = true;
                    }
                }
                _ => {}
            }
        }
        let multicast = by_path.multicast;
        only_marker &= by_path.updates.is_empty() && !strangers;
        Self { by_path, next_hops, in_body, strangers, multicast, reachable, only_marker }
    }

    fn is_announcing(&self) -> bool {
        self.by_path.updates.iter().any(|update| !update.announced.is_empty())
    }
}

/// An update for each path identifier, in the order in which the identifiers come, each with its
/// prefixes in the order in which they come.
#[derive(Default)]
struct ByPath {
    updates: Vec<Update>,
    /// Where in `updates` an identifier is. A message may have some 800 of them.
    places: BTreeMap<u32, usize>,
    /// Something multicast was to be announced.
    multicast: bool,
}

impl ByPath {
    fn withdraw(&mut self, routes: impl Iterator<Item = (u32, Prefix)>) {
        for (path_id, prefix) in routes {
            self.of(path_id).withdrawn.push(prefix);
        }
    }

    fn announce(&mut self, routes: impl Iterator<Item = (u32, Prefix)>) {
        for (path_id, prefix) in routes {
            if prefix.addr().is_multicast() {
                self.multicast = true;
            } else {
                self.of(path_id).announced.push(prefix);
            }
        }
    }

    fn of(&mut self, path_id: u32) -> &mut Update {
        let place = match self.updates.last() {
            Some(last) if last.path_id == path_id => self.updates.len() - 1,
            _ => *self.places.entry(path_id).or_insert(self.updates.len()),
        };
        if place == self.updates.len() {
            self.updates.push(Update { path_id, ..Update::default() });
        }
        &mut self.updates[place]
    }
}

fn attributes_of(
    from: &[PathAttribute],
    next_hops: &[IpAddr],
    context: Context,
) -> Result<Attributes, Fault> {
    let withdraw = |subcode, why: &str| Fault {
        disposition: Disposition::TreatAsWithdraw,
        subcode,
        why: why.to_owned(),
    };
    let missing = |why| withdraw(subcode::update::MISSING_WELL_KNOWN, why);
    let next_hop = *next_hops.first().ok_or_else(|| missing("no NEXT_HOP"))?;
    if next_hops.iter().any(|&each| each != next_hop) {
        return Err(withdraw(subcode::update::INVALID_NEXT_HOP, "two next hops"));
    }
    if of_family(next_hop, context.family).is_err() {
        let why = "next hop of another address family";
        return Err(withdraw(subcode::update::INVALID_NEXT_HOP, why));
    }
    let mut origin = None;
    let mut as_path = None;
    let mut attributes = Attributes {
        origin: Origin::Incomplete,
        as_path: AsPath::default(),
        next_hop,
        med: None,
        local_preference: None,
        communities: Vec::new(),
        large_communities: Vec::new(),
    };
    for attribute in from {
        match attribute {
            PathAttribute::Origin(value) => {
                origin = Some(match value {
                    library::attribute::Origin::Igp => Origin::Igp,
                    library::attribute::Origin::Egp => Origin::Egp,
                    library::attribute::Origin::Incomplete => Origin::Incomplete,
                });
            }
            PathAttribute::AsPath(path) => {
                let zero = |_| withdraw(subcode::update::MALFORMED_AS_PATH, "AS 0 (RFC 7607)");
                as_path = Some(path_of(path).map_err(zero)?);
            }
            PathAttribute::Med(med) => attributes.med = Some(*med),
            // From an external peer it means nothing (RFC 4271, 5.1.5).
            PathAttribute::LocalPref(preference) if context.internal => {
                attributes.local_preference = Some(*preference);
            }
            PathAttribute::Communities(values) | PathAttribute::CommunitiesPartial(values) => {
                attributes.communities.clone_from(values);
            }
            PathAttribute::LargeCommunities(values)
            | PathAttribute::LargeCommunitiesPartial(values) => {
                let parts = values.iter().map(|c| (c.global_admin, c.local_data1, c.local_data2));
                attributes.large_communities = parts.collect();
            }
            _ => {}
        }
    }
    attributes.origin = origin.ok_or_else(|| missing("no ORIGIN"))?;
    attributes.as_path = as_path.ok_or_else(|| missing("no AS_PATH"))?;
    Ok(attributes)
}

fn path_of(path: &library::attribute::AsPath) -> Result<AsPath, crate::model::ValueError> {
    let numbers =
        |asns: &[u32]| asns.iter().map(|&asn| Asn::new(asn)).collect::<Result<Vec<_>, _>>();
    let segments = path.segments.iter().map(|segment| {
        Ok(match segment {
            library::AsPathSegment::AsSequence(asns) => Segment::Sequence(numbers(asns)?),
            library::AsPathSegment::AsSet(asns) => Segment::Set(numbers(asns)?),
        })
    });
    segments.collect::<Result<_, _>>().map(AsPath)
}

fn fault_of(malformed: &library::attribute::MalformedAttribute) -> Fault {
    let (_, subcode, _) = malformed.error.to_notification();
    Fault {
        disposition: disposition(malformed.disposition),
        subcode,
        why: malformed.error.to_string(),
    }
}

fn discard(why: String) -> Fault {
    Fault { disposition: Disposition::AttributeDiscard, subcode: subcode::update::UNSPECIFIC, why }
}

/// Errors the library would reset the session for arrive as its `Err`; duplicates it has already
/// removed cannot be reported again.
fn disposition(of: library::validate::ErrorDisposition) -> Disposition {
    match of {
        library::validate::ErrorDisposition::AttributeDiscard => Disposition::AttributeDiscard,
        library::validate::ErrorDisposition::TreatAsWithdraw
        | library::validate::ErrorDisposition::SessionReset => Disposition::TreatAsWithdraw,
    }
}

fn answer(error: &library::DecodeError) -> Notification {
    let (code, subcode, data) = error.to_notification();
    Notification::with_data(code.as_u8(), subcode, data.to_vec())
}

fn is_family(afi: library::Afi, safi: library::Safi, family: Family) -> bool {
    Family::from_numbers(afi as u16, safi as u8) == Some(family)
}

fn afi_of(family: Family) -> library::Afi {
    match family {
        Family::Ipv4 => library::Afi::Ipv4,
        Family::Ipv6 => library::Afi::Ipv6,
    }
}

fn route4(entry: &library::Ipv4NlriEntry) -> (u32, Prefix) {
    (entry.path_id, net4(entry.prefix.addr, entry.prefix.len))
}

fn route_of(entry: &library::NlriEntry) -> (u32, Prefix) {
    let prefix = match entry.prefix {
        library::Prefix::V4(prefix) => net4(prefix.addr, prefix.len),
        library::Prefix::V6(prefix) => net6(prefix.addr, prefix.len),
    };
    (entry.path_id, prefix)
}

fn net4(address: Ipv4Addr, length: u8) -> Prefix {
    Ipv4Net::new(address, length).expect("the library checked the length").trunc().into()
}

fn net6(address: Ipv6Addr, length: u8) -> Prefix {
    Ipv6Net::new(address, length).expect("the library checked the length").trunc().into()
}

// Writing.

fn encode_open(open: &Open, out: &mut Vec<u8>) {
    let safi = library::Safi::Unicast;
    let families = open.families.iter();
    let mut capabilities: Vec<_> =
        families.map(|&each| Capability::MultiProtocol { afi: afi_of(each), safi }).collect();
    if open.route_refresh {
        capabilities.push(Capability::RouteRefresh);
    }
    if open.four_octet {
        capabilities.push(Capability::FourOctetAs { asn: open.asn });
    }
    if open.enhanced_refresh {
        capabilities.push(Capability::EnhancedRouteRefresh);
    }
    let offer = |&(family, offer): &(Family, AddPath)| {
        let send_receive = match (offer.send, offer.receive) {
            (false, false) => return None,
            (false, true) => library::AddPathMode::Receive,
            (true, false) => library::AddPathMode::Send,
            (true, true) => library::AddPathMode::Both,
        };
        Some(library::AddPathFamily { afi: afi_of(family), safi, send_receive })
    };
    let offers: Vec<_> = open.add_path.iter().filter_map(offer).collect();
    if !offers.is_empty() {
        capabilities.push(Capability::AddPath(offers));
    }
    if let Some(offer) = &open.graceful {
        let one = |&(family, forwarding_preserved): &(Family, bool)| {
            library::GracefulRestartFamily { afi: afi_of(family), safi, forwarding_preserved }
        };
        capabilities.push(Capability::GracefulRestart {
            restart_state: offer.restarted,
            // A NOTIFICATION ends all (RFC 4724, not RFC 8538).
            notification: false,
            restart_time: offer.restart_secs.min(GracefulOffer::MAX_SECS),
            families: offer.families.iter().map(one).collect(),
        });
    }
    let message = library::OpenMessage {
        version: VERSION,
        my_as: u16::try_from(open.asn).unwrap_or(Asn::TRANS.get() as u16),
        hold_time: open.hold,
        bgp_identifier: open.id,
        capabilities,
    };
    message.encode(out).expect("two families and what else is offered fit in an OPEN");
}

fn encode_notification(notification: &Notification, out: &mut Vec<u8>) {
    framed(Kind::Notification, out, |out| {
        out.extend([notification.code, notification.subcode]);
        let room = MAX_LEN - HEADER_LEN - 2;
        out.extend(&notification.data[..notification.data.len().min(room)]);
    });
}

fn encode_route_refresh(refresh: RouteRefresh, out: &mut Vec<u8>) {
    let (family, kind) = match refresh {
        RouteRefresh::Request(family) => (family, 0),
        RouteRefresh::Begin(family) => (family, 1),
        RouteRefresh::End(family) => (family, 2),
        RouteRefresh::Unknown => return,
    };
    framed(Kind::RouteRefresh, out, |out| {
        out.extend(family.afi().to_be_bytes());
        out.extend([kind, SAFI_UNICAST]);
    });
}

/// Appends a header, what `body` appends, and then sets the length.
fn framed(kind: Kind, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend(MARKER);
    out.extend([0, 0, kind as u8]);
    body(out);
    let length = out.len() - start;
    debug_assert!(length <= MAX_LEN);
    out[start + 16..start + 18].copy_from_slice(&(length as u16).to_be_bytes());
}

mod attribute {
    pub(super) const OPTIONAL_EXTENDED: u8 = 0x90;
    pub(super) const MP_REACH: u8 = 14;
    pub(super) const MP_UNREACH: u8 = 15;
    /// Flags, type, two octets of length.
    pub(super) const EXTENDED_HEADER_LEN: usize = 4;
}

/// Header, length of the withdrawn routes, length of the attributes.
const UPDATE_OVERHEAD: usize = HEADER_LEN + 4;

/// AFI, SAFI, length and value of the next hop, one reserved octet (RFC 4760, 3).
const REACH_OVERHEAD: usize = attribute::EXTENDED_HEADER_LEN + 3 + 1 + 16 + 1;
const UNREACH_OVERHEAD: usize = attribute::EXTENDED_HEADER_LEN + 3;

/// Attributes on the wire, and the room they leave.
struct Announcement {
    attributes: Vec<u8>,
    /// Of the MP_REACH_NLRI that comes first of all (RFC 7606, 5.1).
    next_hop: Option<Ipv6Addr>,
    room: usize,
}

impl Announcement {
    /// The longest prefix: a path identifier, a length and 16 octets.
    const MIN_ROOM: usize = 4 + 1 + 16;

    fn new(from: &Attributes, context: Context) -> Result<Self, EncodeError> {
        of_family(from.next_hop, context.family)?;
        let next_hop = match from.next_hop {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address),
        };
        let mut attributes = Vec::new();
        let list = list_of(from, context);
        library::attribute::encode_path_attributes(
            &list,
            &mut attributes,
            context.four_octet,
            false,
        )
        .map_err(|error| EncodeError::Attributes(error.to_string()))?;
        let reach = if next_hop.is_some() { REACH_OVERHEAD } else { 0 };
        let used = UPDATE_OVERHEAD + attributes.len() + reach;
        let room = MAX_LEN.checked_sub(used).filter(|&room| room >= Self::MIN_ROOM);
        let room = room.ok_or(EncodeError::TooLong(attributes.len()))?;
        Ok(Self { attributes, next_hop, room })
    }

    fn announce(&self, mut prefixes: &[Prefix], nlri: Nlri, out: &mut Vec<u8>) {
        while !prefixes.is_empty() {
            let (now, later) = prefixes.split_at(nlri.how_many_fit(prefixes, self.room));
            framed(Kind::Update, out, |out| self.one(now, nlri, out));
            prefixes = later;
        }
    }

    fn one(&self, prefixes: &[Prefix], nlri: Nlri, out: &mut Vec<u8>) {
        let Some(next_hop) = self.next_hop else {
            out.extend([0, 0]);
            out.extend((self.attributes.len() as u16).to_be_bytes());
            out.extend(&self.attributes);
            nlri.put(prefixes, out);
            return;
        };
        let reach = REACH_OVERHEAD + nlri.len(prefixes);
        out.extend([0, 0]);
        out.extend(((reach + self.attributes.len()) as u16).to_be_bytes());
        out.extend([attribute::OPTIONAL_EXTENDED, attribute::MP_REACH]);
        out.extend(((reach - attribute::EXTENDED_HEADER_LEN) as u16).to_be_bytes());
        out.extend(Family::Ipv6.afi().to_be_bytes());
        out.extend([SAFI_UNICAST, 16]);
        out.extend(next_hop.octets());
        out.push(0);
        nlri.put(prefixes, out);
        out.extend(&self.attributes);
    }
}

fn list_of(from: &Attributes, context: Context) -> Vec<PathAttribute> {
    let segments = from.as_path.0.iter().map(|segment| match segment {
        Segment::Sequence(asns) => {
            library::AsPathSegment::AsSequence(asns.iter().map(|asn| asn.get()).collect())
        }
        Segment::Set(asns) => {
            library::AsPathSegment::AsSet(asns.iter().map(|asn| asn.get()).collect())
        }
    });
    let mut list = vec![
        PathAttribute::Origin(match from.origin {
            Origin::Igp => library::attribute::Origin::Igp,
            Origin::Egp => library::attribute::Origin::Egp,
            Origin::Incomplete => library::attribute::Origin::Incomplete,
        }),
        PathAttribute::AsPath(library::attribute::AsPath { segments: segments.collect() }),
    ];
    if let IpAddr::V4(address) = from.next_hop {
        list.push(PathAttribute::NextHop(address));
    }
    list.extend(from.med.map(PathAttribute::Med));
    // Between internal peers it has to be there, between external ones it must not
    // (RFC 4271, 5.1.5).
    if context.internal {
        let preference = from.local_preference.unwrap_or(DEFAULT_LOCAL_PREFERENCE);
        list.push(PathAttribute::LocalPref(preference));
    }
    if !from.communities.is_empty() {
        list.push(PathAttribute::Communities(from.communities.clone()));
    }
    if !from.large_communities.is_empty() {
        let values = from.large_communities.iter();
        let values = values.map(|&(a, b, c)| library::attribute::LargeCommunity::new(a, b, c));
        list.push(PathAttribute::LargeCommunities(values.collect()));
    }
    list
}

fn withdraw_all(mut prefixes: &[Prefix], nlri: Nlri, family: Family, out: &mut Vec<u8>) {
    let overhead = match family {
        Family::Ipv4 => UPDATE_OVERHEAD,
        Family::Ipv6 => UPDATE_OVERHEAD + UNREACH_OVERHEAD,
    };
    while !prefixes.is_empty() {
        let (now, later) = prefixes.split_at(nlri.how_many_fit(prefixes, MAX_LEN - overhead));
        withdraw(now, nlri, family, out);
        prefixes = later;
    }
}

/// One message; of no prefixes, it is the End-of-RIB marker.
fn withdraw(prefixes: &[Prefix], nlri: Nlri, family: Family, out: &mut Vec<u8>) {
    let length = nlri.len(prefixes);
    framed(Kind::Update, out, |out| match family {
        Family::Ipv4 => {
            out.extend((length as u16).to_be_bytes());
            nlri.put(prefixes, out);
            out.extend([0, 0]);
        }
        Family::Ipv6 => {
            let unreach = UNREACH_OVERHEAD + length;
            out.extend([0, 0]);
            out.extend((unreach as u16).to_be_bytes());
            out.extend([attribute::OPTIONAL_EXTENDED, attribute::MP_UNREACH]);
            out.extend(((unreach - attribute::EXTENDED_HEADER_LEN) as u16).to_be_bytes());
            out.extend(Family::Ipv6.afi().to_be_bytes());
            out.push(SAFI_UNICAST);
            nlri.put(prefixes, out);
        }
    });
}

/// How prefixes are written (RFC 4271, 4.3; RFC 7911, 3).
#[derive(Clone, Copy)]
struct Nlri {
    /// In front of each prefix; `None` where it was not agreed on.
    path_id: Option<u32>,
}

impl Nlri {
    fn how_many_fit(self, prefixes: &[Prefix], room: usize) -> usize {
        let mut used = 0;
        let fits = |prefix: &&Prefix| {
            used += self.len_of(prefix);
            used <= room
        };
        prefixes.iter().take_while(fits).count()
    }

    fn len(self, prefixes: &[Prefix]) -> usize {
        prefixes.iter().map(|prefix| self.len_of(prefix)).sum()
    }

    fn len_of(self, prefix: &Prefix) -> usize {
        let path_id = if self.path_id.is_some() { 4 } else { 0 };
        path_id + 1 + octets_of(prefix)
    }

    fn put(self, prefixes: &[Prefix], out: &mut Vec<u8>) {
        for prefix in prefixes {
            if let Some(path_id) = self.path_id {
                out.extend(path_id.to_be_bytes());
            }
            out.push(prefix.prefix_len());
            let octets = octets_of(prefix);
            match prefix.network() {
                IpAddr::V4(address) => out.extend(&address.octets()[..octets]),
                IpAddr::V6(address) => out.extend(&address.octets()[..octets]),
            }
        }
    }
}

fn octets_of(prefix: &Prefix) -> usize {
    usize::from(prefix.prefix_len().div_ceil(8))
}

fn of_family(address: IpAddr, family: Family) -> Result<(), EncodeError> {
    let same = match family {
        Family::Ipv4 => address.is_ipv4(),
        Family::Ipv6 => address.is_ipv6(),
    };
    if same { Ok(()) } else { Err(EncodeError::Family(address)) }
}

#[cfg(test)]
pub(super) mod tests;

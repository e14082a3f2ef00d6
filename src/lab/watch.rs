//! What passes on the wires of circuits while a lab comes up, from frames alone, so that it is the
//! same whatever runs the customer's side. [`diagnosis`](super::diagnosis) reads it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::fabric::{Direction, LinkIndex, Observer};
use crate::lab::Lab;
use crate::model::{Instant, LinkRole};
use crate::wire::tcp::{self, Flags, option};
use crate::wire::{arp, ethertype, icmpv6, ipv4, ipv6, ndp, protocol, vlan};

/// Where BGP listens (RFC 4271, 8.2.1).
const BGP: u16 = 179;
/// Most things of one kind that are told apart; a peer that makes them up fills no memory.
const KINDS_MAX: usize = 1000;

/// Sees every frame of the access and the provider–MSEE links.
#[derive(Debug)]
pub struct Watch {
    /// Links nobody else looks at, which are shown no longer afterwards.
    access: Vec<LinkIndex>,
    seen: Observed,
}

/// What was seen, by link, direction and tags.
#[derive(Debug, Default)]
pub struct Observed {
    sightings: BTreeMap<(LinkIndex, Direction, Tags), Sighting>,
}

/// Outer and inner tag of a frame.
pub type Tags = (Option<u16>, Option<u16>);

/// Frames of the same tags in one direction of a link.
#[derive(Clone, Debug, Default)]
pub struct Sighting {
    pub frames: u64,
    /// Addresses that somebody said are theirs: by ARP, or by neighbour discovery.
    pub claims: BTreeMap<IpAddr, u64>,
    /// Addresses that were asked for.
    pub asks: BTreeMap<IpAddr, u64>,
    /// Addresses that were answered for.
    pub answers: BTreeMap<IpAddr, u64>,
    /// By source and destination.
    pub bgp: BTreeMap<(IpAddr, IpAddr), Segments>,
}

/// BGP's TCP segments from one address to another.
#[derive(Clone, Debug, Default)]
pub struct Segments {
    pub count: u64,
    /// Lowest and highest TTL or hop limit.
    pub ttl: Option<(u8, u8)>,
    /// With the option of TCP-MD5.
    pub signed: u64,
    pub syns: u64,
    pub syn_acks: u64,
    pub resets: u64,
    /// ASN of the last OPEN.
    pub opens_as: Option<u32>,
    /// NOTIFICATIONs by code and subcode.
    pub notifications: BTreeMap<(u8, u8), u64>,
}

impl Watch {
    /// Begins to look at the links of every circuit.
    pub fn new(lab: &mut Lab) -> Self {
        let names: Vec<_> = lab.file().circuits.iter().map(|c| c.name.clone()).collect();
        let mut access = Vec::new();
        for name in names {
            for link in LinkRole::BOTH {
                let ends = [lab.access(&name, link), lab.nni(&name, link)];
                ends.into_iter().flatten().for_each(|index| lab.watch(index));
                access.extend(ends[0]);
            }
        }
        Self { access, seen: Observed::default() }
    }

    /// Ends the look at links that only this watched; what was seen.
    pub fn finish(self, lab: &mut Lab) -> Observed {
        self.access.into_iter().for_each(|index| lab.unwatch(index));
        self.seen
    }
}

impl Observer for Watch {
    fn frame(&mut self, link: LinkIndex, direction: Direction, bytes: &[u8], _: Instant) {
        let Ok(tags) = vlan::Tags::parse(bytes) else { return };
        let key = (link, direction, (tags.outer, tags.inner));
        let sightings = &mut self.seen.sightings;
        if sightings.len() >= KINDS_MAX && !sightings.contains_key(&key) {
            return;
        }
        let sighting = sightings.entry(key).or_default();
        sighting.frames += 1;
        let packet = &bytes[tags.payload_offset..];
        match tags.ethertype {
            ethertype::ARP => sighting.arp(packet),
            ethertype::IPV4 => sighting.ipv4(packet),
            ethertype::IPV6 => sighting.ipv6(packet),
            _ => {}
        }
    }
}

impl Observed {
    /// What has these tags; nothing when no frame had.
    pub fn with(&self, link: LinkIndex, direction: Direction, tags: Tags) -> Sighting {
        self.sightings.get(&(link, direction, tags)).cloned().unwrap_or_default()
    }

    /// Frames of one direction of a link by their tags.
    pub fn tags(&self, link: LinkIndex, direction: Direction) -> Vec<(Tags, u64)> {
        let here = self.sightings.iter().filter(|((l, d, _), _)| (*l, *d) == (link, direction));
        here.map(|((_, _, tags), sighting)| (*tags, sighting.frames)).collect()
    }
}

impl Sighting {
    pub fn segments(&self, source: IpAddr, destination: IpAddr) -> Segments {
        self.bgp.get(&(source, destination)).cloned().unwrap_or_default()
    }

    fn arp(&mut self, packet: &[u8]) {
        let Ok(arp) = arp::View::new(packet).and_then(|view| arp::Repr::parse(&view)) else {
            return;
        };
        if !arp.sender.is_unspecified() {
            count(&mut self.claims, arp.sender.into());
        }
        match arp.operation {
            arp::Operation::Request if arp.sender != arp.target => {
                count(&mut self.asks, arp.target.into());
            }
            // An announcement (RFC 5227, 3).
            arp::Operation::Request => {}
            arp::Operation::Reply => count(&mut self.answers, arp.sender.into()),
        }
    }

    fn ipv4(&mut self, packet: &[u8]) {
        let Ok(view) = ipv4::View::new(packet) else { return };
        if view.protocol() == protocol::TCP && !view.is_fragment() {
            let ends = (view.source().into(), view.destination().into());
            self.tcp(ends, view.ttl(), view.payload());
        }
    }

    fn ipv6(&mut self, packet: &[u8]) {
        let Ok(view) = ipv6::View::new(packet) else { return };
        match view.next_header() {
            protocol::TCP => {
                let ends = (view.source().into(), view.destination().into());
                self.tcp(ends, view.hop_limit(), view.payload());
            }
            protocol::ICMPV6 if icmpv6::View::new(view.payload()).is_ok() => {
                self.ndp(view.source(), view.payload());
            }
            _ => {}
        }
    }

    fn ndp(&mut self, source: std::net::Ipv6Addr, message: &[u8]) {
        let claimed = match ndp::Repr::parse(message) {
            // Whoever asks whether an address is free wants it (RFC 4862, 5.4).
            Ok(ndp::Repr::NeighborSolicit { target, .. }) if source.is_unspecified() => target,
            Ok(ndp::Repr::NeighborSolicit { target, .. }) => {
                count(&mut self.asks, target.into());
                source
            }
            Ok(ndp::Repr::NeighborAdvert { target, .. }) => {
                count(&mut self.answers, target.into());
                target
            }
            Err(_) => return,
        };
        if !claimed.is_unicast_link_local() {
            count(&mut self.claims, claimed.into());
        }
    }

    fn tcp(&mut self, ends: (IpAddr, IpAddr), ttl: u8, segment: &[u8]) {
        let Ok(view) = tcp::View::new(segment) else { return };
        if view.source_port() != BGP && view.destination_port() != BGP {
            return;
        }
        if self.bgp.len() >= KINDS_MAX && !self.bgp.contains_key(&ends) {
            return;
        }
        let seen = self.bgp.entry(ends).or_default();
        seen.count += 1;
        let (least, most) = seen.ttl.unwrap_or((ttl, ttl));
        seen.ttl = Some((least.min(ttl), most.max(ttl)));
        seen.signed += u64::from(view.options().any(|option| option.kind == option::MD5));
        let has = |flag| view.flags().contains(flag);
        seen.syns += u64::from(has(Flags::SYN) && !has(Flags::ACK));
        seen.syn_acks += u64::from(has(Flags::SYN) && has(Flags::ACK));
        seen.resets += u64::from(has(Flags::RST));
        seen.messages(view.payload());
    }
}

/// BGP's message header (RFC 4271, 4.1).
const MARKER: [u8; 16] = [0xff; 16];
const HEADER_LEN: usize = 19;
const OPEN: u8 = 1;
const NOTIFICATION: u8 = 3;
/// Where an OPEN has its ASN and its optional parameters (RFC 4271, 4.2).
const OPEN_AS: usize = 1;
const OPEN_PARAMETERS: usize = 9;
/// An optional parameter that holds capabilities, and that of four-octet ASNs (RFC 5492, RFC 6793).
const CAPABILITIES: u8 = 2;
const FOUR_OCTET_AS: u8 = 65;

impl Segments {
    /// Reads the messages that begin with the segment; what is cut in two is left alone.
    fn messages(&mut self, mut octets: &[u8]) {
        while let Some((header, _)) = octets.split_at_checked(HEADER_LEN) {
            let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
            let whole = header[..16] == MARKER && length >= HEADER_LEN;
            let Some((message, rest)) = octets.split_at_checked(length).filter(|_| whole) else {
                return;
            };
            let body = &message[HEADER_LEN..];
            match (header[18], body) {
                (OPEN, body) => self.opens_as = asn_of_open(body).or(self.opens_as),
                (NOTIFICATION, [code, subcode, ..]) => {
                    count(&mut self.notifications, (*code, *subcode));
                }
                _ => {}
            }
            octets = rest;
        }
    }
}

/// The ASN an OPEN gives: that of the capability, else that of the fixed part.
fn asn_of_open(body: &[u8]) -> Option<u32> {
    let [high, low] = *body.get(OPEN_AS..)?.first_chunk()?;
    let (&length, parameters) = body.get(OPEN_PARAMETERS..)?.split_first()?;
    let parameters = parameters.get(..usize::from(length)).unwrap_or_default();
    let capabilities = values(parameters).filter(|(kind, _)| *kind == CAPABILITIES);
    let four = capabilities
        .flat_map(|(_, capabilities)| values(capabilities))
        .find_map(|(code, value)| (code == FOUR_OCTET_AS).then(|| value.try_into().ok())?)
        .map(u32::from_be_bytes);
    Some(four.unwrap_or_else(|| u32::from(u16::from_be_bytes([high, low]))))
}

/// Kind, length of one octet, value; as often as it goes.
fn values(mut octets: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let [kind, length, rest @ ..] = octets else { return None };
        let (value, rest) = rest.split_at_checked(usize::from(*length))?;
        octets = rest;
        Some((*kind, value))
    })
}

fn count<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K) {
    if counts.len() < KINDS_MAX || counts.contains_key(&key) {
        *counts.entry(key).or_default() += 1;
    }
}

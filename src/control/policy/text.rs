//! Attributes and sessions as words, for fixtures: `path=12076,65010 next-hop=172.16.0.2`.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use crate::control::route::{AsPath, Attributes, Origin};
use crate::model::{Asn, NeighborKind};

/// The words of a line, by key.
pub(crate) struct Words<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Words<'a> {
    pub(crate) fn of(line: &'a str) -> Self {
        Self(line.split_whitespace().filter_map(|word| word.split_once('=')).collect())
    }

    pub(crate) fn value(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find(|(each, _)| *each == key).map(|(_, value)| *value)
    }

    pub(crate) fn parsed<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        let parse = |text: &str| text.parse().unwrap_or_else(|_| panic!("{key}={text}"));
        self.value(key).map(parse)
    }

    pub(crate) fn millis(&self, key: &str) -> Duration {
        Duration::from_millis(self.parsed(key).unwrap_or(0))
    }

    pub(crate) fn asn(&self, key: &str) -> Option<Asn> {
        self.parsed(key).map(|number| Asn::new(number).unwrap())
    }

    pub(crate) fn kind(&self, key: &str) -> Option<NeighborKind> {
        use NeighborKind::*;
        let known = [PrivatePeering, Gateway, Msee, EffectiveRoutes, Provider, Internal];
        let name = self.value(key)?;
        let found = known.into_iter().find(|kind| format!("{kind:?}") == name);
        Some(found.unwrap_or_else(|| panic!("{key}={name}")))
    }

    /// `next_hop` when the line has none.
    pub(crate) fn attributes(&self, next_hop: IpAddr) -> Attributes {
        let numbers = |text: &str| text.split(',').map(|n| n.parse().unwrap()).collect::<Vec<_>>();
        let path = self.value("path").filter(|text| !text.is_empty());
        let path = path.map(numbers).unwrap_or_default();
        let large = |text: &str| {
            let parts: Vec<_> = text.split(':').map(|n| n.parse().unwrap()).collect();
            (parts[0], parts[1], parts[2])
        };
        Attributes {
            origin: match self.value("origin") {
                None | Some("igp") => Origin::Igp,
                Some("egp") => Origin::Egp,
                Some(_) => Origin::Incomplete,
            },
            as_path: AsPath::sequence(path.into_iter().map(|n| Asn::new(n).unwrap())),
            next_hop: self.parsed("next-hop").unwrap_or(next_hop),
            med: self.parsed("med"),
            local_preference: self.parsed("preference"),
            communities: self.value("communities").map(numbers).unwrap_or_default(),
            large_communities: self.value("large").map(large).into_iter().collect(),
        }
    }
}

pub(crate) fn show(attributes: &Attributes) -> String {
    let list =
        |numbers: &[u32]| numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let path: Vec<_> = attributes.as_path.asns().map(Asn::get).collect();
    let mut text = format!("path={} next-hop={}", list(&path), attributes.next_hop);
    match attributes.origin {
        Origin::Igp => {}
        Origin::Egp => text += " origin=egp",
        Origin::Incomplete => text += " origin=incomplete",
    }
    if let Some(med) = attributes.med {
        write!(text, " med={med}").unwrap();
    }
    if let Some(preference) = attributes.local_preference {
        write!(text, " preference={preference}").unwrap();
    }
    if !attributes.communities.is_empty() {
        write!(text, " communities={}", list(&attributes.communities)).unwrap();
    }
    for (a, b, c) in &attributes.large_communities {
        write!(text, " large={a}:{b}:{c}").unwrap();
    }
    text
}

//! Routes as BGP carries them: a prefix and its path attributes.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::{Asn, Prefix};

/// An UPDATE in terms of one address family.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Update {
    pub withdrawn: Vec<Prefix>,
    pub announced: Vec<Prefix>,
    /// Of all that is announced; `None` when nothing is.
    pub attributes: Option<Arc<Attributes>>,
    /// End-of-RIB marker (RFC 4724, 2).
    pub end_of_rib: bool,
    /// Of every prefix in it; 0 on a session that did not agree on ADD-PATH (RFC 7911, 3).
    pub path_id: u32,
}

/// Path attributes (RFC 4271, 5; RFC 1997; RFC 8092).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Attributes {
    pub origin: Origin,
    pub as_path: AsPath,
    pub next_hop: IpAddr,
    pub med: Option<u32>,
    pub local_preference: Option<u32>,
    pub communities: Vec<u32>,
    pub large_communities: Vec<(u32, u32, u32)>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Origin {
    Igp,
    Egp,
    Incomplete,
}

/// An AS path, nearest AS first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct AsPath(pub Vec<Segment>);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Segment {
    Sequence(Vec<Asn>),
    Set(Vec<Asn>),
}

impl AsPath {
    pub fn sequence(asns: impl IntoIterator<Item = Asn>) -> Self {
        let asns: Vec<_> = asns.into_iter().collect();
        if asns.is_empty() { Self::default() } else { Self(vec![Segment::Sequence(asns)]) }
    }

    /// Its length in the decision process: a set counts one (RFC 4271, 9.1.2.2 a).
    pub fn length(&self) -> usize {
        let of = |segment: &Segment| match segment {
            Segment::Sequence(asns) => asns.len(),
            Segment::Set(_) => 1,
        };
        self.0.iter().map(of).sum()
    }

    pub fn occurrences(&self, asn: Asn) -> usize {
        self.asns().filter(|&each| each == asn).count()
    }

    /// The AS the route came from last; `None` when the path is empty or begins with a set.
    pub fn first(&self) -> Option<Asn> {
        match self.0.first() {
            Some(Segment::Sequence(asns)) => asns.first().copied(),
            Some(Segment::Set(_)) | None => None,
        }
    }

    pub fn asns(&self) -> impl Iterator<Item = Asn> {
        self.0.iter().flat_map(|segment| match segment {
            Segment::Sequence(asns) | Segment::Set(asns) => asns.iter().copied(),
        })
    }

    /// Puts `asn` in front `times` times (RFC 4271, 5.1.2). A full segment of 255 gets another
    /// before it.
    pub fn prepend(&mut self, asn: Asn, times: usize) {
        for _ in 0..times {
            match self.0.first_mut() {
                Some(Segment::Sequence(asns)) if asns.len() < 255 => asns.insert(0, asn),
                _ => self.0.insert(0, Segment::Sequence(vec![asn])),
            }
        }
    }

    /// Takes away the leading run of private ASNs, up to the first other AS (7.2).
    pub fn strip_leading_private(&mut self) {
        while let Some(Segment::Sequence(asns)) = self.0.first_mut() {
            let private = asns.iter().take_while(|asn| asn.is_private()).count();
            asns.drain(..private);
            if !asns.is_empty() {
                return;
            }
            self.0.remove(0);
        }
    }
}

/// `12076 65010 {64700,64701}`; empty for a path of no AS.
impl fmt::Display for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |asns: &[Asn], by: &str| {
            asns.iter().map(ToString::to_string).collect::<Vec<_>>().join(by)
        };
        for (i, segment) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            match segment {
                Segment::Sequence(asns) => f.write_str(&list(asns, " "))?,
                Segment::Set(asns) => write!(f, "{{{}}}", list(asns, ","))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(asns: &[u32]) -> AsPath {
        AsPath::sequence(asns.iter().map(|&asn| Asn::new(asn).unwrap()))
    }

    #[test]
    fn only_the_leading_run_of_private_asns_goes() {
        // Both rows were captured (section 7.2).
        for (before, after) in [
            (&[65515, 65515, 65520, 65520][..], &[][..]),
            (&[65515, 65515, 64496, 65520], &[64496, 65520]),
            (&[1234, 65515], &[1234, 65515]),
        ] {
            let mut stripped = path(before);
            stripped.strip_leading_private();
            assert_eq!(stripped, path(after));
        }
    }

    #[test]
    fn prepending_counts_and_reads_as_in_tables() {
        let mut nine = path(&[]);
        nine.prepend(Asn::MICROSOFT, 9);
        assert_eq!(nine.length(), 9);
        assert_eq!(nine.occurrences(Asn::MICROSOFT), 9);
        nine.0.push(Segment::Set(vec![Asn::new(1).unwrap(), Asn::new(2).unwrap()]));
        assert_eq!(nine.length(), 10);
        assert!(nine.to_string().ends_with("12076 {1,2}"));
    }

    #[test]
    fn a_full_segment_gets_another_before_it() {
        let mut long = path(&[7; 255]);
        long.prepend(Asn::MICROSOFT, 1);
        assert_eq!(long.0.len(), 2);
        assert_eq!(long.first(), Some(Asn::MICROSOFT));
    }
}

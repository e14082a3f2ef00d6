//! BGP messages as the router means them, without their wire format.

use std::net::Ipv4Addr;

use crate::control::route::Update;

/// The address family of a session; unicast.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    /// The family of an AFI and a SAFI; `None` for one not spoken here.
    pub const fn from_numbers(afi: u16, safi: u8) -> Option<Self> {
        match (afi, safi) {
            (1, SAFI_UNICAST) => Some(Self::Ipv4),
            (2, SAFI_UNICAST) => Some(Self::Ipv6),
            _ => None,
        }
    }

    /// Address family number (IANA).
    pub const fn afi(self) -> u16 {
        match self {
            Self::Ipv4 => 1,
            Self::Ipv6 => 2,
        }
    }
}

/// Unicast, the only subsequent address family spoken here.
pub const SAFI_UNICAST: u8 = 1;

/// A message of RFC 4271, 4 or RFC 2918.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    Open(Open),
    /// One for each path identifier in it; none when it holds no route and is no marker.
    Update(Vec<Update>),
    Notification(Notification),
    Keepalive,
    RouteRefresh(RouteRefresh),
}

/// The type of a message, as its header tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Open = 1,
    Update = 2,
    Notification = 3,
    Keepalive = 4,
    RouteRefresh = 5,
}

impl Kind {
    pub const fn from_octet(octet: u8) -> Option<Self> {
        Some(match octet {
            1 => Self::Open,
            2 => Self::Update,
            3 => Self::Notification,
            4 => Self::Keepalive,
            5 => Self::RouteRefresh,
            _ => return None,
        })
    }
}

/// In which directions prefixes carry path identifiers, so that a prefix may have several paths
/// (RFC 7911).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AddPath {
    pub send: bool,
    pub receive: bool,
}

impl AddPath {
    pub const NONE: Self = Self { send: false, receive: false };
    pub const BOTH: Self = Self { send: true, receive: true };

    /// Of the capability's Send/Receive field; `None` for values without a meaning (RFC 7911, 4).
    pub const fn from_octet(octet: u8) -> Option<Self> {
        match octet {
            1 => Some(Self { send: false, receive: true }),
            2 => Some(Self { send: true, receive: false }),
            3 => Some(Self::BOTH),
            _ => None,
        }
    }

    /// What an offer and the peer's come to: each direction needs its sender and its receiver.
    #[must_use]
    pub const fn agreed(self, peer: Self) -> Self {
        Self { send: self.send && peer.receive, receive: self.receive && peer.send }
    }
}

/// An OPEN and the capabilities in it that mean something here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Open {
    /// The true AS number, from the capability where there is one (RFC 6793). As received: may be
    /// zero.
    pub asn: u32,
    /// Seconds offered; zero for none.
    pub hold: u16,
    pub id: Ipv4Addr,
    /// Families offered; a peer without the capability speaks IPv4 (RFC 4760, 8).
    pub families: Vec<Family>,
    pub four_octet: bool,
    /// RFC 2918.
    pub route_refresh: bool,
    /// RFC 7313.
    pub enhanced_refresh: bool,
    /// Families of which several paths are offered, and in which directions (RFC 7911).
    pub add_path: Vec<(Family, AddPath)>,
    /// RFC 4724.
    pub graceful: Option<GracefulOffer>,
}

/// What an OPEN says about restarts of its sender (RFC 4724, 3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GracefulOffer {
    /// The R bit: the sender has started again and waits for End-of-RIB markers.
    pub restarted: bool,
    /// How long the sender may be away; at most [`GracefulOffer::MAX_SECS`].
    pub restart_secs: u16,
    /// Families whose routes are to be kept meanwhile, and the F bit: whether forwarding did keep
    /// them. None of a sender that only keeps those of others.
    pub families: Vec<(Family, bool)>,
}

impl GracefulOffer {
    /// Of a field of 12 bits.
    pub const MAX_SECS: u16 = 0x0fff;

    /// The F bit of a family, where the family is named.
    pub fn preserved(&self, family: Family) -> Option<bool> {
        let named = self.families.iter().find(|(each, _)| *each == family);
        named.map(|&(_, preserved)| preserved)
    }
}

impl Open {
    /// What it offers for `family`.
    pub fn add_path_of(&self, family: Family) -> AddPath {
        let offer = self.add_path.iter().find(|(each, _)| *each == family);
        offer.map_or(AddPath::NONE, |&(_, offer)| offer)
    }
}

/// A NOTIFICATION, or what one should say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notification {
    pub code: u8,
    pub subcode: u8,
    pub data: Vec<u8>,
}

impl Notification {
    pub fn new(code: u8, subcode: u8) -> Self {
        Self::with_data(code, subcode, [])
    }

    pub fn with_data(code: u8, subcode: u8, data: impl Into<Vec<u8>>) -> Self {
        Self { code, subcode, data: data.into() }
    }
}

/// Error codes (RFC 4271, 4.5; RFC 7313, 5).
pub mod code {
    pub const HEADER: u8 = 1;
    pub const OPEN: u8 = 2;
    pub const UPDATE: u8 = 3;
    pub const HOLD_TIMER_EXPIRED: u8 = 4;
    pub const FSM: u8 = 5;
    pub const CEASE: u8 = 6;
    pub const ROUTE_REFRESH: u8 = 7;
}

/// Error subcodes, by the code they belong to.
pub mod subcode {
    /// RFC 4271, 6.1.
    pub mod header {
        pub const NOT_SYNCHRONIZED: u8 = 1;
        pub const BAD_LENGTH: u8 = 2;
        pub const BAD_TYPE: u8 = 3;
    }

    /// RFC 4271, 6.2; RFC 5492, 5.
    pub mod open {
        pub const BAD_PEER_AS: u8 = 2;
        pub const BAD_IDENTIFIER: u8 = 3;
        pub const UNACCEPTABLE_HOLD_TIME: u8 = 6;
        pub const UNSUPPORTED_CAPABILITY: u8 = 7;
    }

    /// RFC 4271, 6.3.
    pub mod update {
        pub const UNSPECIFIC: u8 = 0;
        pub const MISSING_WELL_KNOWN: u8 = 3;
        pub const INVALID_NEXT_HOP: u8 = 8;
        pub const MALFORMED_AS_PATH: u8 = 11;
    }

    /// RFC 6608, 3.
    pub mod fsm {
        pub const UNEXPECTED_IN_OPEN_SENT: u8 = 1;
        pub const UNEXPECTED_IN_OPEN_CONFIRM: u8 = 2;
        pub const UNEXPECTED_IN_ESTABLISHED: u8 = 3;
    }

    /// RFC 4486, 3; RFC 9384.
    pub mod cease {
        pub const MAX_PREFIXES: u8 = 1;
        pub const ADMIN_SHUTDOWN: u8 = 2;
        pub const PEER_DECONFIGURED: u8 = 3;
        pub const ADMIN_RESET: u8 = 4;
        pub const CONFIG_CHANGE: u8 = 6;
        pub const COLLISION: u8 = 7;
        pub const OUT_OF_RESOURCES: u8 = 8;
        pub const BFD_DOWN: u8 = 10;
    }

    /// RFC 7313, 5.
    pub mod route_refresh {
        pub const INVALID_LENGTH: u8 = 1;
    }
}

/// A ROUTE-REFRESH for the session's family (RFC 2918, 3; RFC 7313, 3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouteRefresh {
    Request(Family),
    Begin(Family),
    End(Family),
    /// A family or subtype not spoken here; ignored (RFC 2918, 4; RFC 7313, 5).
    Unknown,
}

/// What RFC 7606 lets a malformed UPDATE do short of ending the session; the stronger is last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Disposition {
    AttributeDiscard,
    TreatAsWithdraw,
}

/// What was wrong with an UPDATE that did not end the session: its code is [`code::UPDATE`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    pub disposition: Disposition,
    pub subcode: u8,
    pub why: String,
}

//! Why packets are dropped, and the ledger in which every packet is accounted for.

/// Declares the reasons: the row is the counter, the field in reports and the sentence in the help.
macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why a packet was dropped.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl DropReason {
            pub const ALL: &[Self] = &[$(Self::$variant,)+];
            pub const COUNT: usize = Self::ALL.len();

            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The sentence for a person.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc,)+),)+ }
            }
        }
    };
}

drop_reasons! {
    /// The tags (or the VNI) belong to no attachment of the port.
    UnknownTags = "unknown-tags",
    /// The frame was for another MAC address.
    NotForUs = "not-for-us",
    /// A header was cut short, inconsistent or had a wrong checksum.
    Malformed = "malformed",
    /// The protocol is none that the router forwards or listens to.
    UnknownProtocol = "unknown-protocol",
    /// The time to live (hop limit) ran out here.
    TtlExpired = "ttl-expired",
    /// No route for the destination in the VRF's table.
    NoRoute = "no-route",
    /// The next hop's MAC address is not known.
    NoNeighbor = "no-neighbor",
    /// Larger than the MTU of where it would leave.
    TooLarge = "too-large",
    /// Above the circuit's bandwidth on this link and direction.
    RateLimited = "rate-limited",
    /// Too many packets for the router itself at once.
    PuntFull = "punt-full",
    /// The router's control process, for which the packet was, did not run.
    ControlDown = "control-down",
    /// The router's control process, for which the packet was, had too many of them to take.
    ControlBusy = "control-busy",
    /// A BFD packet that belongs to no session on the attachment it came in on.
    BfdRefused = "bfd-refused",
    /// No frame was free.
    NoBuffer = "no-buffer",
    /// The router was down.
    NodeDown = "node-down",
    /// Content of another conversation reached a host: what must never happen (F-05).
    Misdelivered = "misdelivered",
    /// The link was cut, or a fault swallowed the frame.
    LinkDown = "link-down",
    /// Lost on the way by the link's loss rate.
    LinkLoss = "link-loss",
    /// The link's queue was full.
    LinkFull = "link-full",
}

/// What the stages have decided about a packet. `Next` after the last stage means: transmit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Next,
    Drop(DropReason),
    Punt(PuntReason),
    /// A single-hop BFD packet to one of the router's addresses; the sessions decide.
    Bfd,
}

/// Why a packet leaves the path for the router itself: [`PuntClass`](crate::model::PuntClass)
/// without what can be read from the packet's context.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum PuntReason {
    Arp,
    Ndp,
    Tcp,
    Local,
    TtlExpired,
    TooLarge,
    Glean,
}

impl PuntReason {
    pub const COUNT: usize = Self::Glean as usize + 1;

    /// What a packet is counted as when its class is over the limit. For the errors the punt is a
    /// courtesy to the sender: the packet is lost for the reason it would have been told.
    pub const fn refused_as(self) -> DropReason {
        match self {
            Self::TtlExpired => DropReason::TtlExpired,
            Self::TooLarge => DropReason::TooLarge,
            Self::Arp | Self::Ndp | Self::Tcp | Self::Local | Self::Glean => DropReason::PuntFull,
        }
    }
}

/// Where packets went. In wire packets; a super-frame counts its segments.
///
/// received + originated = transmitted + consumed + queued + Σ dropped, at every batch boundary.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ledger {
    pub received: u64,
    pub originated: u64,
    pub transmitted: u64,
    /// Taken by the router itself (punt) or by a host.
    pub consumed: u64,
    pub queued: u64,
    pub dropped: [u64; DropReason::COUNT],
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            received: 0,
            originated: 0,
            transmitted: 0,
            consumed: 0,
            queued: 0,
            dropped: [0; DropReason::COUNT],
        }
    }
}

impl Ledger {
    pub fn drop(&mut self, reason: DropReason, packets: u64) {
        self.dropped[reason as usize] += packets;
    }

    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Whether the conservation equation holds.
    pub fn holds(&self) -> bool {
        self.received + self.originated
            == self.transmitted + self.consumed + self.queued + self.dropped_total()
    }

    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.originated += other.originated;
        self.transmitted += other.transmitted;
        self.consumed += other.consumed;
        self.queued += other.queued;
        for (sum, more) in self.dropped.iter_mut().zip(other.dropped) {
            *sum += more;
        }
    }
}

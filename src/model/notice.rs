//! What forwarding tells control, and the packets that pass between them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::model::{AttachmentIndex, PortIndex, VrfIndex};
use crate::wire::MacAddr;

/// Something forwarding saw; in order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Notice {
    Punted(Punted),
    BfdUp {
        attachment: AttachmentIndex,
        peer: IpAddr,
    },
    /// The session left Up. Never-up sessions and restarts of the peer are not failures.
    BfdDown {
        attachment: AttachmentIndex,
        peer: IpAddr,
        reason: BfdDownReason,
    },
    Carrier {
        port: PortIndex,
        up: bool,
    },
    /// Groups that lost a member to BFD or carrier were rewritten before control knew.
    GroupsRewritten {
        vrf: VrfIndex,
        attachment: AttachmentIndex,
        next_hop: IpAddr,
        groups: u16,
    },
}

/// Why a BFD session went down (RFC 5880, 4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum BfdDownReason {
    DetectionTimeExpired,
    NeighborSignaledDown,
    /// The peer took its session out of service: no failure of the path (RFC 5882, 4.2).
    NeighborAdminDown,
    /// The peer began a fresh session (another discriminator) before the detection time passed:
    /// no failure of the path. FRR does so whenever its BGP comes up.
    NeighborRestarted,
}

impl BfdDownReason {
    /// Whether the path is to be given up.
    pub const fn is_failure(self) -> bool {
        match self {
            Self::DetectionTimeExpired | Self::NeighborSignaledDown => true,
            Self::NeighborAdminDown | Self::NeighborRestarted => false,
        }
    }

    pub const fn text(self) -> &'static str {
        match self {
            Self::DetectionTimeExpired => "control detection time expired",
            Self::NeighborSignaledDown => "neighbor signaled session down",
            Self::NeighborAdminDown => "neighbor took it out of service",
            Self::NeighborRestarted => "neighbor restarted it",
        }
    }
}

/// A packet for the router itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Punted {
    pub attachment: AttachmentIndex,
    pub class: PuntClass,
    pub source: MacAddr,
    /// Without its Ethernet header and tags: an ARP packet or an IP packet.
    #[serde(with = "serde_bytes")]
    pub packet: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum PuntClass {
    Arp,
    /// Neighbour and router discovery (ICMPv6 133–137).
    Ndp,
    Tcp,
    /// ICMP or anything else to one of our addresses.
    Local,
    TtlExpired,
    /// Larger than the egress MTU given, with DF set or IPv6.
    TooLarge {
        mtu: u16,
    },
    /// Forwarded, but the MAC of this next hop is not known yet.
    Glean {
        egress: AttachmentIndex,
        next_hop: IpAddr,
    },
}

/// A packet of the router's own making (or one that waited for a MAC), to leave by an attachment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Injected {
    pub attachment: AttachmentIndex,
    pub destination: MacAddr,
    pub ethertype: u16,
    #[serde(with = "serde_bytes")]
    pub packet: Vec<u8>,
}

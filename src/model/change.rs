//! What control tells forwarding: one ordered, serialisable stream.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{
    AttachmentIndex, Bandwidth, Encapsulation, GroupIndex, LimiterIndex, PortIndex, Prefix,
    VrfIndex,
};
use crate::wire::MacAddr;

/// One step of the forwarding side from one state to the next. Applied in order; a batch of them
/// is published to the tables that packets read by one store.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Change {
    Port {
        index: PortIndex,
        entry: PortEntry,
    },
    /// `None` takes the attachment away.
    Attachment {
        index: AttachmentIndex,
        entry: Option<AttachmentEntry>,
    },
    /// A changed rate takes effect at once and keeps the bucket's state and counters (F-23).
    Limiter {
        index: LimiterIndex,
        parameters: Option<LimiterParameters>,
    },
    /// The MAC of a neighbour; `None` when it is not (or no longer) known.
    Neighbor {
        attachment: AttachmentIndex,
        address: IpAddr,
        mac: Option<MacAddr>,
    },
    /// What a group of next hops consists of; at most [`Member::MAX`]. Empty frees the index.
    Group {
        vrf: VrfIndex,
        group: GroupIndex,
        members: Vec<Member>,
    },
    /// Where a prefix leads; `None` takes the route away.
    Route {
        vrf: VrfIndex,
        prefix: Prefix,
        group: Option<GroupIndex>,
    },
    /// A BFD session; `None` ends it. Equal parameters change nothing.
    Bfd {
        attachment: AttachmentIndex,
        peer: IpAddr,
        session: Option<BfdParameters>,
    },
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PortEntry {
    pub name: String,
    pub mac: MacAddr,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AttachmentEntry {
    pub name: String,
    pub port: PortIndex,
    pub encapsulation: Encapsulation,
    pub service: InnerService,
    /// Largest IP packet that leaves here, bytes.
    pub mtu: u16,
    /// The router's addresses here, link-local ones included.
    pub addresses: Vec<IpAddr>,
    pub ingress_limiters: Vec<LimiterIndex>,
    pub egress_limiters: Vec<LimiterIndex>,
    pub polices_control: bool,
    pub answers_icmp: bool,
}

/// [`Service`](crate::model::Service) by index.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum InnerService {
    Vrf(VrfIndex),
    CrossConnect(AttachmentIndex),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LimiterParameters {
    pub rate: Bandwidth,
    pub depth_bytes: u64,
}

/// One way out of a group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Member {
    pub attachment: AttachmentIndex,
    /// `None`: the destination itself is on the link, and its MAC has to be asked for (glean).
    pub next_hop: Option<IpAddr>,
    /// Place of this next hop among all that the VRF may ever use; stable while others come and
    /// go, so that only the flows of a lost member move and a regained one gets its own back.
    pub ordinal: u8,
}

impl Member {
    /// Most members of a group: two MSEEs of each of the four circuits of L-19.
    pub const MAX: usize = 8;
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BfdParameters {
    pub local: IpAddr,
    pub desired_min_tx: Duration,
    pub required_min_rx: Duration,
    pub detect_mult: u8,
}

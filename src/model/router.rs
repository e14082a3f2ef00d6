//! The desired state of one router: what `azure::compile` and the lab write, and
//! `router::Router::apply` makes true. Objects have names; nothing here is an index.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Asn, Bandwidth, Prefix, VlanId};
use crate::wire::MacAddr;

/// Everything one router should be. Two equal values mean the same router.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RouterConfig {
    /// As in reports: `ce1`, `Amsterdam/primary`, `hub/er#0`.
    pub name: String,
    pub role: Role,
    pub router_id: Ipv4Addr,
    pub hash: FlowHash,
    /// Whether it tells its links of its addresses when it starts: by gratuitous ARP (RFC 5227,
    /// 2.3) and unsolicited neighbour advertisements.
    pub announces_addresses: bool,
    pub ports: Vec<PortConfig>,
    pub limiters: Vec<LimiterConfig>,
    pub vrfs: Vec<VrfConfig>,
    pub attachments: Vec<AttachmentConfig>,
}

/// What a router is for. A role is configuration and policy, not another program.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Msee,
    Provider,
    Edge,
    Gateway,
    Vnet,
}

/// How a router spreads flows over equal next hops. Each router has its own seed, so the two
/// directions of a conversation choose independently unless the hash is symmetric (section 20).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlowHash {
    #[default]
    Asymmetric,
    Symmetric,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PortConfig {
    pub name: String,
    /// One MAC a port, the same for all its attachments (section 20).
    pub mac: MacAddr,
}

/// A token bucket with a name; attachments that name the same one share it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LimiterConfig {
    /// As in reports: `ams/primary:in` (towards Azure), `ams/primary:out`.
    pub name: String,
    pub rate: Bandwidth,
    /// How long a burst at unlimited speed passes; depth = max(burst × rate, 10 full frames).
    pub burst: Duration,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AttachmentConfig {
    /// Unique in the router: `ams/AzurePrivatePeering`, `lan:erp.host`.
    pub name: String,
    pub port: String,
    pub encapsulation: Encapsulation,
    pub service: Service,
    /// Largest IP packet that leaves here, bytes (L-26).
    pub mtu: u16,
    pub addresses: Vec<AddressOnLink>,
    /// Limiters a packet that enters here is charged to, in order; then those of where it leaves.
    pub ingress_limiters: Vec<String>,
    pub egress_limiters: Vec<String>,
    /// Whether the limiters of a cross-connect also see ARP, BFD and BGP that pass through
    /// (`policesControl`).
    pub polices_control: bool,
    /// Whether the router answers ICMP errors here; a gateway is silent (F-78).
    pub answers_icmp: bool,
}

/// The tags (or VNI) that belong to an attachment on its port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Encapsulation {
    Untagged,
    Dot1q(VlanId),
    /// Both tags TPID 0x8100 (section 5).
    QinQ {
        outer: VlanId,
        inner: VlanId,
    },
    /// A backbone attachment.
    Vni(u32),
}

/// What an attachment leads to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Service {
    Vrf(String),
    /// Frames go to that attachment of the same router as they are, tags replaced.
    CrossConnect(String),
}

/// An address of the router on an attachment, and the block it can reach there without a router.
/// On a point-to-point backbone attachment the block is the peer alone (/32, /128).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct AddressOnLink {
    pub address: IpAddr,
    pub on_link: Prefix,
}

/// A routing domain: its own table, neighbours and policy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VrfConfig {
    /// Unique in the router and used in reports: `ams/AzurePrivatePeering`, `main`.
    pub name: String,
    pub asn: Asn,
    /// Most next hops of one route; 1 switches ECMP off.
    pub max_paths: u8,
    pub originated: Vec<OriginatedPrefix>,
    pub statics: Vec<StaticRoute>,
    pub neighbors: Vec<NeighborConfig>,
    /// How much later than it learned of it the router reprograms its FIB; the VNet's hosts
    /// (section 20, Convergence inside Azure). Zero elsewhere.
    pub convergence: ConvergenceDelay,
}

pub use convergence::ConvergenceDelay;

mod convergence {
    use std::time::Duration;

    use serde::{Deserialize, Serialize};

    /// Delay of FIB changes, by what kind of change.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
    pub struct ConvergenceDelay {
        pub on_withdraw: Spread,
        pub on_announce: Spread,
    }

    /// A spread of durations by its smallest, its median and its largest.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
    pub struct Spread {
        pub min: Duration,
        pub p50: Duration,
        pub max: Duration,
    }

    impl ConvergenceDelay {
        /// Every change takes the longest there is.
        #[must_use]
        pub fn worst(self) -> Self {
            let always = |Spread { max, .. }| Spread { min: max, p50: max, max };
            Self { on_withdraw: always(self.on_withdraw), on_announce: always(self.on_announce) }
        }
    }
}

pub use convergence::Spread;

/// A prefix the router announces as its own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OriginatedPrefix {
    pub prefix: Prefix,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StaticRoute {
    pub prefix: Prefix,
    pub attachment: String,
    pub next_hop: IpAddr,
}

/// A BGP neighbour: one session, one address family, single hop.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NeighborConfig {
    /// Unique in the router: `ce1`, `hub/er#0`.
    pub name: String,
    pub kind: NeighborKind,
    pub attachment: String,
    pub local: IpAddr,
    pub peer: IpAddr,
    pub peer_asn: Asn,
    /// Place among the router's next hops; keeps a flow on its member when others come and go.
    pub ordinal: u8,
    /// Operator's switch: a disabled session is shut down (F-61).
    pub enabled: bool,
    /// TCP-MD5 key (L-23).
    pub md5: Option<String>,
    pub ttl: SessionTtl,
    /// Hold time offered; the keepalive is a third of what is agreed (L-11).
    pub hold: Duration,
    pub graceful_restart: GracefulRestart,
    pub bfd: Option<BfdConfig>,
    pub import: ImportPolicy,
    pub export: ExportPolicy,
}

/// What both ends of a session do when the control process of one starts again (RFC 4724).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub enum GracefulRestart {
    /// It is not offered.
    #[default]
    Off,
    /// Routes of a neighbour that starts again are kept; nobody is asked to keep the own ones.
    Helper,
    /// The neighbour is asked to keep the own routes, too.
    Full,
}

impl GracefulRestart {
    /// As in a lab file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Helper => "helper",
            Self::Full => "full",
        }
    }
}

/// TTL (hop limit) of a session's packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionTtl {
    pub sent: u8,
    /// The least that is accepted; what arrives with less is dropped without a word.
    pub least: u8,
}

impl SessionTtl {
    /// With an external neighbour on the link, as an MSEE has it (section 20: single hop, no
    /// GTSM).
    pub const SINGLE_HOP: Self = Self { sent: 1, least: 1 };
    /// With an external neighbour that is to prove it is on the link (RFC 5082, 3).
    pub const SECURED: Self = Self { sent: 255, least: 255 };
    /// Inside an AS, where other routers may be between.
    pub const INTERNAL: Self = Self { sent: 255, least: 1 };
}

/// Whom a session is with; the policy rules of `control::policy` go by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum NeighborKind {
    /// On an MSEE: the customer's edge over private peering.
    PrivatePeering,
    /// On an MSEE: an instance of a VNet gateway.
    Gateway,
    /// On a gateway: an MSEE.
    Msee,
    /// On a gateway or a VNet: the other; carries the gateway's table with its next hops (9.6).
    EffectiveRoutes,
    /// On a customer's edge: an MSEE.
    Provider,
    /// Inside a site: iBGP with next-hop-self, no reflection.
    Internal,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BfdConfig {
    pub desired_min_tx: Duration,
    pub required_min_rx: Duration,
    pub detect_mult: u8,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ImportPolicy {
    /// Given to every route of the neighbour; 100 when none.
    pub local_preference: Option<u32>,
    /// RoutingWeight of the connection, before anything else in the decision (7.3, L-25).
    pub weight: u16,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ExportPolicy {
    /// How often the own ASN is put in front again.
    pub prepend: u8,
}

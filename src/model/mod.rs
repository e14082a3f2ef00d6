//! The vocabulary every layer shares: names, numbers and units of ExpressRoute and of a router.
//!
//! Values here are checked when they are made (a [`VlanId`] is a VLAN id), so no later code checks
//! them again. Nothing here reads a clock, a file or a socket.

mod change;
mod field;
mod ids;
mod notice;
mod random;
mod router;
mod time;
mod values;

pub use crate::wire::MacAddr;
pub use change::{
    AttachmentEntry, BfdParameters, Change, InnerService, LimiterParameters, Member, PortEntry,
};
pub use field::{Effect, Field, effect};
pub use ids::{AttachmentIndex, GroupIndex, LimiterIndex, PortIndex, VrfIndex};
pub use notice::{BfdDownReason, Injected, Notice, PuntClass, Punted};
pub use random::Random;
pub use router::{
    AddressOnLink, AttachmentConfig, BfdConfig, ConvergenceDelay, Encapsulation, ExportPolicy,
    FlowHash, GracefulRestart, ImportPolicy, LimiterConfig, NeighborConfig, NeighborKind,
    OriginatedPrefix, PortConfig, Role, RouterConfig, Service, SessionTtl, Spread, StaticRoute,
    VrfConfig,
};
pub use time::Instant;
pub use values::{Asn, Bandwidth, LinkRole, ValueError, VlanId};

/// An address block, IPv4 or IPv6, host bits zero.
pub type Prefix = ipnet::IpNet;

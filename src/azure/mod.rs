//! Microsoft's side as resources: circuits, peerings, gateways, VNets, and what they mean for
//! routers. [`compile`] is pure: the same resources are the same configurations.

mod addressing;
mod compile;

pub use addressing::{mac, router_id};
pub use compile::{
    BACKBONE_DELAY, Compiled, CompiledLink, IPV6_SUFFIX, NO_ROUTER, compile, gateway_instance,
    msee_name, neighbor_name, provider_name, vrf_name,
};

//! The control plane: neighbours, BGP, the RIB and its policy. Pure state machines; the caller
//! gives them bytes and the time.

pub mod bgp;
pub mod domain;
pub mod neighbor;
pub mod plane;
pub mod policy;
pub mod rib;
pub mod route;

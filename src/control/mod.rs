//! The control plane: neighbours, BGP, the RIB and its policy. Pure state machines; the caller
//! gives them bytes and the time. Only [`runtime`] is not pure: it runs them as a process.

pub mod bgp;
pub mod domain;
pub mod message;
pub mod neighbor;
pub mod plane;
pub mod policy;
pub mod rib;
pub mod route;
pub mod runtime;
pub mod state;

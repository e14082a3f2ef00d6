//! Packets for the router itself: [`icmp`] answers what is answered in one packet, [`tcp`] ends
//! the BGP sessions' connections in user space.
//!
//! ARP and neighbour discovery are not here but in `control::neighbor`, which owns the table. Who
//! calls: the router, with what forwarding punted; what comes out is injected again.

pub mod icmp;
pub mod tcp;

//! AF_PACKET ports on real veth pairs. Each test runs again in namespaces of its own, which
//! `unshare` makes without privileges; where it cannot, the test says `SKIPPED` and why.

#[path = "../support/isolated.rs"]
mod isolated;
mod namespaces;
#[path = "../support/relay.rs"]
mod relay;
#[path = "../support/skip.rs"]
mod skip;
mod tcp;
mod wire;

//! Links, addresses and routes of a network namespace, by netlink.

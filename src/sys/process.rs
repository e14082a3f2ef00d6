//! Processes that belong to a lab.

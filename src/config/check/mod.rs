//! Raw → checked: defaults that depend on the rest of the file, rules between values, and the
//! values themselves.

pub mod drill;
pub mod lab;

//! Namespaces: the one a lab lives in, and one for each of its nodes.

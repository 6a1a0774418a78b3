//! The authenticated link between nodes.

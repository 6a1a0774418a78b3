//! The scheduler: a pure core.

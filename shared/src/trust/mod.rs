//! The cluster secret and what is derived from it.

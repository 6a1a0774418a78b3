//! Reductions whose bits do not depend on sharding.

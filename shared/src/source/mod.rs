//! Rows that are computed: sweeps and samples.

//! Two ends of a link need two processes, since ractor's registries are global: the master is the test, its workers
//! are this same binary, started again with [`support::WorkerProcess`]. Comments name the requirements of the design
//! ("Wire", 1 to 8) that a test is for.

mod attacks;
mod hub;
mod sessions;
mod support;

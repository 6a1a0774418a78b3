//! Random faults over a cluster of real processes, and what its clients saw of it.
//!
//! Reading order: [`plan`] makes rounds of jobs and faults of a seed; [`catalogue`] has the jobs and what each must
//! give; [`arena`] holds the processes and does them harm; [`clients`] submit and look, over [`http`], and write down
//! what they saw as [`events`]; [`check`] says what is wrong with that.

pub mod arena;
pub mod catalogue;
pub mod check;
mod check_tests;
pub mod clients;
pub mod events;
pub mod http;
pub mod plan;
pub mod run;

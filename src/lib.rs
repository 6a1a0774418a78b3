//! Quipu as a library: a calculator for one formula or a billion rows, in this process or on a cluster.
//!
//! Reading order: [`Cluster`] (where jobs run), [`Sweep`] and [`Sample`] (jobs over many rows), [`Output`] (what comes
//! of them), [`Error`]. What they build are the plain types of [`spec`]; what they call is [`service::JobService`], the
//! same trait within a process and over HTTP, for whoever needs more than is here.
//!
//! ```
//! use quipu::{Cluster, EvalResult, Sample, Sweep};
//! # tokio::runtime::Runtime::new()?.block_on(async {
//!
//! let cluster = Cluster::embedded(2).await?;
//!
//! let outcomes = cluster.eval(["1 + 2", "1 / 0"]).await?;
//! assert!(matches!(&outcomes[0].result, EvalResult::Value { value, .. } if *value == 3));
//! assert!(matches!(&outcomes[1].result, EvalResult::Failed { error } if error.code == "division_by_zero"));
//!
//! let squares = Sweep::new("x * x").over("x=0:10:1").reduce("sum,argmax").run(&cluster).await?;
//! assert_eq!(squares.reduction("sum"), Some(285.into()));
//!
//! let rows = Sweep::new("x * y").over("x=1,2").over("y=3,4").run(&cluster).await?;
//! assert_eq!(rows.text().lines().next(), Some(r#"{"x":1,"y":3,"result":3}"#));
//!
//! let pi = Sample::new("if(x*x + y*y <= 1.0, 4.0, 0.0)", 100_000)
//!     .draw("x=uniform(0,1)")
//!     .draw("y=uniform(0,1)")
//!     .seed(7)
//!     .reduce("mean")
//!     .run(&cluster)
//!     .await?;
//! let mean = pi.reduction("mean").and_then(|mean| mean.as_f64());
//! assert!(mean.is_some_and(|mean| (mean - 3.14).abs() < 0.05));
//! # Ok::<(), quipu::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod client;
pub mod embedded;
mod library;

pub use library::cluster::{Cluster, Running};
pub use library::error::Error;
pub use library::jobs::{Job, Sample, Sweep};
pub use library::output::Output;
pub use quipu_shared::render::{EvalFailure, EvalOutcome, EvalResult};
pub use quipu_shared::{service, spec};

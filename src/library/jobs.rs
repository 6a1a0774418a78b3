//! Builders of jobs. What they are given is text in the form of the command line's options; text that can't be read is
//! an error of `run`, so that calls can be chained.

use crate::library::cluster::{Cluster, Running};
use crate::library::error::Error;
use crate::library::output::Output;
use quipu_shared::spec::{
    Axis, Draw, FunctionSet, JobKind, JobSpec, OnError, Reduction, RowFormat, Scalar, SymbolPolicy,
};
use std::fmt::Display;
use std::time::Duration;

/// A formula over the product of axes: `Sweep::new("x * x").over("x=0:10:1")`.
pub type Sweep = Job<Grid>;
/// A formula over random draws: `Sample::new("u * u", 1000).draw("u=uniform(0,1)").seed(7)`.
pub type Sample = Job<Draws>;

/// A job over many rows, being described.
#[derive(Clone, Debug)]
#[must_use = "a job does nothing before it is run"]
pub struct Job<Rows> {
    formula: String,
    column: String,
    rows: Rows,
    bindings: Vec<(String, Scalar)>,
    symbols: SymbolPolicy,
    on_error: OnError,
    reductions: Vec<Reduction>,
    exact: bool,
    deadline: Option<Duration>,
    name: Option<String>,
    /// The first argument that could not be read.
    trouble: Option<(&'static str, String, String)>,
}

/// Rows of a [`Sweep`].
#[derive(Clone, Debug, Default)]
pub struct Grid {
    axes: Vec<Axis>,
}

/// Rows of a [`Sample`].
#[derive(Clone, Debug)]
pub struct Draws {
    rows: u64,
    seed: u64,
    draws: Vec<Draw>,
}

/// Rows of a job.
pub trait Rows {
    #[doc(hidden)]
    fn kind(self, formula: String, name: String) -> JobKind;
}

impl Rows for Grid {
    fn kind(self, formula: String, name: String) -> JobKind {
        JobKind::Sweep { formula, name, axes: self.axes }
    }
}

impl Rows for Draws {
    fn kind(self, formula: String, name: String) -> JobKind {
        JobKind::Sample { formula, name, rows: self.rows, seed: self.seed, draws: self.draws }
    }
}

impl Sweep {
    /// A formula without axes; give at least one.
    pub fn new(formula: impl Into<String>) -> Self {
        Self::with(formula.into(), Grid::default())
    }

    /// Adds an axis, in the form of `--over`: `x=0:10:1`, `x=0.0:1.0/5`, `x=1,2,3`. The last one is the fastest.
    pub fn over(mut self, axis: impl AsRef<str>) -> Self {
        if let Some(axis) = self.read("axis", axis.as_ref(), quipu_shared::source::parse_axis) {
            self.rows.axes.push(axis);
        }
        self
    }
}

impl Sample {
    /// A formula for `rows` draws; give at least one random variable.
    pub fn new(formula: impl Into<String>, rows: u64) -> Self {
        Self::with(formula.into(), Draws { rows, seed: 0, draws: Vec::new() })
    }

    /// Adds a random variable, in the form of `--draw`: `u=uniform(0,1)`.
    pub fn draw(mut self, draw: impl AsRef<str>) -> Self {
        if let Some(draw) = self.read("draw", draw.as_ref(), quipu_shared::source::parse_draw) {
            self.rows.draws.push(draw);
        }
        self
    }

    /// The seed; 0 if not given.
    pub fn seed(mut self, seed: u64) -> Self {
        self.rows.seed = seed;
        self
    }
}

impl<R> Job<R> {
    fn with(formula: String, rows: R) -> Self {
        Self {
            formula,
            column: "result".into(),
            rows,
            bindings: Vec::new(),
            symbols: SymbolPolicy::default(),
            on_error: OnError::default(),
            reductions: Vec::new(),
            exact: false,
            deadline: None,
            name: None,
            trouble: None,
        }
    }

    /// Parses an argument, or keeps what is wrong with it.
    fn read<T, E: Display>(
        &mut self,
        what: &'static str,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match parse(text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.trouble.get_or_insert_with(|| (what, text.to_owned(), error.to_string()));
                None
            }
        }
    }

    /// Adds reductions, in the form of `--reduce`: `sum,mean,quantile(0.5)`.
    pub fn reduce(mut self, reductions: impl AsRef<str>) -> Self {
        let parsed = self.read("reductions", reductions.as_ref(), quipu_shared::reduce::parse_reductions);
        self.reductions.extend(parsed.into_iter().flatten());
        self
    }

    /// Makes `sum`, `mean`, `variance` and `stddev` the floats next to the true values, rounded once; there is no exact
    /// `quantile`.
    pub fn exact(mut self) -> Self {
        self.exact = true;
        self
    }

    /// Gives a variable one value for all rows.
    pub fn var(mut self, name: impl Into<String>, value: Scalar) -> Self {
        self.bindings.push((name.into(), value));
        self
    }

    /// Names the computed column; `result` if not given.
    pub fn column(mut self, name: impl Into<String>) -> Self {
        self.column = name.into();
        self
    }

    /// What a failed row does; by default the job fails with it.
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.on_error = on_error;
        self
    }

    /// Narrows the functions that the formula may call.
    pub fn functions(mut self, functions: FunctionSet) -> Self {
        self.symbols.functions = functions;
        self
    }

    /// How long the job may take, counted from its submission.
    pub fn deadline(mut self, time: Duration) -> Self {
        self.deadline = Some(time);
        self
    }

    /// A name for people.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}

impl<R: Rows> Job<R> {
    /// The job as plain data; rows are rendered as one JSON object a line.
    pub fn spec(self) -> Result<JobSpec, Error> {
        if let Some((what, text, problem)) = self.trouble {
            return Err(Error::Argument { what, text, problem });
        }
        Ok(JobSpec {
            kind: self.rows.kind(self.formula, self.column),
            bindings: self.bindings,
            symbols: self.symbols,
            on_error: self.on_error,
            reductions: self.reductions,
            exact: self.exact,
            format: RowFormat::Ndjson,
            deadline_ms: self.deadline.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            name: self.name,
            queue: Default::default(),
        })
    }

    /// Submits the job and returns at once.
    pub async fn submit(self, cluster: &Cluster) -> Result<Running, Error> {
        cluster.submit(self.spec()?).await
    }

    /// Runs the job to its end.
    pub async fn run(self, cluster: &Cluster) -> Result<Output, Error> {
        cluster.run(self.spec()?).await
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, Sample, Sweep};
    use quipu_shared::spec::{JobKind, OnError, Scalar};
    use std::time::Duration;

    #[test]
    fn builders_make_the_spec_that_they_were_told() {
        let spec = Sweep::new("a * x")
            .over("x=0:3:1")
            .over("y=1.5,2.5")
            .var("a", Scalar::Int(2))
            .column("z")
            .on_error(OnError::Skip)
            .reduce("sum")
            .reduce("mean,quantile(0.5)")
            .exact()
            .deadline(Duration::from_secs(2))
            .name("test")
            .spec()
            .unwrap();
        assert!(matches!(&spec.kind, JobKind::Sweep { axes, name, .. } if axes.len() == 2 && name == "z"));
        assert_eq!((spec.reductions.len(), spec.deadline_ms, spec.on_error), (3, Some(2000), OnError::Skip));
        assert!(spec.exact);
        let spec = Sample::new("u", 5).draw("u=uniform(0,1)").seed(9).spec().unwrap();
        assert!(!spec.exact);
        assert!(matches!(&spec.kind, JobKind::Sample { rows: 5, seed: 9, draws, .. } if draws.len() == 1));
    }

    #[test]
    fn first_argument_that_cannot_be_read_is_named() {
        let error = Sweep::new("x").over("x").reduce("median").spec().unwrap_err();
        assert!(matches!(&error, Error::Argument { what: "axis", text, .. } if text == "x"), "{error}");
        assert!(Sample::new("u", 5).draw("u=poisson(1)").spec().is_err());
    }
}

//! What a job is: formulas, where their rows come from, and what becomes of the values.
//!
//! A spec is plain data: it travels in requests, on the link and (later) in the job log.

use crate::access::Namespace;
mod schema;

use crate::ids::JobId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A submitted piece of work, as the client describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// Which of the four jobs, with its inputs.
    pub kind: JobKind,
    /// Variables with one value for all rows (`-v name=value`).
    #[serde(default)]
    pub bindings: Vec<(String, Scalar)>,
    /// What a formula may name.
    #[serde(default)]
    pub symbols: SymbolPolicy,
    /// What a failed row does.
    #[serde(default)]
    pub on_error: OnError,
    /// Reductions to compute in one pass; empty means that rows go to the sink.
    #[serde(default)]
    pub reductions: Vec<Reduction>,
    /// Whether sums, means, variances and standard deviations are the floats next to the true ones, rounded once.
    #[serde(default)]
    pub exact: bool,
    /// The form of rows in the sink; not used with reductions, and always [`RowFormat::Ndjson`] for `eval`.
    #[serde(default)]
    pub format: RowFormat,
    /// How long the job may run, counted from its submission.
    #[serde(default)]
    pub deadline_ms: Option<u64>,
    /// A name for people; at most 128 bytes.
    #[serde(default)]
    pub name: Option<String>,
    /// When the job is run, and what becomes of it afterwards. Always written: on the wire nothing says that it is not.
    #[serde(default)]
    pub queue: QueueOptions,
}

/// When a job is run relative to time and to other jobs, and what becomes of it afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QueueOptions {
    /// The part of the cluster that the job belongs to; a client whose token is kept to one need not name it.
    pub namespace: Namespace,
    /// Pairs for people and for selecting jobs; at most 16, of at most 128 bytes each.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Jobs of a higher priority are served first, jobs of one priority get equal shares; -100 to 100.
    pub priority: i8,
    /// Jobs that must have ended before; at most 1,000.
    pub after: Vec<Dependency>,
    /// Unix time before which it does not run.
    pub not_before_ms: Option<u64>,
    /// How often the job is tried again after trouble that is not its own: a shard that died too often, a full disk.
    pub retries: u32,
    /// How long an ended job is kept; without it as long as the master's configuration says.
    pub retention_ms: Option<u64>,
}

/// A job that another one waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    /// The job; it was submitted before, so that there are no cycles.
    pub job: JobId,
    /// Which of its ends counts.
    #[serde(default)]
    pub on: DependencyEnd,
}

/// Which end of a job lets another one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DependencyEnd {
    /// Success; with any other end the waiting job fails.
    #[default]
    Success,
    /// Any end.
    Any,
}

/// A recurring job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSpec {
    /// When: a cron pattern of five fields, or of six with seconds first; see [`crate::calendar`].
    pub cron: String,
    /// IANA name of the time zone in which the pattern is read.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// What becomes of runs that were due while no master ran.
    #[serde(default)]
    pub missed: MissedRuns,
    /// The job that is submitted at each run.
    pub job: JobSpec,
}

fn utc() -> String {
    "UTC".into()
}

/// What becomes of runs of a schedule that were due while no master ran, or while it was paused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MissedRuns {
    /// They are left out; the next one is the next one due.
    #[default]
    Skip,
    /// Each of them is submitted, oldest first, up to a limit of the master.
    Run,
}

impl JobSpec {
    /// The form of what the job's results stream carries.
    pub fn result_format(&self) -> ResultFormat {
        match (self.reductions.is_empty(), &self.kind, self.format) {
            (false, ..) => ResultFormat::Json,
            (true, JobKind::Eval { .. }, _) | (true, _, RowFormat::Ndjson) => ResultFormat::Ndjson,
            (true, _, RowFormat::Csv) => ResultFormat::Csv,
            (true, _, RowFormat::Plain) => ResultFormat::Plain,
            (true, _, RowFormat::Parquet) => ResultFormat::Parquet,
            (true, _, RowFormat::Arrow) => ResultFormat::Arrow,
        }
    }
}

/// The four jobs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobKind {
    /// Each formula once; row i is formula i.
    Eval {
        /// The formulas in input order.
        formulas: Vec<String>,
    },
    /// A formula over each row of a table.
    Map {
        /// Computed for each row.
        formula: String,
        /// Rows for which it is not true are left out (`--where`).
        condition: Option<String>,
        /// Name of the computed column.
        name: String,
        /// Types and form of the input.
        schema: TableSchema,
        /// Where the bytes are.
        input: TableInput,
    },
    /// A formula over the cartesian product of axes; the last axis is the fastest.
    Sweep {
        /// Computed for each point.
        formula: String,
        /// Name of the computed column.
        name: String,
        /// At least one axis.
        axes: Vec<Axis>,
    },
    /// A formula over random draws; draw i of a variable is a pure function of (seed, name, i).
    Sample {
        /// Computed for each draw.
        formula: String,
        /// Name of the computed column.
        name: String,
        /// Number of rows.
        rows: u64,
        /// Seed of every stream.
        seed: u64,
        /// The random variables.
        draws: Vec<Draw>,
    },
}

impl JobKind {
    /// The job's name as users type it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Eval { .. } => "eval",
            Self::Map { .. } => "map",
            Self::Sweep { .. } => "sweep",
            Self::Sample { .. } => "sample",
        }
    }
}

/// One value of a formula, as it travels. Tuples may nest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scalar {
    /// evalexpr's `int`.
    Int(i64),
    /// evalexpr's `float`. JSON has it as a number or as `"NaN"`, `"inf"`, `"-inf"`; other encodings as its bits.
    Float(#[serde(with = "float_bits")] f64),
    /// evalexpr's `boolean`.
    Boolean(bool),
    /// evalexpr's `string`.
    String(String),
    /// evalexpr's `tuple`.
    Tuple(Vec<Scalar>),
    /// evalexpr's `empty`; also a null.
    Empty,
}

impl Scalar {
    /// The type of a column that may hold it; `None` for tuples and empty.
    pub fn column_type(&self) -> Option<ColumnType> {
        match self {
            Self::Int(_) => Some(ColumnType::Int),
            Self::Float(_) => Some(ColumnType::Float),
            Self::Boolean(_) => Some(ColumnType::Boolean),
            Self::String(_) => Some(ColumnType::String),
            Self::Tuple(_) | Self::Empty => None,
        }
    }
}

/// A float: a number, `"NaN"`, `"inf"` or `"-inf"` where people read it (JSON), and its 64 bits where they don't.
mod float_bits {
    use serde::de::{Error, Unexpected, Visitor};
    use serde::{Deserialize, Deserializer, Serializer};
    use std::fmt;

    pub(super) fn serialize<S: Serializer>(x: &f64, s: S) -> Result<S::Ok, S::Error> {
        if !s.is_human_readable() {
            s.serialize_u64(x.to_bits())
        } else if x.is_nan() {
            s.serialize_str("NaN")
        } else if x.is_infinite() {
            s.serialize_str(if *x > 0.0 { "inf" } else { "-inf" })
        } else {
            s.serialize_f64(*x)
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
        if d.is_human_readable() { d.deserialize_any(Readable) } else { u64::deserialize(d).map(f64::from_bits) }
    }

    struct Readable;

    impl Visitor<'_> for Readable {
        type Value = f64;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number, \"NaN\", \"inf\" or \"-inf\"")
        }
        fn visit_f64<E: Error>(self, x: f64) -> Result<f64, E> {
            Ok(x)
        }
        // An integer of JSON is a fine float; it is rounded to nearest, as the same digits with a point would be.
        fn visit_i64<E: Error>(self, x: i64) -> Result<f64, E> {
            Ok(x as f64)
        }
        fn visit_u64<E: Error>(self, x: u64) -> Result<f64, E> {
            Ok(x as f64)
        }
        fn visit_str<E: Error>(self, text: &str) -> Result<f64, E> {
            match text {
                "NaN" => Ok(f64::NAN),
                "inf" => Ok(f64::INFINITY),
                "-inf" => Ok(f64::NEG_INFINITY),
                _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
            }
        }
    }
}

/// What a formula may name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SymbolPolicy {
    /// If given, only these variables, with these types (`--vars-only a,b:float`); a missing type means any.
    #[serde(default)]
    pub vars_only: Option<Vec<(String, Option<ColumnType>)>>,
    /// Which functions may be called (`--functions`).
    #[serde(default)]
    pub functions: FunctionSet,
}

/// Sets of functions that a formula may call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FunctionSet {
    /// No function at all.
    None,
    /// `math::*`, `min max floor round ceil if`, bit operations.
    Math,
    /// Every function.
    #[default]
    All,
}

/// What a failed row does to its job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// The job fails with the lowest failing row.
    #[default]
    Fail,
    /// The row's value is null; the count and the first rows are reported.
    Null,
    /// The row is left out; the count and the first rows are reported.
    Skip,
}

/// Type of a column, as inferred or given with `--types`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// i64.
    Int,
    /// f64.
    Float,
    /// true or false.
    Boolean,
    /// UTF-8 text.
    String,
}

/// Form of a table's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TableFormat {
    /// Comma-separated values with a header row (RFC 4180, and what the `csv` crate accepts beyond it).
    Csv,
    /// One JSON object a line.
    Ndjson,
    /// An Apache Parquet file.
    Parquet,
    /// An Arrow IPC file, in the file format.
    Arrow,
}

impl TableFormat {
    /// Whether the file says itself what and where its columns are, and is not read as a stream of records.
    pub fn is_columnar(self) -> bool {
        match self {
            Self::Csv | Self::Ndjson => false,
            Self::Parquet | Self::Arrow => true,
        }
    }
}

/// What a table's bytes mean; fixed when the job is submitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TableSchema {
    /// Form of the bytes.
    pub format: TableFormat,
    /// Separator of a CSV file.
    pub delimiter: u8,
    /// Every column in file order, or those seen while inferring (JSON-lines).
    pub columns: Vec<TableColumn>,
    /// For a table in columns, their types in the file: an Arrow schema as `ARROW:schema` of Parquet has it, that is
    /// the base64 form of an encapsulated IPC message. Dictionaries are resolved.
    #[serde(default)]
    pub arrow: Option<String>,
}

/// One column of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TableColumn {
    /// The header as the file has it.
    pub name: String,
    /// The name that a formula uses: the header where that is an identifier, else its replacement.
    pub variable: String,
    /// Its type.
    pub ty: ColumnType,
}

/// Where a table's bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TableInput {
    /// A file that every executor can open by this path (embedded, or a shared folder).
    Shared {
        /// Absolute path.
        path: String,
    },
    /// Bytes that the client has uploaded to the master.
    Uploaded {
        /// BLAKE3 of the bytes, in hexadecimal.
        digest: String,
    },
}

/// One axis of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Axis {
    /// The variable.
    pub name: String,
    /// Its values.
    pub values: AxisValues,
}

/// The values of an axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AxisValues {
    /// Integers START + i*STEP, half open.
    IntRange {
        /// First value.
        start: i64,
        /// Bound that is not reached.
        stop: i64,
        /// Step, not 0.
        step: i64,
    },
    /// Floats START + i*STEP, half open.
    FloatRange {
        /// First value.
        start: Scalar,
        /// Bound that is not reached.
        stop: Scalar,
        /// Step, not 0.
        step: Scalar,
    },
    /// COUNT evenly spaced floats with both ends.
    Linspace {
        /// First value.
        start: Scalar,
        /// Last value.
        stop: Scalar,
        /// How many, at least 1.
        count: u64,
    },
    /// Listed values of one type.
    List(Vec<Scalar>),
}

/// One random variable of a sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Draw {
    /// The variable.
    pub name: String,
    /// Its distribution.
    pub distribution: Distribution,
}

/// Distributions of draws. Parameters are finite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Distribution {
    /// Uniform over `[a, b)`.
    Uniform(f64, f64),
    /// Normal with mean and standard deviation.
    Normal(f64, f64),
    /// Exponential with a rate.
    Exponential(f64),
    /// True with this probability.
    Bernoulli(f64),
    /// Uniform integers, both ends included.
    Integer(i64, i64),
    /// One of these, each as likely; all of one type.
    Choice(Vec<Scalar>),
}

/// A law that merges shards' partials to one value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reduction {
    /// Rows with a value.
    Count,
    /// Sum.
    Sum,
    /// Arithmetic mean.
    Mean,
    /// Least value; NaN if any is NaN.
    Min,
    /// Greatest value; NaN if any is NaN.
    Max,
    /// Lowest row of the least value, with its inputs.
    Argmin,
    /// Lowest row of the greatest value, with its inputs.
    Argmax,
    /// Sample variance (n - 1).
    Variance,
    /// Square root of the sample variance.
    Stddev,
    /// True where any value is true.
    Any,
    /// True where all values are true.
    All,
    /// Counts in equal bins over `[lo, hi]`.
    Histogram {
        /// Lower edge.
        lo: f64,
        /// Upper edge, included in the last bin.
        hi: f64,
        /// Number of bins.
        bins: u32,
    },
    /// Approximate quantile (DDSketch, 0.1 % relative error).
    Quantile(f64),
}

/// How rows are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RowFormat {
    /// Comma-separated values; the stream begins with a header row.
    #[default]
    Csv,
    /// One JSON object a line.
    Ndjson,
    /// The computed value alone, one a line.
    Plain,
    /// Row groups of Apache Parquet; see [`crate::render::ParquetJoiner`].
    Parquet,
    /// A stream of Arrow IPC messages; see [`crate::render::IpcJoiner`].
    Arrow,
}

impl RowFormat {
    /// Whether rows are written in columns, each of one type, and not as text.
    pub fn is_columnar(self) -> bool {
        match self {
            Self::Csv | Self::Ndjson | Self::Plain => false,
            Self::Parquet | Self::Arrow => true,
        }
    }
}

/// The form of a results stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ResultFormat {
    /// Rows as comma-separated values.
    Csv,
    /// Rows as one JSON object a line.
    Ndjson,
    /// The computed values, one a line.
    Plain,
    /// Small Parquet files, each with its length in front: one without rows, then one a row group.
    Parquet,
    /// A stream of Arrow IPC messages, without its end mark.
    Arrow,
    /// One JSON document of the reductions.
    Json,
}

#[cfg(test)]
mod tests {
    use super::Scalar;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    fn bits(scalar: &Scalar) -> u64 {
        let Scalar::Float(x) = scalar else { panic!("{scalar:?} is no float") };
        x.to_bits()
    }

    fn from_json(json: &str) -> Result<Scalar, serde_json::Error> {
        serde_json::from_str(json)
    }

    proptest! {
        #[test]
        fn floats_keep_their_bits_in_json_and_postcard(x in any::<f64>()) {
            let scalar = Scalar::Float(x);
            let json = serde_json::to_string(&scalar).unwrap();
            // JSON has one NaN; every other float keeps all its bits.
            let expected = if x.is_nan() { f64::NAN.to_bits() } else { x.to_bits() };
            prop_assert_eq!(bits(&from_json(&json).unwrap()), expected);
            let binary = postcard::to_stdvec(&scalar).unwrap();
            prop_assert_eq!(bits(&postcard::from_bytes(&binary).unwrap()), x.to_bits());
        }
    }

    #[test]
    fn floats_are_readable_in_json() {
        for (x, json) in [
            (1.5, "1.5"),
            (2.0, "2.0"),
            (-0.0, "-0.0"),
            (f64::NAN, "\"NaN\""),
            (f64::INFINITY, "\"inf\""),
            (f64::NEG_INFINITY, "\"-inf\""),
        ] {
            let json = format!("{{\"float\":{json}}}");
            assert_eq!(serde_json::to_string(&Scalar::Float(x)).unwrap(), json);
            assert_eq!(bits(&from_json(&json).unwrap()), x.to_bits());
        }
        assert_eq!(from_json("{\"float\":3}").unwrap(), Scalar::Float(3.0));
        assert_eq!(from_json("{\"float\":-3}").unwrap(), Scalar::Float(-3.0));
        let refused = from_json("{\"float\":\"three\"}").unwrap_err().to_string();
        assert!(refused.contains("a number, \"NaN\", \"inf\" or \"-inf\""), "{refused}");
    }
}

//! The jobs of a run, and what each of them must give: each is run once by one executor in this process.

use super::check::End;
use super::events::FailedRows;
use super::plan::{JobPlan, Size};
use quipu::spec::{ColumnType, JobKind, JobSpec, OnError, RowFormat, TableInput};
use quipu::{Cluster, Sample, Sweep};
use quipu_shared::service::JobState;
use quipu_shared::table::{InferOptions, infer};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Instant;

/// Rows of the table: some shards, and some results above what the log holds itself.
const TABLE_ROWS: u64 = 20_000;
/// Takes a core about 10 ns a row.
const HEAVY: &str =
    "math::sin(x) * math::exp(-x * x / 50.0) + if(x > 3.0 && x < 4.0, math::sqrt(x), x / (x * x + 1.0))";
const MANY: &str = "count,sum,mean,min,max,argmin,argmax,variance,histogram(-10,10,20),quantile(0.9)";

/// A job and its end.
pub struct Known {
    /// As it is sent, without name and queue.
    pub spec: JobSpec,
    /// What becomes of it.
    pub end: End,
    size: Size,
}

/// Every job.
pub struct Catalogue {
    /// The table that maps read; it is to be uploaded.
    pub table: Vec<u8>,
    jobs: Vec<Known>,
}

impl Catalogue {
    /// The job of a plan.
    pub fn job(&self, plan: &JobPlan) -> &Known {
        let fit: Vec<&Known> = self.jobs.iter().filter(|job| job.size == plan.size).collect();
        fit[(plan.pick % fit.len() as u64) as usize]
    }

    /// Lets maps read what was uploaded.
    pub fn use_upload(&mut self, digest: &str) {
        for job in &mut self.jobs {
            if let JobKind::Map { input, .. } = &mut job.spec.kind {
                *input = TableInput::Uploaded { digest: digest.to_owned() };
            }
        }
    }

    /// Runs every job.
    pub fn make(folder: &Path) -> Self {
        let table = table();
        let path = folder.join("table.csv");
        fs::write(&path, &table).expect("table");
        let input = TableInput::Shared { path: path.to_str().expect("a path").to_owned() };
        let mut schema = infer(&table[..], InferOptions::default()).expect("a table").schema;
        schema.columns[2].ty = ColumnType::Int;
        let mut specs = generated();
        specs.extend(maps().into_iter().map(|(size, adapt)| {
            let mut spec = sweep("1", "x=0:1:1");
            spec.format = RowFormat::Csv;
            let (formula, condition) = adapt(&mut spec);
            let condition = condition.map(ToOwned::to_owned);
            let (name, schema, input) = ("out".to_owned(), schema.clone(), input.clone());
            spec.kind = JobKind::Map { formula: formula.to_owned(), condition, name, schema, input };
            (size, spec)
        }));
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let jobs = runtime.block_on(async {
            let cluster = Cluster::embedded(1).await.expect("a cluster");
            let mut jobs = Vec::new();
            for (size, spec) in specs {
                let begun = Instant::now();
                let end = end_of(&cluster, spec.clone()).await;
                eprintln!("{size:?} {}: {:?}, {}", spec.kind.name(), begun.elapsed(), shown(&end));
                jobs.push(Known { spec, end, size });
            }
            jobs
        });
        Self { table, jobs }
    }
}

fn shown(end: &End) -> String {
    match end {
        End::Succeeded { result, failed } => format!("{} bytes, {} rows failed", result.len(), failed.count),
        End::Failed { code, failed } => format!("{code}, {failed:?}"),
    }
}

async fn end_of(cluster: &Cluster, spec: JobSpec) -> End {
    let running = cluster.submit(spec).await.expect("accepted");
    let output = running.output().await;
    let view = running.view().await.expect("the job");
    match (output, view.state) {
        (Ok(output), JobState::Succeeded) => {
            End::Succeeded { result: output.text().as_bytes().into(), failed: FailedRows::of(&view) }
        }
        (Err(_), JobState::Failed) => {
            let failed = FailedRows::of(&view);
            let code = view.error.expect("a reason").code;
            assert!(failed.count == 1 && failed.first.is_some(), "what fails here fails by its lowest row: {code}");
            End::Failed { code, failed: Some(failed) }
        }
        (output, state) => panic!("{state:?} with {output:?}"),
    }
}

fn table() -> Vec<u8> {
    let mut table = String::from("id,price,qty,note\r\n");
    for id in 0..TABLE_ROWS {
        let qty = if id % 5_000 == 4_321 { "oops".to_owned() } else { (id % 17).to_string() };
        write!(table, "{id},{}.25,{qty},\"a \"\"note\"\", {id}\"\r\n", id % 911).expect("text");
    }
    table.into_bytes()
}

fn sweep(formula: &str, axis: &str) -> JobSpec {
    Sweep::new(formula).over(axis).spec().expect("a sweep")
}

fn reduced(formula: &str, axis: &str, reductions: &str) -> JobSpec {
    Sweep::new(formula).over(axis).reduce(reductions).spec().expect("a sweep")
}

fn sample(formula: &str, rows: u64, draw: &str) -> Sample {
    Sample::new(formula, rows).draw(draw).seed(rows)
}

fn with(mut spec: JobSpec, adapt: impl FnOnce(&mut JobSpec)) -> JobSpec {
    adapt(&mut spec);
    spec
}

fn eval(formulas: Vec<String>, on_error: OnError) -> JobSpec {
    with(sweep("1", "x=0:1:1"), |spec| {
        spec.kind = JobKind::Eval { formulas };
        spec.on_error = on_error;
    })
}

fn formulas(of: &[&str]) -> Vec<String> {
    of.iter().map(|&formula| formula.to_owned()).collect()
}

fn generated() -> Vec<(Size, JobSpec)> {
    use Size::{Large, Medium, Small};
    let skip = |spec: &mut JobSpec| spec.on_error = OnError::Skip;
    let null = |spec: &mut JobSpec| spec.on_error = OnError::Null;
    vec![
        (Small, eval(formulas(&["1 + 2"]), OnError::Fail)),
        (Small, eval(formulas(&["6 * 7", "1 / 0", "math::sqrt(2.0)", "2 +", "\"a\" + \"b\""]), OnError::Null)),
        (Small, eval(formulas(&["6 * 7", "0.1 + 0.2", "1 / 0", "1 / 0"]), OnError::Fail)),
        (Small, eval((0..300).map(|n| format!("{n} * {n} + 0.5")).collect(), OnError::Null)),
        (Medium, eval((0..3_000).map(|n| format!("math::exp({n}.0 / 1000.0)")).collect(), OnError::Null)),
        (Small, sweep("x * x", "x=3:4:1")),
        (Small, sweep("x / 3.0", "x=0.0:1.0/100")),
        (Small, reduced("x % 7", "x=0:1000:1", "count,sum")),
        (Small, reduced(HEAVY, "x=-20.0:20.0/50001", MANY)),
        (Small, sweep("10 / (x - 7)", "x=0:20:1")),
        (Small, with(sweep("10 / (x - 7)", "x=0:20:1"), null)),
        (Small, with(sweep("10 / (x - 7)", "x=0:2000:1"), skip)),
        (Small, with(sweep("x * 2", "x=0:1500:1"), |spec| spec.format = RowFormat::Plain)),
        (Medium, with(sweep("math::sin(x)", "x=0.0:9.0/30001"), |spec| spec.format = RowFormat::Csv)),
        (Medium, sweep("x / 3.0", "x=0.0:1.0/20001")),
        (Medium, reduced(HEAVY, "x=-20.0:20.0/2000001", MANY)),
        (Medium, with(reduced("1.0 / x", "x=-9.0:9.0/1000001", "sum,mean,variance"), |spec| spec.exact = true)),
        // Every hundred thousandth row fails: the lowest is told, whichever is found first.
        (Medium, reduced("x / (99999 - x % 100000)", "x=0:5000000:1", "sum")),
        (Medium, with(sweep("x / (6999 - x % 7000)", "x=0:60000:1"), |spec| spec.format = RowFormat::Csv)),
        (Medium, with(reduced("x / (99999 - x % 100000)", "x=0:3000000:1", "sum,argmax"), skip)),
        (Large, reduced(HEAVY, "x=-20.0:20.0/30000001", MANY)),
        (Large, sample(HEAVY, 12_000_001, "x=normal(0,3)").reduce(MANY).spec().expect("a sample")),
        (Large, with(sweep("math::sin(x) * x", "x=0.0:9.0/300001"), |spec| spec.format = RowFormat::Csv)),
        (Small, sample("x * 2.0", 1, "x=uniform(0,1)").spec().expect("a sample")),
        (Small, sample("x * x", 500, "x=normal(0,1)").spec().expect("a sample")),
        (Small, sample("x", 10_000, "x=exponential(2)").reduce("mean,max,quantile(0.5)").spec().expect("a sample")),
        (Small, sample("1 / x", 900, "x=integer(0,300)").spec().expect("a sample")),
        (Medium, sample("x - 0.5", 15_000, "x=uniform(0,1)").spec().expect("a sample")),
        (Medium, sample("math::ln(x)", 700_000, "x=uniform(0,1)").reduce(MANY).spec().expect("a sample")),
    ]
}

/// Changes a map's spec, and gives its formula and condition.
type Adapt = fn(&mut JobSpec) -> (&'static str, Option<&'static str>);

fn maps() -> Vec<(Size, Adapt)> {
    vec![
        (Size::Small, |_| ("price * 2.0", Some("id < 40"))),
        (Size::Small, |spec| {
            spec.reductions = quipu_shared::reduce::parse_reductions("count,sum,argmax").expect("reductions");
            ("price * 2.0", Some("id % 3 == 0"))
        }),
        (Size::Small, |_| ("id / (id - 15000)", Some("id > 10000 && id < 15002"))),
        (Size::Small, |_| ("price * qty", None)),
        (Size::Medium, |_| ("price * 1.19", None)),
        (Size::Medium, |spec| {
            (spec.format, spec.on_error) = (RowFormat::Ndjson, OnError::Null);
            ("1000 / (id % 100)", Some("price > 10.0"))
        }),
        (Size::Medium, |spec| {
            spec.on_error = OnError::Skip;
            ("id % (id % 11)", None)
        }),
    ]
}

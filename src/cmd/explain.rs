//! `quipu explain`: how a formula is evaluated. Nothing is started for it.

use crate::cmd::args::FormulaArgs;
use crate::cmd::{Context, argv, parse};
use crate::failure::{Exit, Failure};
use clap::{Args, ValueEnum};
use quipu_shared::formula::{Formula, Symbols};
use quipu_shared::spec::ColumnType;
use quipu_worker::engine::{JIT_ROWS_MIN, Plan, Tier};
use serde_json::json;
use std::fmt::Write as _;
use std::io::{self, Write as _};

/// Show how a formula is evaluated, and what it costs
///
/// Prints the formula's type, who evaluates it (machine code, the vectorised interpreter, or evalexpr row by row, and then
/// why), the estimated cost of a row on one core, and the typed form that is compiled.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  quipu explain 'a * x * x + b' --types a=float,x=float -v b=2.5
  quipu explain 'if(n > 3, n / 2, 0)' --types n=int
  quipu explain 'len(name) > 3' --types name=string -O json")]
pub(crate) struct ExplainArgs {
    /// The formula
    #[arg(value_parser = argv::formula)]
    formula: String,

    /// Set types of columns: int, float, boolean or string; repeats [default: float]
    #[arg(long, value_name = "NAME=TYPE,..", value_parser = parse::types)]
    types: Vec<parse::Types>,

    /// Form of the output
    #[arg(short = 'O', long, value_name = "FORM", default_value = "plain")]
    format: ExplainFormat,

    #[command(flatten)]
    common: FormulaArgs,
}

/// Forms of an explanation.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ExplainFormat {
    /// For people
    Plain,
    /// One JSON document
    Json,
}

impl ExplainArgs {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let config = context.config();
        let bindings = self.common.bindings()?;
        let refused = |error: quipu_shared::formula::FormulaError| Failure::new(Exit::Data, error.to_string());
        let formula = Formula::parse(&self.formula, &config.limits.formula).map_err(refused)?;
        let columns = self.columns(&formula, &bindings)?;
        let bound = bindings.iter().map(|(name, value)| (name.clone(), value.column_type()));
        let symbols = Symbols {
            variables: columns.iter().map(|(name, ty)| (name.clone(), Some(*ty))).chain(bound).collect(),
            policy: self.common.symbols(),
        };
        formula.check(&symbols).map_err(refused)?;
        let plan = Plan::new(&formula, &columns, &bindings, &config.limits.formula, config.worker.tier);
        let text = match self.format {
            ExplainFormat::Plain => plain(&formula, &columns, &plan, &formula.notes(&symbols)),
            ExplainFormat::Json => document(&formula, &columns, &plan, &formula.notes(&symbols)),
        };
        io::stdout().write_all(text.as_bytes()).map_err(|error| Failure::write(&error, &"standard output"))
    }

    /// The formula's columns: its variables that are not bound, floats unless `--types` says otherwise.
    fn columns(
        &self,
        formula: &Formula,
        bindings: &[(String, quipu_shared::spec::Scalar)],
    ) -> Result<Vec<(String, ColumnType)>, Failure> {
        let mut columns: Vec<(String, ColumnType)> = Vec::new();
        for (name, ty) in self.types.iter().flat_map(|types| types.iter()) {
            if columns.iter().any(|(earlier, _)| earlier == name) {
                return Err(Failure::usage(format!("column {name} is given twice with --types")));
            }
            columns.push((name.clone(), *ty));
        }
        for name in formula.variables() {
            let known =
                columns.iter().any(|(known, _)| known == name) || bindings.iter().any(|(known, _)| known == name);
            if !known {
                columns.push((name.clone(), ColumnType::Float));
            }
        }
        Ok(columns)
    }
}

/// Nanoseconds a row of a long run, and who evaluates it.
fn cost(formula: &Formula, plan: &Plan) -> (f64, Tier) {
    let tier = plan.long_run_tier();
    match plan.typed() {
        Ok(typed) if tier != Tier::Evalexpr => (typed.cost_ns(), tier),
        _ => (formula.tree_cost_ns(), tier),
    }
}

fn plain(formula: &Formula, columns: &[(String, ColumnType)], plan: &Plan, notes: &[String]) -> String {
    let (cost, tier) = cost(formula, plan);
    let ty = plan.typed().map_or("depends on the row", |typed| typed.result_type().name());
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a string has no errors.
        let _ = writeln!(out, "{name:<8} {value}");
    };
    line("type", ty);
    match tier {
        Tier::Jit => line("tier", &format!("interpreter for {JIT_ROWS_MIN} rows, then machine code")),
        Tier::Interpreter => line("tier", "interpreter"),
        Tier::Evalexpr => line("tier", "evalexpr, row by row"),
    }
    if let Some(reason) = plan.untyped_reason() {
        line("because", &reason);
    }
    line("cost", &format!("about {cost:.1} ns a row on one core"));
    for (index, (name, ty)) in columns.iter().enumerate() {
        line("column", &format!("{index} is {name}: {}", ty.name()));
    }
    for note in notes {
        line("note", note);
    }
    if let Ok(typed) = plan.typed() {
        let _ = write!(out, "\n{typed}\n");
    }
    out
}

fn document(formula: &Formula, columns: &[(String, ColumnType)], plan: &Plan, notes: &[String]) -> String {
    let (cost, tier) = cost(formula, plan);
    let columns: Vec<_> = columns.iter().map(|(name, ty)| json!({ "name": name, "type": ty })).collect();
    let form: Option<Vec<String>> =
        plan.typed().ok().map(|typed| typed.to_string().lines().map(ToOwned::to_owned).collect());
    let document = json!({
        "version": 1,
        "formula": formula.text(),
        "type": plan.typed().ok().map(|typed| typed.result_type().name()),
        "tier": tier.name(),
        "because": plan.untyped_reason(),
        "cost_ns_per_row": cost,
        "columns": columns,
        "typed_form": form,
        "notes": notes,
    });
    format!("{document}\n")
}

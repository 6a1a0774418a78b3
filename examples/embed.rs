//! Quipu inside a program: a cluster of two executors, three jobs, and nothing that listens.
//!
//! `cargo run --release --example embed`; `examples/embed.expected` is what it prints.

#![allow(clippy::print_stdout)] // An example prints.

use quipu::{Cluster, Error, EvalResult, Sample, Sweep};

#[tokio::main]
async fn main() -> Result<(), Error> {
    // Ends with its last handle. `Cluster::connect` gives the same type for a cluster elsewhere.
    let cluster = Cluster::embedded(2).await?;

    println!("formulas");
    let formulas = ["10 + 2 * 3", "7 / 2", "7 / 2.0", "1 / 0"];
    for (formula, outcome) in formulas.iter().zip(cluster.eval(formulas).await?) {
        match outcome.result {
            EvalResult::Value { value, .. } => println!("  {formula} is {value}"),
            EvalResult::Failed { error } => println!("  {formula} fails: {}", error.code),
        }
    }

    println!("a grid, row by row");
    let grid = Sweep::new("x * y").over("x=1,2").over("y=0.5,1.5").column("area").run(&cluster).await?;
    for row in grid.rows() {
        println!("  {}", row?);
    }

    println!("a grid, reduced");
    let parabola = Sweep::new("x * (10 - x)").over("x=0:11:1").reduce("sum,max,argmax").run(&cluster).await?;
    for reduction in ["sum", "max", "argmax"] {
        println!("  {reduction} {}", parabola.reduction(reduction).unwrap_or_default());
    }

    println!("random draws");
    let pi = Sample::new("if(x*x + y*y <= 1.0, 4.0, 0.0)", 100_000)
        .draw("x=uniform(0,1)")
        .draw("y=uniform(0,1)")
        .seed(7)
        .reduce("mean")
        .run(&cluster)
        .await?;
    println!("  mean {} of {} draws", pi.reduction("mean").unwrap_or_default(), pi.job().rows_done);
    Ok(())
}

//! Files in columns made by a cluster of real processes are those of an embedded one.

mod support;

use std::fmt::Write as _;
use std::fs;
use support::{Cluster, quipu};

#[test]
fn files_in_columns_do_not_depend_on_workers() {
    let cluster = Cluster::start(2);
    let folder = cluster.folder.path();
    let mut table = String::from("id,price,note\n");
    for id in 0..200_000_u32 {
        writeln!(table, "{id},{}.25,note {}", id % 911, id % 13).expect("text");
    }
    let table_path = folder.join("table.csv");
    fs::write(&table_path, table).expect("table");
    let table = table_path.to_str().expect("a path");
    let map = ["map", "price * 2.0", table, "--where", "id % 7 != 0"];
    let sweep = ["sweep", "math::sin(x)", "--over", "x=0.0:1.0/250000"];
    for form in ["parquet", "arrow"] {
        for job in [&map[..], &sweep[..]] {
            let [there, here] = ["there", "here"].map(|name| folder.join(format!("{name}.{form}")));
            let output = cluster.run(&[job, &["-o", there.to_str().expect("a path")]].concat());
            assert!(output.status.success(), "{output:?}");
            assert!(quipu().args(job).arg("-o").arg(&here).status().expect("runs").success());
            let (there, here) = (fs::read(there).expect("a file"), fs::read(here).expect("a file"));
            assert!(there.len() > 100_000 && there == here, "{form} {job:?}");
        }
    }
}

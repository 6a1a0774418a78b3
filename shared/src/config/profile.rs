//! Profiles: named sets of values for one kind of place, chosen by `--profile` or `QUIPU_PROFILE`.
//!
//! What is built in is little, and all of it is in [`built_in`]. A file adds to it (and may name profiles of its own) with
//! a table `[profiles.NAME.SECTION]`, which stands above the rest of that file and below stronger files.

use figment::value::{Dict, Value};

/// Names the profile.
pub(super) const PROFILE_VARIABLE: &str = "QUIPU_PROFILE";
/// The section of a file with its profiles.
pub(super) const PROFILES: &str = "profiles";

/// Profiles that are there without a file.
pub const BUILT_IN: [&str; 2] = ["dev", "prod"];

/// What a profile changes of the defaults, by key:
/// - `dev` logs what goes on inside the product.
/// - `prod` makes nothing up: without a secret, or a master's data folder, a node does not start.
pub(super) fn built_in(profile: &str) -> Vec<(&'static str, Value)> {
    match profile {
        "dev" => vec![("log.level", Value::from("info,quipu=debug,quipu_master=debug,quipu_worker=debug"))],
        "prod" => vec![("cluster.strict", Value::from(true))],
        _ => Vec::new(),
    }
}

/// The profiles of a file, taken out of its values.
pub(super) fn take_profiles(values: &mut Dict) -> Result<Vec<(String, Dict)>, String> {
    let Some(profiles) = values.remove(PROFILES) else { return Ok(Vec::new()) };
    let wrong = |key: &str| format!("it holds tables; write the keys of one under [{key}.NAME.SECTION]");
    let profiles = profiles.into_dict().ok_or_else(|| wrong(PROFILES))?;
    let table = |(name, table): (String, Value)| match table.into_dict() {
        Some(table) => Ok((name, table)),
        None => Err(wrong(PROFILES)),
    };
    profiles.into_iter().map(table).collect()
}

//! Reads the layers, merges them, and remembers where each value came from.

use super::profile::{BUILT_IN, PROFILE_VARIABLE, built_in, take_profiles};
use super::{Config, NamespaceQuota};
use crate::access::Namespace;
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Name of a configuration file.
const FILE_NAME: &str = "quipu.toml";
/// Folder of the system's file.
const SYSTEM_FOLDER: &str = "/etc/quipu";
/// What all environment variables begin with.
const PREFIX: &str = "QUIPU_";
/// Names a file to read instead of the searched ones.
const FILE_VARIABLE: &str = "QUIPU_CONFIG";

/// Short names of environment variables; `QUIPU_SECTION__KEY` works for every key.
const VARIABLES: [(&str, &str); 14] = [
    ("QUIPU_CLUSTER", "client.cluster"),
    ("QUIPU_TOKEN_FILE", "client.token_file"),
    ("QUIPU_CA_FILE", "client.ca_file"),
    ("QUIPU_OUTPUT", "client.output"),
    ("QUIPU_NAMESPACE", "client.namespace"),
    ("QUIPU_CLUSTER_ID", "cluster.id"),
    ("QUIPU_SECRET_FILE", "cluster.secret_file"),
    ("QUIPU_DATA_DIR", "cluster.data_dir"),
    ("QUIPU_SEEDS", "gossip.seeds"),
    ("QUIPU_ADVERTISE", "gossip.advertise"),
    ("QUIPU_SLOTS", "worker.slots"),
    ("QUIPU_LOG_LEVEL", "log.level"),
    ("QUIPU_LOG_FORMAT", "log.format"),
    ("QUIPU_OTLP_ENDPOINT", "telemetry.otlp_endpoint"),
];

/// Variables of OpenTelemetry that stand for keys; weaker than those of our own name, the last one strongest.
const STANDARD_VARIABLES: [(&str, &str); 2] = [
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.otlp_endpoint"),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "telemetry.otlp_endpoint"),
];

/// Secrets stand in files: the environment of a process is read by its children, by crash reports and by `ps`.
const SECRET_VARIABLES: [(&str, &str); 2] =
    [("QUIPU_SECRET", "QUIPU_SECRET_FILE"), ("QUIPU_TOKEN", "QUIPU_TOKEN_FILE")];

/// The section whose next name is the user's to choose.
const NAMESPACES: &str = "namespaces";

/// Keys of paths. In a file, a relative one starts at that file's folder: the working folder of a service is an accident.
const PATH_KEYS: [&str; 9] = [
    "client.token_file",
    "client.ca_file",
    "cluster.secret_file",
    "cluster.tls_cert",
    "cluster.tls_key",
    "cluster.tls_ca",
    "cluster.data_dir",
    "master.http_cert",
    "master.http_key",
];

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file is there (or was asked for) and can't be read.
    #[error("read configuration {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is not TOML.
    #[error("configuration {} is not valid TOML: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser says, with line and column.
        problem: String,
    },
    /// A key that does not exist.
    #[error("{place}: unknown key {key}; {}", suggestion(nearest.as_deref()))]
    UnknownKey {
        /// As written.
        key: String,
        /// The file, variable or flag.
        place: String,
        /// The known key that looks most like it.
        nearest: Option<String>,
    },
    /// A value of the wrong type, or outside of what makes sense.
    #[error("{place}: {key} is wrong: {problem}")]
    BadValue {
        /// The key.
        key: String,
        /// The file, variable or flag.
        place: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// A profile that nothing defines.
    #[error("{place}: there is no profile {name:?}; there are {}", known.join(", "))]
    UnknownProfile {
        /// As given.
        name: String,
        /// The variable or flag.
        place: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// A secret itself where the name of its file belongs.
    #[error("{variable} is not read; write the secret to a file that only you can read, and set {instead} to its path")]
    SecretInEnvironment {
        /// The variable.
        variable: &'static str,
        /// The one to use.
        instead: &'static str,
    },
}

fn suggestion(nearest: Option<&str>) -> String {
    match nearest {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => "see quipu config show for all keys".into(),
    }
}

/// Values from the command line, each with the name of its flag.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    values: Vec<(String, String, Result<Value, String>)>,
    file: Option<PathBuf>,
    profile: Option<String>,
}

impl Overrides {
    /// Nothing given.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` (such as `client.cluster`) if the flag was given.
    pub fn set(&mut self, flag: &str, key: &str, value: Option<impl Serialize>) -> &mut Self {
        if let Some(value) = value {
            let value = Value::serialize(value).map_err(|error| error.to_string());
            self.values.push((flag.to_owned(), key.to_owned(), value));
        }
        self
    }

    /// Chooses a profile, if given.
    pub fn profile(&mut self, name: Option<String>) -> &mut Self {
        self.profile = name;
        self
    }

    /// Reads just this file instead of the searched ones, if given.
    pub fn file(&mut self, path: Option<PathBuf>) -> &mut Self {
        self.file = path;
        self
    }
}

/// What the layers are read from.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Where `./quipu.toml` is looked for.
    pub working_folder: PathBuf,
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// Folder of the system's file.
    pub system_folder: PathBuf,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        Self {
            working_folder: PathBuf::from("."),
            environment: std::env::vars_os().filter_map(text).collect(),
            system_folder: PathBuf::from(SYSTEM_FOLDER),
        }
    }

    /// A variable that is set; an empty one counts as unset.
    fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The searched files, the weakest first.
    fn files(&self) -> Vec<PathBuf> {
        let user = match (self.variable("XDG_CONFIG_HOME"), self.variable("HOME")) {
            (Some(folder), _) => Some(PathBuf::from(folder).join("quipu")),
            (None, Some(home)) => Some(PathBuf::from(home).join(".config/quipu")),
            (None, None) => None,
        };
        let folders = [Some(self.system_folder.clone()), user, Some(self.working_folder.clone())];
        folders.into_iter().flatten().map(|folder| folder.join(FILE_NAME)).collect()
    }
}

/// A configuration, and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values, checked.
    pub config: Config,
    /// Where each value came from, by key: `default`, a file, `QUIPU_...` or a flag.
    pub sources: BTreeMap<String, String>,
    /// What looks like a mistake but need not be one, for stderr.
    pub warnings: Vec<String>,
    /// The chosen profile.
    pub profile: Option<String>,
    /// Files that were read, or looked for.
    pub files: Vec<PathBuf>,
}

/// One line of `quipu config show`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Such as `client.cluster`.
    pub key: String,
    /// As TOML would have it; empty where it is not set.
    pub value: String,
    /// Where it came from.
    pub source: String,
}

impl Loaded {
    /// Every key with its value and where that came from, by section and key.
    pub fn show(&self) -> Vec<Shown> {
        let value = |value: &serde_json::Value| if value.is_null() { String::new() } else { value.to_string() };
        let line = |(key, leaf): (String, serde_json::Value)| Shown {
            value: value(&leaf),
            source: self.sources.get(&key).cloned().unwrap_or_default(),
            key,
        };
        leaves(&self.config).into_iter().map(line).collect()
    }
}

impl Config {
    /// Reads all layers and checks the result.
    ///
    /// # Errors
    /// Where a file can't be read, a key is unknown or a value is wrong; the exit code for all of them is 78.
    pub fn load(surroundings: &Surroundings, overrides: &Overrides) -> Result<Loaded, ConfigError> {
        let known = known_keys();
        let mut figment = Figment::from(Layer::new("default", figment_dict(&Self::default())));
        let of_variable = || surroundings.variable(PROFILE_VARIABLE).map(|name| (name.to_owned(), PROFILE_VARIABLE));
        let chosen = overrides.profile.clone().map(|name| (name, "--profile")).or_else(of_variable);
        let profile = chosen.as_ref().map(|(name, _)| name.as_str());
        for (key, value) in profile.map(built_in).unwrap_or_default() {
            figment =
                figment.merge(Layer::new(&format!("profile {}", profile.unwrap_or_default()), nested(key, value)));
        }
        let mut profiles: Vec<String> = BUILT_IN.map(String::from).into();
        let explicit = overrides.file.clone().or_else(|| surroundings.variable(FILE_VARIABLE).map(PathBuf::from));
        let files = match &explicit {
            Some(file) => vec![file.clone()],
            None => surroundings.files(),
        };
        for file in files.clone() {
            match std::fs::read_to_string(&file) {
                Ok(text) => {
                    let (base, of_profiles) = file_layers(&file, &text, &known)?;
                    figment = figment.merge(base);
                    for (name, layer) in of_profiles {
                        if profile == Some(name.as_str()) {
                            figment = figment.merge(layer);
                        }
                        profiles.push(name);
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && explicit.is_none() => {}
                Err(source) => return Err(ConfigError::Read { path: file, source }),
            }
        }
        if let Some((name, place)) = &chosen
            && !profiles.contains(name)
        {
            profiles.sort_unstable();
            profiles.dedup();
            return Err(ConfigError::UnknownProfile { name: name.clone(), place: (*place).into(), known: profiles });
        }
        let mut warnings = Vec::new();
        for (name, key, text) in variables(surroundings, &known, &mut warnings)? {
            let value = from_text(&text, known.get(&generic(&key))).map_err(|problem| ConfigError::BadValue {
                key: key.clone(),
                place: name.clone(),
                problem,
            })?;
            figment = figment.merge(Layer::new(&name, nested(&key, value)));
        }
        for (flag, key, value) in &overrides.values {
            let bad = |problem| ConfigError::BadValue { key: key.clone(), place: flag.clone(), problem };
            let layer = Layer::new(flag, nested(key, value.clone().map_err(bad)?));
            refuse_unknown(&layer, &known)?;
            figment = figment.merge(layer);
        }

        let config: Self = figment.extract().map_err(|error| bad_value(&error))?;
        let place =
            |key: &str| figment.find_metadata(key).map_or_else(|| "default".into(), |found| found.name.to_string());
        let sources = leaves(&config).into_keys().map(|key| (key.clone(), place(&key))).collect();
        config.validate().map_err(|(key, problem)| ConfigError::BadValue {
            key: key.into(),
            place: place(key),
            problem,
        })?;
        let profile = profile.map(str::to_owned);
        Ok(Loaded { config, sources, warnings, profile, files })
    }
}

/// One place of values.
struct Layer {
    place: String,
    values: Dict,
}

impl Layer {
    fn new(place: &str, values: Dict) -> Self {
        Self { place: place.to_owned(), values }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.place.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

/// What a file says in any case, and what it says in each of its profiles.
fn file_layers(
    path: &Path,
    text: &str,
    known: &BTreeMap<String, serde_json::Value>,
) -> Result<(Layer, Vec<(String, Layer)>), ConfigError> {
    use figment::providers::{Format, Toml};
    let mut values = Toml::string(text)
        .data()
        .map_err(|error| ConfigError::Syntax { path: path.to_owned(), problem: error.kind.to_string() })?
        .remove(&Profile::Default)
        .unwrap_or_default();
    let place = path.display().to_string();
    let bad = |problem| ConfigError::BadValue { key: super::profile::PROFILES.into(), place: place.clone(), problem };
    let profiles = take_profiles(&mut values).map_err(bad)?;
    let layer = |place: String, mut values: Dict| {
        start_paths_at(path.parent().unwrap_or(Path::new("")), &mut values);
        let layer = Layer::new(&place, values);
        refuse_unknown(&layer, known).map(|()| layer)
    };
    let profiles = profiles.into_iter().map(|(name, values)| {
        let layer = layer(format!("{place} [profiles.{name}]"), values)?;
        Ok((name, layer))
    });
    let profiles = profiles.collect::<Result<_, ConfigError>>()?;
    Ok((layer(place.clone(), values)?, profiles))
}

/// Makes relative paths start at the folder of their file.
fn start_paths_at(folder: &Path, values: &mut Dict) {
    for key in PATH_KEYS {
        let Some((section, name)) = key.split_once('.') else { continue };
        if let Some(Value::Dict(_, section)) = values.get_mut(section)
            && let Some(Value::String(_, file)) = section.get_mut(name)
        {
            *file = folder.join(file.as_str()).to_string_lossy().into_owned();
        }
    }
}

fn refuse_unknown(layer: &Layer, known: &BTreeMap<String, serde_json::Value>) -> Result<(), ConfigError> {
    let mut open: Vec<(String, &Value)> = layer.values.iter().map(|(key, value)| (key.clone(), value)).collect();
    while let Some((key, value)) = open.pop() {
        let path = generic(&key);
        let is_section =
            known.keys().any(|known| known.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('.')));
        let place = layer.place.clone();
        match value {
            _ if known.contains_key(&path) => {}
            Value::Dict(_, inner) if is_section => {
                open.extend(inner.iter().map(|(name, value)| (format!("{key}.{name}"), value)));
            }
            _ if is_section => {
                let problem = format!("it is a section; write its keys under [{key}]");
                return Err(ConfigError::BadValue { key, place, problem });
            }
            _ => {
                let nearest = nearest(&key, known.keys().map(String::as_str));
                return Err(ConfigError::UnknownKey { key, place, nearest });
            }
        }
    }
    Ok(())
}

/// The environment's values as (variable, key, text).
fn variables(
    surroundings: &Surroundings,
    known: &BTreeMap<String, serde_json::Value>,
    warnings: &mut Vec<String>,
) -> Result<Vec<(String, String, String)>, ConfigError> {
    for (variable, instead) in SECRET_VARIABLES {
        if surroundings.variable(variable).is_some() {
            return Err(ConfigError::SecretInEnvironment { variable, instead });
        }
    }
    let mut found: Vec<(String, String, String)> = STANDARD_VARIABLES
        .iter()
        .filter_map(|(name, key)| Some(((*name).into(), (*key).into(), surroundings.variable(name)?.into())))
        .collect();
    for name in surroundings
        .environment
        .keys()
        .filter(|name| name.starts_with(PREFIX) && *name != FILE_VARIABLE && *name != PROFILE_VARIABLE)
    {
        let Some(text) = surroundings.variable(name) else { continue };
        let short = VARIABLES.iter().find(|(variable, _)| variable == name).map(|(_, key)| (*key).to_owned());
        let key = short.or_else(|| {
            let (section, key) = name.strip_prefix(PREFIX)?.split_once("__")?;
            Some(format!("{}.{}", section.to_lowercase(), key.replace("__", ".").to_lowercase()))
        });
        match key {
            Some(key) if known.contains_key(&generic(&key)) => found.push((name.clone(), key, text.to_owned())),
            Some(key) => {
                let nearest = nearest(&key, known.keys().map(String::as_str));
                return Err(ConfigError::UnknownKey { key, place: name.clone(), nearest });
            }
            // Other programs set such names too: Kubernetes does for a service that is called quipu.
            None => {
                if let Some(nearest) = nearest(name, VARIABLES.iter().map(|(variable, _)| *variable)) {
                    warnings.push(format!("environment variable {name} is not known; did you mean {nearest}?"));
                }
            }
        }
    }
    // A short name is weaker than the full one, whatever the order of their letters.
    found.sort_by_key(|(name, ..)| name.contains("__"));
    Ok(found)
}

/// A variable's text as the type that the key has by default. Keys without a default hold text.
fn from_text(text: &str, default: Option<&serde_json::Value>) -> Result<Value, String> {
    Ok(match default {
        Some(serde_json::Value::Number(number)) if number.is_f64() => {
            Value::from(text.trim().parse::<f64>().map_err(|_| format!("{text:?} is not a number"))?)
        }
        Some(serde_json::Value::Number(_)) => {
            Value::from(text.trim().parse::<u64>().map_err(|_| format!("{text:?} is not a whole number"))?)
        }
        Some(serde_json::Value::Bool(_)) => match text.trim() {
            "1" | "true" => Value::from(true),
            "0" | "false" => Value::from(false),
            _ => return Err(format!("{text:?} is neither true nor false")),
        },
        Some(serde_json::Value::Array(_)) => {
            Value::from(text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>())
        }
        _ => Value::from(text),
    })
}

fn bad_value(error: &figment::Error) -> ConfigError {
    let place = error.metadata.as_ref().map_or_else(|| "configuration".into(), |found| found.name.to_string());
    ConfigError::BadValue { key: error.path.join("."), place, problem: error.kind.to_string() }
}

/// The known name, or section of one, that is most like `name`, if any is like it.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    // Slips of the finger; with more, suggestions puzzle more than they help.
    const EDITS_MAX: usize = 2;
    known
        .flat_map(|key| [Some(key), key.split_once('.').map(|(section, _)| section)])
        .flatten()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(edits, _)| *edits <= EDITS_MAX)
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

fn nested(key: &str, value: Value) -> Dict {
    match key.split_once('.') {
        Some((section, rest)) => Dict::from([(section.to_owned(), Value::from(nested(rest, value)))]),
        None => Dict::from([(key.to_owned(), value)]),
    }
}

fn figment_dict(config: &Config) -> Dict {
    Value::serialize(config).ok().and_then(Value::into_dict).unwrap_or_default()
}

/// Every key that there is, with its default. What the user names stands as `*`.
pub(super) fn known_keys() -> BTreeMap<String, serde_json::Value> {
    let any = Namespace::default();
    let mut config = Config::default();
    let numbers = NamespaceQuota {
        jobs_pending_max: Some(0),
        pending_bytes_max: Some(0),
        rows_per_s_max: Some(0),
        functions: None,
    };
    config.namespaces.insert(any.clone(), numbers);
    let named = format!("{NAMESPACES}.{any}.");
    let rename = |key: String| key.strip_prefix(&named).map(|rest| format!("{NAMESPACES}.*.{rest}")).unwrap_or(key);
    leaves(&config).into_iter().map(|(key, value)| (rename(key), value)).collect()
}

/// A key with `*` for what the user names.
fn generic(key: &str) -> String {
    let mut parts: Vec<&str> = key.split('.').collect();
    if let [NAMESPACES, name, ..] = &mut parts[..] {
        *name = "*";
    }
    parts.join(".")
}

/// Every key with its value, in the order of the names.
pub(super) fn leaves(config: &Config) -> BTreeMap<String, serde_json::Value> {
    let mut found = BTreeMap::new();
    let mut open = vec![(String::new(), serde_json::to_value(config).unwrap_or_default())];
    while let Some((path, value)) = open.pop() {
        match value {
            serde_json::Value::Object(section) => {
                let dot = if path.is_empty() { "" } else { "." };
                open.extend(section.into_iter().map(|(key, value)| (format!("{path}{dot}{key}"), value)));
            }
            leaf => {
                found.insert(path, leaf);
            }
        }
    }
    found
}

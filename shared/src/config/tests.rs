use super::layers::{ConfigError, Loaded, Overrides, Surroundings};
use super::{Config, LogFormat, OutputFormat};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Folders of a system, a user and a project, and an environment.
struct Place {
    folder: tempfile::TempDir,
    environment: BTreeMap<String, String>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["system", "user/quipu", "project"] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let user = folder.path().join("user").display().to_string();
        Self { folder, environment: BTreeMap::from([("XDG_CONFIG_HOME".into(), user)]) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.path(name), text).unwrap();
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    fn load_with(&self, overrides: &Overrides) -> Result<Loaded, ConfigError> {
        let surroundings = Surroundings {
            working_folder: self.path("project"),
            environment: self.environment.clone(),
            system_folder: self.path("system"),
        };
        Config::load(&surroundings, overrides)
    }

    fn load(&self) -> Result<Loaded, ConfigError> {
        self.load_with(&Overrides::new())
    }

    fn error(&self) -> String {
        self.load().unwrap_err().to_string()
    }
}

#[test]
fn quotas_of_namespaces_have_names_of_their_own() {
    let with = |text: &str| Place::new().file("project/quipu.toml", text);
    let place = with("[namespaces.team-a]\njobs_pending_max = 7\nfunctions = \"math\"\n");
    let loaded = place.variable("QUIPU_NAMESPACES__CI__ROWS_PER_S_MAX", "5").load().unwrap();
    let quota = &loaded.config.namespaces[&"team-a".parse().unwrap()];
    assert_eq!((quota.jobs_pending_max, quota.rows_per_s_max), (Some(7), None));
    assert!(loaded.sources["namespaces.team-a.jobs_pending_max"].ends_with("quipu.toml"));
    assert_eq!(loaded.config.namespaces[&"ci".parse().unwrap()].rows_per_s_max, Some(5));
    let error = with("[namespaces.team-a]\njobs_pending = 7\n").error();
    assert!(error.contains("namespaces.team-a.jobs_pending"), "{error}");
    assert!(with("[namespaces.Team]\njobs_pending_max = 7\n").load().is_err(), "not a name of a namespace");
}

#[test]
fn nothing_given_gives_the_defaults() {
    let loaded = Place::new().load().unwrap();
    assert_eq!(loaded.config, Config::default());
    assert!(loaded.sources.values().all(|source| source == "default"), "{:?}", loaded.sources);
    assert!(loaded.config.master.http.ip().is_loopback() && loaded.config.worker.gossip.ip().is_loopback());
}

#[test]
fn stronger_layers_win_and_are_named() {
    let mut place = Place::new()
        .file(
            "system/quipu.toml",
            "[log]\nlevel='error'\nformat='json'\n[cluster]\nid='system'\n[worker]\nslots=1\nzone='s'",
        )
        .file("user/quipu/quipu.toml", "[cluster]\nid='user'\n[worker]\nslots=2\nzone='u'\n[log]\nlevel='warn'")
        .file("project/quipu.toml", "[worker]\nslots=3\nzone='p'\n[log]\nlevel='info'");
    place = place.variable("QUIPU_SLOTS", "4").variable("QUIPU_LOG_LEVEL", "debug");
    let mut overrides = Overrides::new();
    overrides.set("--slots", "worker.slots", Some(5_u32)).set("--zone", "worker.zone", None::<String>);
    let loaded = place.load_with(&overrides).unwrap();
    let config = &loaded.config;
    assert_eq!((config.worker.slots, config.worker.zone.as_str()), (5, "p"));
    assert_eq!((config.log.level.as_str(), config.log.format), ("debug", LogFormat::Json));
    assert_eq!(config.cluster.id, "user");
    let source = |key: &str| loaded.sources[key].as_str();
    assert_eq!(source("worker.slots"), "--slots");
    assert_eq!(source("log.level"), "QUIPU_LOG_LEVEL");
    assert_eq!(Path::new(source("worker.zone")), place.path("project/quipu.toml"));
    assert_eq!(Path::new(source("cluster.id")), place.path("user/quipu/quipu.toml"));
    assert_eq!(Path::new(source("log.format")), place.path("system/quipu.toml"));
    assert_eq!(source("scheduler.lease_ttl_ms"), "default");
}

#[test]
fn every_key_can_be_set_from_the_environment() {
    let values = BTreeMap::from([
        ("client.cluster", "https://m.example:7402"),
        ("client.output", "json"),
        ("client.namespace", "team-a"),
        ("gossip.seeds", "a:1, b:2,"),
        ("gossip.advertise", "10.0.0.7"),
        ("gossip.period_ms", "600"),
        ("log.format", "json"),
        ("log.level", "warn"),
        ("master.http", "0.0.0.0:1"),
        ("master.cors_origins", "https://app.example"),
        ("master.node_id", "m-1"),
        ("worker.node_id", "w-1"),
        ("worker.tier", "interpreter"),
        ("cluster.strict", "true"),
        ("scheduler.placement", "zone-spread"),
        ("scheduler.lease_ttl_ms", "4000"),
        ("telemetry.otlp_endpoint", "http://127.0.0.1:9"),
        ("telemetry.sample_ratio", "0.5"),
    ]);
    let mut place = Place::new();
    for (key, default) in Place::new().load().unwrap().show().into_iter().map(|shown| (shown.key, shown.value)) {
        let name = format!("QUIPU_{}", key.to_uppercase().replace('.', "__"));
        let fallback = if default.parse::<u64>().is_ok() { "1900" } else { "127.0.0.1:9" };
        let percent = ["scheduler.cpu_pressure_max", "scheduler.memory_pressure_max"].contains(&key.as_str());
        let small = ["worker.slots", "worker.weight", "scheduler.breaker_failures", "master.eval_threads"]
            .contains(&key.as_str())
            || percent
            || key.starts_with("limits.formula.");
        let number = if small { "7" } else { fallback };
        place = place.variable(&name, values.get(key.as_str()).copied().unwrap_or(number));
    }
    let loaded = place.load().unwrap();
    assert!(loaded.sources.values().all(|source| source.starts_with("QUIPU_")), "{:?}", loaded.sources);
    assert_eq!(loaded.config.gossip.seeds, ["a:1", "b:2"]);
    assert_eq!(loaded.config.client.output, Some(OutputFormat::Json));
    assert_eq!(loaded.config.worker.slots, 7);
}

#[test]
fn text_that_looks_like_a_number_stays_text() {
    let loaded = Place::new().variable("QUIPU_CLUSTER_ID", "007").variable("QUIPU_DATA_DIR", "1").load().unwrap();
    assert_eq!(loaded.config.cluster.id, "007");
    assert_eq!(loaded.config.cluster.data_dir, Some(PathBuf::from("1")));
}

#[test]
fn short_names_reach_their_keys() {
    let place = Place::new()
        .variable("QUIPU_CLUSTER", "https://m.example")
        .variable("QUIPU_SECRET_FILE", "/s")
        .variable("QUIPU_TOKEN_FILE", "/t")
        .variable("QUIPU_CA_FILE", "/c")
        .variable("QUIPU_LOG_FORMAT", "json");
    let config = place.load().unwrap().config;
    assert_eq!(config.client.cluster.as_deref(), Some("https://m.example"));
    assert_eq!(config.cluster.secret_file, Some("/s".into()));
    assert_eq!((config.client.token_file, config.client.ca_file), (Some("/t".into()), Some("/c".into())));
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn empty_variable_counts_as_unset() {
    let place = Place::new().variable("QUIPU_CLUSTER", "").variable("QUIPU_SLOTS", "").variable("QUIPU_CONFIG", "");
    assert_eq!(place.load().unwrap().config, Config::default());
}

#[test]
fn unknown_key_is_refused_with_the_file_and_the_nearest() {
    let place = Place::new().file("project/quipu.toml", "[worker]\nslot = 3");
    let error = place.error();
    assert!(error.contains("quipu.toml") && error.contains("worker.slot;"), "{error}");
    assert!(error.contains("did you mean worker.slots?"), "{error}");
    let error = Place::new().file("user/quipu/quipu.toml", "[wurker]\nslots = 3").error();
    assert!(error.contains("unknown key wurker; did you mean worker?"), "{error}");
    let error = Place::new().file("user/quipu/quipu.toml", "worker = 3").error();
    assert!(error.contains("worker is wrong: it is a section"), "{error}");
    let error = Place::new().variable("QUIPU_WORKER__SLOTZ", "3").error();
    assert!(error.contains("QUIPU_WORKER__SLOTZ") && error.contains("did you mean worker.slots?"), "{error}");
    let mut overrides = Overrides::new();
    overrides.set("--x", "worker.x", Some(1));
    assert!(matches!(Place::new().load_with(&overrides), Err(ConfigError::UnknownKey { .. })));
}

#[test]
fn odd_flat_variables_warn_and_do_not_stop() {
    let place = Place::new()
        .variable("QUIPU_CLUSTR", "https://m.example")
        .variable("QUIPU_SERVICE_HOST", "10.0.0.1")
        .variable("QUIPU_PORT_7402_TCP_ADDR", "10.0.0.1");
    let loaded = place.load().unwrap();
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.warnings, ["environment variable QUIPU_CLUSTR is not known; did you mean QUIPU_CLUSTER?"]);
}

#[test]
fn wrong_values_name_key_place_and_remedy() {
    let cases = [
        ("[worker]\nslots = 'many'", "worker.slots", "expected"),
        ("[worker]\nslots = -1", "worker.slots", "expected"),
        ("[worker]\nslots = 5000", "worker.slots", "at most 1024"),
        ("[master]\nhttp = 'here'", "master.http", "address"),
        ("[master]\nnode_id = 'Big Name'", "master.node_id", "a-z"),
        ("[client]\ncluster = 'master:7402'", "client.cluster", "https://"),
        ("[client]\ncluster = 'https://'", "client.cluster", "https://"),
        ("[client]\noutput = 'xml'", "client.output", "ndjson"),
        ("[cluster]\nid = ''", "cluster.id", "1 to 64"),
        ("[cluster]\ntls_cert = 'a.pem'", "cluster.tls_cert", "both or neither"),
        ("[gossip]\nseeds = ['worker-1']", "gossip.seeds", "HOST:PORT"),
        ("[gossip]\nadvertise = '0.0.0.0'", "gossip.advertise", "10.0.0.7"),
        ("[gossip]\nadvertise = 'me'", "gossip.advertise", "10.0.0.7"),
        ("[gossip]\nperiod_ms = 5", "gossip.period_ms", "10 to"),
        ("[gossip]\nsuspicion_ms = 400", "gossip.suspicion_ms", "period_ms"),
        ("[limits]\nrows_max = 0", "limits.rows_max", "at least 1"),
        ("[limits]\nrows_max = 9007199254740993", "limits.rows_max", "at most"),
        ("[limits]\nbatch_jobs_max = 0", "limits.batch_jobs_max", "at least 1"),
        ("[limits]\nrequests_per_client_max = 0", "limits.requests_per_client_max", "at least 1"),
        ("[limits.formula]\nnesting_max = 0", "limits.formula.nesting_max", "1 to"),
        ("[limits.formula]\ntokens_max = 1000000", "limits.formula.tokens_max", "1 to"),
        ("[limits.formula]\ntoken_max = 10", "limits.formula.token_max", "did you mean limits.formula.tokens_max?"),
        ("[scheduler]\nlease_ttl_ms = 100", "scheduler.lease_ttl_ms", "at least 3000"),
        ("[scheduler]\nattempts_max = 0", "scheduler.attempts_max", "at least 1"),
        ("[scheduler]\nplacement = 'random'", "scheduler.placement", "zone-spread"),
        ("[scheduler]\ncpu_pressure_max = 101", "scheduler.cpu_pressure_max", "1 to 100"),
        ("[scheduler]\nbreaker_failures = 0", "scheduler.breaker_failures", "1 to 1000"),
        ("[scheduler]\nbreaker_open_max_ms = 10", "scheduler.breaker_open_max_ms", "breaker_open_ms"),
        ("[worker]\nweight = 0", "worker.weight", "1 to 1000"),
        ("[profiles]\nprod = 3", "profiles", "tables"),
        ("[profiles.prod.worker]\nslot = 3", "worker.slot;", "did you mean worker.slots?"),
        ("[worker]\nzone = 'zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz'", "worker.zone", "64"),
        ("[log]\nlevel = 'quipu=loud'", "log.level", "debug"),
        ("[telemetry]\notlp_endpoint = 'localhost:4317'", "telemetry.otlp_endpoint", "http://"),
        ("[telemetry]\notlp_endpoint = 'http://c:4317/v1/traces'", "telemetry.otlp_endpoint", "gRPC"),
        ("[telemetry]\nsample_ratio = 1.5", "telemetry.sample_ratio", "0.0 to 1.0"),
        ("[telemetry]\nqueue_spans_max = 0", "telemetry.queue_spans_max", "1 to"),
        ("[log]\nformat = 'xml'", "log.format", "json"),
    ];
    for (text, key, remedy) in cases {
        let error = Place::new().file("project/quipu.toml", text).error();
        for part in [key, "project/quipu.toml", remedy] {
            assert!(error.contains(part), "{text:?} gave {error:?}, without {part:?}");
        }
    }
    let error = Place::new().variable("QUIPU_SLOTS", "many").error();
    assert_eq!(error, "QUIPU_SLOTS: worker.slots is wrong: \"many\" is not a whole number");
}

#[test]
fn broken_and_unreadable_files_are_named() {
    let error = Place::new().file("project/quipu.toml", "[worker\nslots = 3").error();
    assert!(error.contains("quipu.toml") && error.contains("line 1"), "{error}");
    let place = Place::new();
    std::fs::create_dir(place.path("project/quipu.toml")).unwrap();
    assert!(matches!(place.load(), Err(ConfigError::Read { .. })));
}

#[test]
fn named_file_replaces_the_searched_ones_and_must_exist() {
    let place =
        Place::new().file("project/quipu.toml", "[worker]\nslots = 3").file("other.toml", "[worker]\nzone = 'o'");
    let mut overrides = Overrides::new();
    overrides.file(Some(place.path("other.toml")));
    let config = place.load_with(&overrides).unwrap().config;
    assert_eq!((config.worker.slots, config.worker.zone.as_str()), (0, "o"));
    let other = place.path("other.toml").display().to_string();
    let place = place.variable("QUIPU_CONFIG", &other);
    assert_eq!(place.load().unwrap().config.worker.zone, "o");
    overrides.file(Some(place.path("missing.toml")));
    assert!(matches!(place.load_with(&overrides), Err(ConfigError::Read { .. })));
}

#[test]
fn relative_paths_in_a_file_start_at_its_folder() {
    let place = Place::new()
        .file("system/quipu.toml", "[cluster]\nsecret_file = 'secret'\ntls_ca = '/abs/ca.pem'")
        .variable("QUIPU_TOKEN_FILE", "token");
    let config = place.load().unwrap().config;
    assert_eq!(config.cluster.secret_file, Some(place.path("system/secret")));
    assert_eq!(config.cluster.tls_ca, Some("/abs/ca.pem".into()));
    assert_eq!(config.client.token_file, Some("token".into()));
}

#[test]
fn standard_variables_are_weaker_than_ours() {
    let place = Place::new().file("project/quipu.toml", "[telemetry]\notlp_endpoint = 'http://file:1'");
    let place =
        place.variable("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:1").variable("QUIPU_TELEMETRY__SAMPLE_RATIO", "0.25");
    let loaded = place.load().unwrap();
    assert_eq!(loaded.config.telemetry.otlp_endpoint.as_deref(), Some("http://all:1"));
    assert_eq!(loaded.sources["telemetry.otlp_endpoint"], "OTEL_EXPORTER_OTLP_ENDPOINT");
    assert_eq!(loaded.config.telemetry.sample_ratio, 0.25);
    let place = Place::new().variable("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:1");
    let place = place.variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:1");
    assert_eq!(place.load().unwrap().config.telemetry.otlp_endpoint.as_deref(), Some("http://traces:1"));
    let place = place.variable("QUIPU_OTLP_ENDPOINT", "http://ours:1");
    assert_eq!(place.load().unwrap().config.telemetry.otlp_endpoint.as_deref(), Some("http://ours:1"));
}

#[test]
fn secrets_in_the_environment_are_refused_with_the_way_out() {
    for (name, instead) in [("QUIPU_SECRET", "QUIPU_SECRET_FILE"), ("QUIPU_TOKEN", "QUIPU_TOKEN_FILE")] {
        let error = Place::new().variable(name, "hunter2").error();
        assert!(error.contains(instead) && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn show_lists_every_key_once_in_order() {
    let loaded = Place::new().variable("QUIPU_SLOTS", "4").load().unwrap();
    let shown = loaded.show();
    assert!(shown.is_sorted_by(|a, b| a.key < b.key));
    assert_eq!(shown.len(), loaded.sources.len());
    let line = |key: &str| shown.iter().find(|shown| shown.key == key).unwrap();
    assert_eq!((line("worker.slots").value.as_str(), line("worker.slots").source.as_str()), ("4", "QUIPU_SLOTS"));
    assert_eq!(line("cluster.id").value, "\"quipu\"");
    assert_eq!(line("client.cluster").value, "");
    assert_eq!(line("gossip.seeds").value, "[]");
}

#[test]
fn advertised_address_takes_an_ip_or_an_ip_with_port() {
    let advertised =
        |text: &str| Place::new().variable("QUIPU_ADVERTISE", text).load().unwrap().config.gossip.advertise_address();
    assert_eq!(advertised("10.0.0.7"), Some(SocketAddr::from(([10, 0, 0, 7], 0))));
    assert_eq!(advertised("10.0.0.7:7400"), Some(SocketAddr::from(([10, 0, 0, 7], 7400))));
    assert_eq!(advertised("::1").map(|address| address.is_ipv6()), Some(true));
    assert_eq!(Config::default().gossip.advertise_address(), None);
}

#[test]
fn profile_stands_above_its_file_and_below_stronger_ones() {
    let place = Place::new()
        .file("system/quipu.toml", "[worker]\nslots = 1\nzone = 's'\n[profiles.prod.worker]\nslots = 2\nzone = 'p'")
        .file("project/quipu.toml", "[worker]\nzone = 'mine'\n[profiles.lab.cluster]\nsecret_file = 'lab'");
    let with = |name: &str| {
        let mut overrides = Overrides::new();
        overrides.profile(Some(name.into()));
        place.load_with(&overrides)
    };
    let plain = place.load().unwrap();
    assert_eq!((plain.config.worker.slots, plain.config.cluster.strict, plain.profile), (1, false, None));
    let prod = with("prod").unwrap();
    assert_eq!(
        (prod.config.worker.slots, prod.config.worker.zone.as_str(), prod.config.cluster.strict),
        (2, "mine", true)
    );
    assert_eq!(prod.sources["worker.slots"], format!("{} [profiles.prod]", place.path("system/quipu.toml").display()));
    assert_eq!((prod.sources["cluster.strict"].as_str(), prod.profile.as_deref()), ("profile prod", Some("prod")));
    assert!(with("dev").unwrap().config.log.level.contains("debug"));
    let lab = with("lab").unwrap();
    assert_eq!(lab.config.cluster.secret_file, Some(place.path("project/lab")), "relative to its file");
    let error = with("stage").unwrap_err().to_string();
    assert_eq!(error, "--profile: there is no profile \"stage\"; there are dev, lab, prod");
}

#[test]
fn profile_comes_from_the_environment_and_yields_to_it() {
    let place = Place::new().variable("QUIPU_PROFILE", "prod").variable("QUIPU_CLUSTER__STRICT", "0");
    let loaded = place.load().unwrap();
    assert_eq!((loaded.config.cluster.strict, loaded.profile.as_deref()), (false, Some("prod")));
    let error = Place::new().variable("QUIPU_PROFILE", "nope").error();
    assert_eq!(error, "QUIPU_PROFILE: there is no profile \"nope\"; there are dev, prod");
}

#[test]
fn every_key_is_in_the_documentation_with_its_default_and_whether_it_is_live() {
    let page = include_str!("../../../docs/CONFIG.md");
    let lines: Vec<String> = super::layers::known_keys()
        .into_iter()
        .map(|(key, default)| {
            let default = if default.is_null() || key.starts_with("namespaces.") {
                String::new()
            } else {
                format!("`{default}`")
            };
            let live = if super::is_live(&key) { "yes" } else { "" };
            format!("| `{key}` | {default} | {live} | ")
        })
        .collect();
    let is_described = |line: &&String| {
        let found: Vec<&str> = page.lines().filter(|of_page| of_page.starts_with(line.as_str())).collect();
        found.len() == 1 && found.iter().all(|of_page| of_page.len() > line.len() + 10)
    };
    let missing: Vec<&str> = lines.iter().filter(|line| !is_described(line)).map(String::as_str).collect();
    assert!(missing.is_empty(), "docs/CONFIG.md needs lines that begin like this and go on:\n{}", missing.join("\n"));
    let known: Vec<&str> = lines.iter().map(|line| line.split('`').nth(1).unwrap()).collect();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    for key in rows.filter(|key| key.contains('.')) {
        assert!(known.contains(&key), "docs/CONFIG.md describes {key}, which does not exist");
    }
}

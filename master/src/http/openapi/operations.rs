//! Every operation of the API.

use super::describe::{Operation, binary, integer, string, text};
use crate::profile::{FREQUENCY_HZ_MAX, HeapReport, PROFILE_SECONDS_MAX, ThreadReport};
use quipu_shared::access::{IssuedToken, NewToken};
use quipu_shared::api::{
    BATCH_PATH, CHECK_PATH, CLUSTER_PATH, CPU_PROFILE_PATH, DOCUMENT_PATH, EVAL_PATH, EVENTS_PATH, Explanation,
    HEALTH_PATH, HEAP_PATH, JOBS_PATH, JobPage, LOGIN_PATH, LOGOUT_PATH, METRICS_PATH, NDJSON_MEDIA_TYPE, NODES_PATH,
    NodeList, PAGE_JOBS_MAX, READY_PATH, SCHEDULES_PATH, ScheduleList, THREADS_PATH, TOKENS_PATH, TokenList,
    UPLOADS_PATH, VERSION_PATH, VersionView,
};
use quipu_shared::detail::{AttemptList, ClusterView, JobDetail, NodeAttemptList, ShardMap};
use quipu_shared::eval::{CheckAnswer, CheckRequest, EvalAnswer, EvalRequest};
use quipu_shared::ids::NodeId;
use quipu_shared::service::{JobState, JobView, ScheduleView, Upload};
use quipu_shared::spec::{JobSpec, ResultFormat, ScheduleSpec};
use serde_json::json;
use utoipa::PartialSchema as _;
use utoipa::openapi::path::HttpMethod::{Delete, Get, Post, Put};
use utoipa::openapi::schema::{AdditionalProperties, Type};
use utoipa::openapi::{ArrayBuilder, ContentBuilder, ObjectBuilder};

/// The table.
pub(super) fn all() -> Vec<Operation> {
    let mut all = Vec::new();
    all.extend(evaluations());
    all.extend(jobs());
    all.extend(streams());
    all.extend(schedules());
    all.extend(cluster());
    all.extend(access());
    all.extend(insight());
    all.extend(about());
    all
}

fn evaluations() -> Vec<Operation> {
    let tag = "Evaluate at once";
    vec![
        Operation::new(Post, EVAL_PATH, "evaluate", tag, "Evaluate formulas")
            .text(
                "One formula gives its value, or a problem with its place. Rows of columns and several formulas give a \
                 list, in which they fail one by one. Nothing is stored: the values are those of an `eval` job, bit for \
                 bit.",
            )
            .traced()
            .takes::<EvalRequest>(json!({ "formula": "price * qty", "variables": { "price": 2.5, "qty": 4 } }))
            .gives::<EvalAnswer>(200, "The value, or the outcomes."),
        Operation::new(Post, CHECK_PATH, "check", tag, "Check a formula")
            .text("Its type, its cost, its columns, and what is wrong with it, while it is being typed.")
            .takes::<CheckRequest>(json!({ "formula": "a * x + b", "types": { "a": "int" }, "variables": { "b": 2.5 } }))
            .gives::<CheckAnswer>(200, "What is known of the formula, which may be that it is refused."),
    ]
}

fn jobs() -> Vec<Operation> {
    let tag = "Jobs";
    let job = format!("{JOBS_PATH}/{{job}}");
    let states = JobState::ALL.map(JobState::name);
    let state = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(states));
    let order = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["newest", "oldest"]));
    let limit = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1.0)).maximum(Some(PAGE_JOBS_MAX as f64));
    let label = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[^=]+=.*$"));
    let namespace =
        ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"));
    let batch = ContentBuilder::new()
        .schema(Some(string()))
        .example(Some(json!("{\"spec\":{\"kind\":{\"eval\":{\"formulas\":[\"1+2\"]}}}}\n")))
        .build();
    vec![
        Operation::new(Post, JOBS_PATH, "submit_job", tag, "Submit a job")
            .text("Answers once the job is durable.")
            .idempotent()
            .traced()
            .takes::<JobSpec>(json!({ "kind": { "eval": { "formulas": ["10 + 2 * 3"] } } }))
            .makes::<JobView>(202, "The job, which waits for its turn.")
            .refuses(&[404]),
        Operation::new(Get, JOBS_PATH, "list_jobs", tag, "List jobs")
            .text("A page at a time: `next` of one is `after` of the next.")
            .query("after", "Only jobs after this one, in the order of the answer.", integer(0))
            .query("limit", "Jobs of a page.", limit.build())
            .query("order", "Oldest first unless it is said.", order.build())
            .query("state", "Only jobs in one of these states.", ArrayBuilder::new().items(state.build()).build())
            .query("label", "Only jobs with these labels, each as KEY=VALUE.", ArrayBuilder::new().items(label.build()).build())
            .query("name", "Only jobs of this name.", string())
            .query("namespace", "Only jobs of this namespace.", namespace.build())
            .gives::<JobPage>(200, "A page of jobs."),
        Operation::new(Post, BATCH_PATH, "submit_jobs", tag, "Submit many jobs")
            .text("Takes a line a job, with its `spec` and, where wanted, its `idempotency_key` and `traceparent`; a line that can't be used fails alone.")
            .takes_content(NDJSON_MEDIA_TYPE, batch, "One `{\"spec\": ..}` a line.")
            .gives_content(202, "A line each, in their order: `{\"job\": 17}` or `{\"error\": ..}`.", [(NDJSON_MEDIA_TYPE, text())]),
        Operation::new(Get, &*job, "show_job", tag, "Show a job")
            .number("job", "The job's id.")
            .gives::<JobView>(200, "The job as it is.")
            .refuses(&[404]),
        Operation::new(Delete, &*job, "forget_job", tag, "Forget an ended job and its results")
            .number("job", "The job's id.")
            .gives_content(204, "It is forgotten.", [])
            .refuses(&[404, 409]),
        Operation::new(Post, format!("{job}:cancel"), "cancel_job", tag, "Cancel a job")
            .text("No error where it has ended.")
            .number("job", "The job's id.")
            .gives::<JobView>(202, "The job as it is now.")
            .refuses(&[404]),
        Operation::new(Post, format!("{job}:retry"), "retry_job", tag, "Submit the job of an ended one again")
            .number("job", "The ended job's id.")
            .idempotent()
            .makes::<JobView>(202, "The new job.")
            .refuses(&[404, 413, 422]),
        Operation::new(Get, format!("{job}/explain"), "explain_job", tag, "Say why a job stands where it stands")
            .number("job", "The job's id.")
            .gives::<Explanation>(200, "Lines for people.")
            .refuses(&[404]),
        Operation::new(Get, format!("{job}/detail"), "job_detail", tag, "Show what a job was asked for")
            .text("Its spec, but of an `eval` the first hundred formulas, and the typed form of its formula.")
            .number("job", "The job's id.")
            .gives::<JobDetail>(200, "What was asked for, and how it is evaluated.")
            .refuses(&[404]),
        Operation::new(Get, format!("{job}/shards"), "job_shards", tag, "Show how far each part of a job is")
            .text("The job's rows in at most 320 equal parts, whose rows are counted by the state of their shards.")
            .number("job", "The job's id.")
            .gives::<ShardMap>(200, "The parts, in row order.")
            .refuses(&[404]),
        Operation::new(Get, format!("{job}/attempts"), "job_attempts", tag, "List a job's attempts")
            .text("All that run, and the last that have ended since the master was started: where, when, how.")
            .number("job", "The job's id.")
            .gives::<AttemptList>(200, "The attempts, by start.")
            .refuses(&[404]),
    ]
}

fn streams() -> Vec<Operation> {
    let tag = "Jobs";
    let job = format!("{JOBS_PATH}/{{job}}");
    let results = [
        (ResultFormat::Csv, text()),
        (ResultFormat::Ndjson, text()),
        (ResultFormat::Plain, text()),
        (ResultFormat::Json, ContentBuilder::new().build()),
        (ResultFormat::Arrow, binary()),
        (ResultFormat::Parquet, binary()),
    ];
    let results = results.map(|(format, content)| (essence(format), content));
    vec![
        Operation::new(Get, format!("{job}/events"), "watch_job", tag, "Watch a job")
            .text(
                "Server-sent events: the job now and at each change, at most ten a second, as `JobView`; the last one has \
                 an id that ends in `-final`. A client that comes back with `Last-Event-ID` gets the job as it then is.",
            )
            .number("job", "The job's id.")
            .header("Last-Event-ID", "The id of the last event that was seen.", string())
            .gives_content(200, "The job, again and again.", [("text/event-stream", event())])
            .gives_content(204, "`Last-Event-ID` was the last event.", [])
            .refuses(&[404]),
        Operation::new(Get, format!("{job}/results"), "job_results", tag, "Read a job's results")
            .text(
                "In row order, as they come, in the form that the job's spec says; the stream waits for a job that runs. It \
                 breaks off where the job fails on the way, and the job then says why.",
            )
            .number("job", "The job's id.")
            .query("offset", "Bytes that the client has already; the stream begins after them.", integer(0))
            .gives_content(200, "The results, in the media type of the job's format.", results)
            .refuses(&[404, 406, 409, 422, 505]),
        Operation::new(Put, UPLOADS_PATH, "upload", tag, "Upload a table")
            .text("Its digest names it in the spec of a `map` job.")
            .takes_content("application/octet-stream", binary(), "The table's bytes.")
            .without_body()
            .gives::<Upload>(200, "The digest of what came."),
    ]
}

/// An event of a stream.
fn event() -> utoipa::openapi::Content {
    let event = ObjectBuilder::new()
        .description(Some("One event: its data is a `JobView` as JSON."))
        .property("id", string())
        .property("event", string())
        .property("data", string())
        .required("data");
    ContentBuilder::new().schema(Some(event.build())).build()
}

/// A media type without parameters.
fn essence(format: ResultFormat) -> &'static str {
    quipu_shared::api::result_media_type(format).split(';').next().unwrap_or_default()
}

fn schedules() -> Vec<Operation> {
    let tag = "Schedules";
    let schedule = format!("{SCHEDULES_PATH}/{{schedule}}");
    let example = json!({ "cron": "0 6 * * 1", "job": { "kind": { "eval": { "formulas": ["1 + 1"] } } } });
    let id = "The schedule's id.";
    vec![
        Operation::new(Get, SCHEDULES_PATH, "list_schedules", tag, "List schedules")
            .gives::<ScheduleList>(200, "Every schedule, by id."),
        Operation::new(Post, SCHEDULES_PATH, "add_schedule", tag, "Add a schedule")
            .idempotent()
            .takes::<ScheduleSpec>(example)
            .makes::<ScheduleView>(201, "The schedule, with its next run.")
            .refuses(&[404]),
        Operation::new(Get, &*schedule, "show_schedule", tag, "Show a schedule")
            .number("schedule", id)
            .gives::<ScheduleView>(200, "The schedule as it is.")
            .refuses(&[404]),
        Operation::new(Delete, &*schedule, "remove_schedule", tag, "Remove a schedule")
            .text("Jobs that it has submitted stay.")
            .number("schedule", id)
            .gives::<ScheduleView>(200, "The schedule as it was.")
            .refuses(&[404]),
        Operation::new(Post, format!("{schedule}:pause"), "pause_schedule", tag, "Pause a schedule")
            .number("schedule", id)
            .gives::<ScheduleView>(200, "The schedule as it is now.")
            .refuses(&[404]),
        Operation::new(Post, format!("{schedule}:resume"), "resume_schedule", tag, "Resume a schedule")
            .number("schedule", id)
            .gives::<ScheduleView>(200, "The schedule as it is now.")
            .refuses(&[404]),
    ]
}

fn cluster() -> Vec<Operation> {
    let tag = "Cluster";
    vec![
        Operation::new(Get, NODES_PATH, "list_nodes", tag, "List nodes").gives::<NodeList>(200, "Every node, by id."),
        Operation::new(Post, format!("{NODES_PATH}/{{node}}:drain"), "drain_node", tag, "Drain a worker")
            .text("It finishes what it has, and leaves.")
            .id("node", "The worker's id.", NodeId::schema())
            .gives_content(204, "It drains.", [])
            .refuses(&[404]),
        Operation::new(Get, format!("{NODES_PATH}/{{node}}/attempts"), "node_attempts", tag, "List a node's last attempts")
            .id("node", "The node's id.", NodeId::schema())
            .gives::<NodeAttemptList>(200, "The attempts, latest start first."),
        Operation::new(Get, CLUSTER_PATH, "show_cluster", tag, "Show the cluster")
            .gives::<ClusterView>(200, "Its nodes and the jobs that run, at this moment."),
        Operation::new(Get, EVENTS_PATH, "watch_cluster", tag, "Watch the cluster")
            .text(
                "Server-sent events: the cluster now and at each change, at most twice a second, as `ClusterView`. The more \
                 watch, the rarer they are; of an idle cluster there are comments only.",
            )
            .gives_content(200, "The cluster, again and again.", [("text/event-stream", text())]),
        Operation::new(Get, VERSION_PATH, "version", tag, "Say what the master runs")
            .gives::<VersionView>(200, "Versions of the product, its protocol and its numerics."),
    ]
}

fn access() -> Vec<Operation> {
    let tag = "Access";
    let form = ObjectBuilder::new()
        .property("token", string())
        .required("token")
        .additional_properties(Some(AdditionalProperties::FreeForm(false)))
        .build();
    let form = ContentBuilder::new().schema(Some(utoipa::openapi::schema::Schema::Object(form))).build();
    vec![
        Operation::new(Get, TOKENS_PATH, "list_tokens", tag, "List tokens")
            .gives::<TokenList>(200, "Every token, by id; their texts are not kept."),
        Operation::new(Post, TOKENS_PATH, "make_token", tag, "Make a token")
            .takes::<NewToken>(json!({ "name": "reports", "role": "submit" }))
            .makes::<IssuedToken>(201, "The token, with its text, which is shown this once."),
        Operation::new(Delete, format!("{TOKENS_PATH}/{{token}}"), "revoke_token", tag, "Revoke a token")
            .number("token", "The token's id.")
            .gives_content(204, "It is worth nothing from now on.", [])
            .refuses(&[404]),
        Operation::new(Get, LOGIN_PATH, "login_page", tag, "The page that asks a person for a token").gives_content(
            200,
            "A page.",
            [("text/html", text())],
        ),
        Operation::new(Post, LOGIN_PATH, "log_in", tag, "Open a browser's session")
            .takes_content("application/x-www-form-urlencoded", form, "")
            .gives_content(303, "The session is open; its cookie comes with this.", [])
            .gives_content(401, "The token is a wrong one.", [("text/html", text())]),
        Operation::new(Post, LOGOUT_PATH, "log_out", tag, "End a browser's session").gives_content(
            303,
            "It is closed.",
            [],
        ),
    ]
}

/// What operators see of the process.
fn insight() -> Vec<Operation> {
    let tag = "Insight";
    let within = |max: u64| {
        let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1.0)).maximum(Some(max as f64));
        number.build()
    };
    vec![
        Operation::new(Get, METRICS_PATH, "metrics", tag, "Read the master's figures")
            .text("OpenMetrics, or the older text of Prometheus for those who do not take that.")
            .gives_content(200, "The figures.", [("application/openmetrics-text", text()), ("text/plain", text())]),
        Operation::new(Get, CPU_PROFILE_PATH, "cpu_profile", tag, "Take a CPU profile")
            .text("Takes as long as it is asked to; one at a time.")
            .query("seconds", "How long.", within(PROFILE_SECONDS_MAX))
            .query("frequency", "Samples a second.", within(FREQUENCY_HZ_MAX.into()))
            .gives_content(200, "A profile in the form of pprof.", [("application/octet-stream", binary())]),
        Operation::new(Get, HEAP_PATH, "heap", tag, "Say what the memory is taken by")
            .gives::<HeapReport>(200, "Memory of the process, in bytes."),
        Operation::new(Get, THREADS_PATH, "threads", tag, "List the threads")
            .gives::<ThreadReport>(200, "The process's threads."),
    ]
}

fn about() -> Vec<Operation> {
    let probes = "Probes";
    vec![
        Operation::new(Get, HEALTH_PATH, "health", probes, "Whether the process lives").gives_content(
            200,
            "It does.",
            [("text/plain", text())],
        ),
        Operation::new(Get, READY_PATH, "ready", probes, "Whether jobs are taken")
            .gives_content(200, "They are.", [("text/plain", text())])
            .refuses(&[503]),
        Operation::new(Get, DOCUMENT_PATH, "document", "Documentation", "This document").gives_content(
            200,
            "OpenAPI 3.1.",
            [(super::describe::JSON, ContentBuilder::new().build())],
        ),
    ]
}

//! A collector of traces: takes what nodes and commands export over OTLP, and keeps it for tests to look at.

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// A span, with the facts of the process that it came from.
#[derive(Clone, Debug)]
pub struct Collected {
    pub trace_id: String,
    pub id: String,
    pub parent: String,
    pub name: String,
    /// As the protocol has it: 1 internal, 2 server, 3 client.
    pub kind: i32,
    pub begun_ns: u64,
    pub ended_ns: u64,
    pub failed: bool,
    pub attributes: BTreeMap<String, String>,
    pub resource: BTreeMap<String, String>,
}

impl Collected {
    /// The process that it came from.
    pub fn service(&self) -> &str {
        &self.resource["service.name"]
    }
}

/// A running collector; it ends with its runtime.
pub struct Collector {
    pub url: String,
    spans: Arc<Mutex<Vec<Collected>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Collector {
    /// Starts one on a free port.
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let spans = Arc::new(Mutex::new(Vec::new()));
        let service = TraceServiceServer::new(Keeper(Arc::clone(&spans)));
        let incoming = {
            let _within = runtime.enter();
            TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port")
        };
        let url = format!("http://{}", incoming.local_addr().expect("bound"));
        runtime.spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        Self { url, spans, _runtime: runtime }
    }

    /// What has come so far.
    pub fn spans(&self) -> Vec<Collected> {
        self.spans.lock().expect("no panic").clone()
    }
}

struct Keeper(Arc<Mutex<Vec<Collected>>>);

#[tonic::async_trait]
impl TraceService for Keeper {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut kept = self.0.lock().expect("no panic");
        for of_process in request.into_inner().resource_spans {
            let resource = facts(of_process.resource.map(|resource| resource.attributes).unwrap_or_default());
            for span in of_process.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                kept.push(Collected {
                    trace_id: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    name: span.name,
                    kind: span.kind,
                    begun_ns: span.start_time_unix_nano,
                    ended_ns: span.end_time_unix_nano,
                    failed: span.status.is_some_and(|status| status.code == 2),
                    attributes: facts(span.attributes),
                    resource: resource.clone(),
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn facts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(is_so)) => is_so.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    let mut found = BTreeMap::new();
    for KeyValue { key, value, .. } in attributes {
        let twice = found.insert(key.clone(), text(value));
        assert_eq!(twice, None, "{key} is said twice");
    }
    found
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

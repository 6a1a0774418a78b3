//! Spans that are exported. Unlike those of `tracing` they are values: what begins in one message of an actor and ends in
//! another is kept in its state meanwhile, and a parent is named, not found on a stack.

use super::TraceParent;
use super::export::tracer;
use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::Span;
use std::borrow::Cow;
use std::time::SystemTime;

pub use opentelemetry::Value;
pub use opentelemetry::trace::SpanKind;

/// A span; it ends when it is dropped. Where nothing is exported it is only the context that came in.
#[must_use = "a span ends when it is dropped"]
#[derive(Debug, Default)]
pub struct TraceSpan {
    span: Option<Box<Span>>,
    context: Option<TraceParent>,
}

impl TraceSpan {
    /// A span within a trace; without one it begins a new trace.
    pub fn begin(name: impl Into<Cow<'static, str>>, kind: SpanKind, parent: Option<TraceParent>) -> Self {
        Self::at(name, kind, parent, None)
    }

    /// The same, of something that began earlier.
    pub fn begun_at(
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
        parent: Option<TraceParent>,
        at: SystemTime,
    ) -> Self {
        Self::at(name, kind, parent, Some(at))
    }

    /// A span within a trace; nothing where there is none.
    pub fn within(name: impl Into<Cow<'static, str>>, kind: SpanKind, parent: Option<TraceParent>) -> Self {
        if parent.is_none() { Self::default() } else { Self::at(name, kind, parent, None) }
    }

    fn at(
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
        parent: Option<TraceParent>,
        at: Option<SystemTime>,
    ) -> Self {
        let Some(tracer) = tracer() else { return Self { span: None, context: parent } };
        let mut builder = tracer.span_builder(name).with_kind(kind);
        builder.start_time = at;
        let context = parent.map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent.into()));
        let span = tracer.build_with_context(builder, &context);
        let context = TraceParent::from(span.span_context());
        Self { span: span.is_recording().then(|| Box::new(span)), context: Some(context) }
    }

    /// What to hand to those that this step causes.
    pub fn context(&self) -> Option<TraceParent> {
        self.context
    }

    /// Whether anything said of it goes anywhere.
    pub fn is_recording(&self) -> bool {
        self.span.is_some()
    }

    /// Says something of it that costs nothing to say.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.span {
            span.set_attribute(KeyValue::new(key, value));
        }
    }

    /// Says something of it that is made for that.
    pub fn set_with<V: Into<Value>>(&mut self, key: &'static str, value: impl FnOnce() -> V) {
        if let Some(span) = &mut self.span {
            span.set_attribute(KeyValue::new(key, value()));
        }
    }

    /// Counts and quantities, which are whole numbers of 63 bits there.
    pub fn set_number(&mut self, key: &'static str, number: u64) {
        self.set(key, i64::try_from(number).unwrap_or(i64::MAX));
    }

    /// Says that something happened now.
    pub fn event(&mut self, name: &'static str) {
        if let Some(span) = &mut self.span {
            span.add_event(name, Vec::new());
        }
    }

    /// It failed: `code` is of a small set, `message` is for people.
    pub fn fail(&mut self, code: &str, message: &str) {
        if let Some(span) = &mut self.span {
            span.set_attribute(KeyValue::new("error.type", code.to_owned()));
            span.set_status(Status::error(message.to_owned()));
        }
    }
}

impl From<TraceParent> for SpanContext {
    fn from(parent: TraceParent) -> Self {
        let TraceParent { trace_id, parent_id, flags } = parent;
        let (trace_id, span_id) =
            (TraceId::from_bytes(trace_id.to_be_bytes()), SpanId::from_bytes(parent_id.to_be_bytes()));
        Self::new(trace_id, span_id, TraceFlags::new(flags), true, TraceState::NONE)
    }
}

impl From<&SpanContext> for TraceParent {
    fn from(context: &SpanContext) -> Self {
        Self {
            trace_id: u128::from_be_bytes(context.trace_id().to_bytes()),
            parent_id: u64::from_be_bytes(context.span_id().to_bytes()),
            flags: context.trace_flags().to_u8(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_keep_their_bits() {
        for text in [
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-00000000000000ff-00",
        ] {
            let parent: TraceParent = text.parse().unwrap();
            let context = SpanContext::from(parent);
            assert!(context.is_valid() && context.is_remote());
            assert_eq!(context.is_sampled(), parent.is_sampled());
            assert_eq!(TraceParent::from(&context), parent);
        }
    }

    #[test]
    fn spans_that_go_nowhere_cost_next_to_nothing() {
        const COUNT: u32 = 1_000_000;
        let parent = Some(TraceParent::new_random());
        let begun = std::time::Instant::now();
        for number in 0..COUNT {
            let mut span = TraceSpan::within("x", SpanKind::Internal, std::hint::black_box(parent));
            span.set_number("key", u64::from(number));
            std::hint::black_box(&span);
        }
        // A few nanoseconds each, optimised; an exported one takes some hundred times as long.
        let each_ns = begun.elapsed().as_nanos() / u128::from(COUNT);
        assert!(each_ns < 500, "{each_ns} ns");
    }

    #[test]
    fn without_an_exporter_a_span_is_what_came_in() {
        let parent = TraceParent::new_random();
        let mut span = TraceSpan::begin("x", SpanKind::Internal, Some(parent));
        span.set_with("key", || -> i64 { panic!("not made for nobody") });
        assert_eq!((span.context(), span.is_recording()), (Some(parent), false));
        assert_eq!(TraceSpan::begin("x", SpanKind::Internal, None).context(), None);
    }
}

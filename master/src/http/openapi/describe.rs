//! How an operation is described: a builder that adds what all operations have in common.

use super::super::policy::{Need, need};
use super::method_of;
use quipu_shared::api::{IDEMPOTENCY_KEY_BYTES_MAX, PROBLEM_MEDIA_TYPE, Problem};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{Schema, Type};
use utoipa::openapi::{
    Content, ContentBuilder, KnownFormat, ObjectBuilder, Ref, RefOr, Required, ResponseBuilder, SchemaFormat,
};

/// Media type of JSON.
pub(super) const JSON: &str = "application/json";

/// Statuses that any request may meet: a bad Host or header, no token, a role that is not enough, a limit, a defect, a
/// master that is not ready.
const PROBLEMS_OF_ALL: [u16; 6] = [400, 401, 403, 429, 500, 503];
/// Statuses that a request with a body may meet besides: one that stalls, is too large, is of another type, or is refused.
const PROBLEMS_OF_BODIES: [u16; 4] = [408, 413, 415, 422];

/// A method of a path.
pub(super) struct Operation {
    pub(super) method: HttpMethod,
    pub(super) path: String,
    /// Schemas that it names.
    pub(super) schemas: Vec<(String, RefOr<Schema>)>,
    builder: OperationBuilder,
    problems: Vec<u16>,
    text: String,
    body: Option<RequestBodyBuilder>,
    optional_body: bool,
}

impl Operation {
    pub(super) fn new(method: HttpMethod, path: impl Into<String>, id: &str, tag: &str, summary: &str) -> Self {
        let path = path.into();
        let problems = match need(&method_of(&method), &path) {
            Need::Nothing => vec![400, 403, 500],
            Need::Place => vec![400, 403, 429, 500],
            Need::Role(_) => PROBLEMS_OF_ALL.to_vec(),
        };
        let builder = OperationBuilder::new().operation_id(Some(id)).tag(tag).summary(Some(summary));
        let mut operation = Self {
            method,
            path,
            schemas: Vec::new(),
            builder,
            problems,
            text: String::new(),
            body: None,
            optional_body: false,
        };
        operation.name::<Problem>();
        operation
    }

    /// What there is to say beside its summary.
    pub(super) fn text(mut self, text: &str) -> Self {
        self.text = text.into();
        self
    }

    /// An id within the path.
    pub(super) fn id(self, name: &str, text: &str, schema: impl Into<RefOr<Schema>>) -> Self {
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some(text))
            .schema(Some(schema));
        self.parameter(parameter.build())
    }

    /// The id of a job, or of something else that is numbered.
    pub(super) fn number(self, name: &str, text: &str) -> Self {
        self.id(name, text, integer(1))
    }

    /// A member of the query.
    pub(super) fn query(self, name: &str, text: &str, schema: impl Into<RefOr<Schema>>) -> Self {
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Query)
            .required(Required::False)
            .description(Some(text))
            .schema(Some(schema));
        self.parameter(parameter.build())
    }

    pub(super) fn parameter(mut self, parameter: Parameter) -> Self {
        self.builder = self.builder.parameter(parameter);
        self
    }

    /// Takes the header with which a client names its attempt.
    pub(super) fn idempotent(mut self) -> Self {
        self.problems.push(409);
        let schema = ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(1))
            .max_length(Some(IDEMPOTENCY_KEY_BYTES_MAX))
            .pattern(Some("^[!-~]+$"));
        self.header(
            "Idempotency-Key",
            "Names the attempt: repeated with the same body it finds what the first one made, with another body it is \
             refused.",
            schema,
        )
    }

    /// Takes a trace context.
    pub(super) fn traced(self) -> Self {
        // No pattern: what does not fit is no mistake, as the recommendation has it.
        self.header("traceparent", "W3C trace context; one that is not valid is ignored.", string())
    }

    pub(super) fn header(self, name: &str, text: &str, schema: impl Into<RefOr<Schema>>) -> Self {
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(text))
            .schema(Some(schema));
        self.parameter(parameter.build())
    }

    /// Takes JSON.
    pub(super) fn takes<T: ToSchema>(mut self, example: Value) -> Self {
        let schema = self.name::<T>();
        let content = ContentBuilder::new().schema(Some(schema)).example(Some(example)).build();
        self.takes_content(JSON, content, "")
    }

    /// The body may be left out: nothing is as good as any bytes.
    pub(super) fn without_body(mut self) -> Self {
        self.optional_body = true;
        self
    }

    /// Takes something else.
    pub(super) fn takes_content(mut self, media_type: &str, content: Content, text: &str) -> Self {
        let body = RequestBodyBuilder::new().content(media_type, content);
        self.body = Some(if text.is_empty() { body } else { body.description(Some(text)) });
        self.problems.extend(PROBLEMS_OF_BODIES);
        self
    }

    /// Answers JSON.
    pub(super) fn gives<T: ToSchema>(mut self, status: u16, text: &str) -> Self {
        let schema = self.name::<T>();
        let content = ContentBuilder::new().schema(Some(schema)).build();
        self.gives_content(status, text, [(JSON, content)])
    }

    /// Answers JSON, with the place of what was made.
    pub(super) fn makes<T: ToSchema>(mut self, status: u16, text: &str) -> Self {
        let schema = self.name::<T>();
        let place = HeaderBuilder::new().schema(Some(string())).description(Some("Where it is.")).build();
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let response = ResponseBuilder::new().description(text).content(JSON, content).header("Location", place);
        self.builder = self.builder.response(status.to_string(), response.build());
        self
    }

    /// Answers nothing, or something else.
    pub(super) fn gives_content<'m>(
        mut self,
        status: u16,
        text: &str,
        contents: impl IntoIterator<Item = (&'m str, Content)>,
    ) -> Self {
        let mut response = ResponseBuilder::new().description(text);
        for (media_type, content) in contents {
            response = response.content(media_type, content);
        }
        self.builder = self.builder.response(status.to_string(), response.build());
        self
    }

    /// Statuses of problems beside those of all operations.
    pub(super) fn refuses(mut self, statuses: &[u16]) -> Self {
        self.problems.extend(statuses);
        self
    }

    /// A reference to a type's schema, which is noted with all that it names.
    fn name<T: ToSchema>(&mut self) -> RefOr<Schema> {
        let name = T::name().into_owned();
        T::schemas(&mut self.schemas);
        self.schemas.push((name.clone(), T::schema()));
        RefOr::Ref(Ref::from_schema_name(name))
    }

    pub(super) fn into_builder(mut self) -> OperationBuilder {
        if let Some(body) = self.body.take() {
            let required = if self.optional_body { Required::False } else { Required::True };
            self.builder = self.builder.request_body(Some(body.required(Some(required)).build()));
        }
        self.problems.sort_unstable();
        self.problems.dedup();
        for status in &self.problems {
            let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
            let mut response = ResponseBuilder::new().description(reason(*status)).content(PROBLEM_MEDIA_TYPE, problem);
            if matches!(status, 429 | 503) {
                let text = "Seconds after which to try again.";
                let after = HeaderBuilder::new().schema(Some(integer(0))).description(Some(text)).build();
                response = response.header("Retry-After", after);
            }
            if *status == 401 {
                let text = "`Bearer`, with the realm.";
                let how = HeaderBuilder::new().schema(Some(string())).description(Some(text)).build();
                response = response.header("WWW-Authenticate", how);
            }
            self.builder = self.builder.response(status.to_string(), response.build());
        }
        let role = match need(&method_of(&self.method), &self.path) {
            Need::Nothing | Need::Place => "Needs no token.".to_owned(),
            Need::Role(role) => format!("Needs the role `{role}`."),
        };
        let text = if self.text.is_empty() { role } else { format!("{} {role}", self.text) };
        self.builder.description(Some(text))
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        400 => "The request is malformed.",
        401 => "There is no token, or a wrong one.",
        403 => "The token's role is not enough, or Host or Origin is another one.",
        404 => "There is no such thing.",
        406 => "What there is, is of none of the media types in `Accept`.",
        408 => "The body does not come.",
        409 => "It conflicts with what is there.",
        413 => "It is larger than a limit allows.",
        415 => "The body is of another media type.",
        422 => "A formula or its data is refused, has no value, or took longer than it may.",
        429 => "Over a limit: try again.",
        500 => "The service failed.",
        503 => "The master takes nothing now.",
        505 => "Another version of HTTP is needed.",
        _ => "It was not done.",
    }
}

/// A text.
pub(super) fn string() -> Schema {
    Schema::Object(ObjectBuilder::new().schema_type(Type::String).build())
}

/// Any bytes.
pub(super) fn binary() -> Content {
    let schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary)))
        .build();
    ContentBuilder::new().schema(Some(Schema::Object(schema))).build()
}

/// Text that is no JSON.
pub(super) fn text() -> Content {
    ContentBuilder::new().schema(Some(string())).build()
}

/// A whole number of 64 bits.
pub(super) fn integer(minimum: u64) -> Schema {
    let schema = ObjectBuilder::new()
        .schema_type(Type::Integer)
        // No format: int64 would end where signed numbers do.
        .minimum(Some(minimum as f64));
    Schema::Object(schema.build())
}

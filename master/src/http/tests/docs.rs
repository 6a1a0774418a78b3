//! The API's document, its page, and whether both tell the truth.

use super::super::routes;
use super::fake::eval_spec;
use super::raw::request;
use super::start;
use std::collections::BTreeSet;

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "DELETE", "PATCH"];

/// Methods and paths that the server has handlers for.
async fn served() -> BTreeSet<(String, String)> {
    // A stream of the cluster's events would not end: it is refused, which is an answer, too.
    let server = start(|config| config.limits.watchers_max = 0).await;
    let mut served = BTreeSet::new();
    for path in routes().paths {
        for method in METHODS {
            // A handler of a path with an id may take actions alone, or all but actions.
            for id in ["1", "1:nothing"] {
                let concrete: Vec<&str> =
                    path.split('/').map(|segment| if segment.starts_with('{') { id } else { segment }).collect();
                let answer = server.ask(method, &concrete.join("/"), &[], "").await;
                if answer.status != 405 {
                    served.insert((method.to_owned(), path.clone()));
                }
            }
        }
    }
    served
}

#[tokio::test]
async fn every_route_is_documented_and_every_documented_one_is_there() {
    let server = start(|_| ()).await;
    let document = server.get("/openapi.json").await.json();
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        // An action is part of an id's segment: `/v1/jobs/{job}:cancel` is answered where `/v1/jobs/{job}` is.
        let route = match path.split_once("}:") {
            Some((before, _)) => format!("{before}}}"),
            None => path.clone(),
        };
        for method in item.as_object().unwrap().keys() {
            documented.insert((method.to_uppercase(), route.clone()));
        }
    }
    let served = served().await;
    let undocumented: Vec<_> = served.difference(&documented).collect();
    let missing: Vec<_> = documented.difference(&served).collect();
    assert!(undocumented.is_empty(), "not in openapi/operations.rs: {undocumented:?}");
    assert!(missing.is_empty(), "documented, but not there: {missing:?}");
    assert!(served.len() > 20, "{served:?}");
}

#[tokio::test]
async fn documented_actions_are_taken() {
    let server = start(|_| ()).await;
    server.fake.add(&eval_spec());
    let document = server.get("/openapi.json").await.json();
    let actions = document["paths"].as_object().unwrap().keys().filter(|path| path.contains("}:"));
    for path in actions {
        let (before, action) = path.split_once("}:").unwrap();
        let place = before.rsplit_once('{').unwrap().0;
        let answer = server.ask("POST", &format!("{place}77:{action}"), &[], "").await;
        assert!(answer.status != 404 || answer.problem() != "no_such_action", "{path}: {answer:?}");
    }
}

/// Calls `visit` with every value of a document.
fn walk<'v>(value: &'v serde_json::Value, visit: &mut impl FnMut(&'v serde_json::Value)) {
    visit(value);
    match value {
        serde_json::Value::Object(members) => members.values().for_each(|member| walk(member, visit)),
        serde_json::Value::Array(elements) => elements.iter().for_each(|element| walk(element, visit)),
        _ => {}
    }
}

#[tokio::test]
async fn the_document_is_whole() {
    let server = start(|_| ()).await;
    let answer = server.get("/openapi.json").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let document = answer.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    walk(&document, &mut |value| {
        if let Some(target) = value.get("$ref").and_then(|target| target.as_str()) {
            assert!(document.pointer(target.trim_start_matches('#')).is_some(), "{target} is nowhere");
        }
        if let Some(text) = value.get("description").and_then(|text| text.as_str()) {
            assert!(!text.contains("[`") && !text.contains("crate::"), "{text}");
        }
    });
    let mut ids = BTreeSet::new();
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{operation}");
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.keys().any(|status| status.starts_with('2') || status.starts_with('3')));
            for (status, response) in responses {
                let problem = response["content"].get("application/problem+json").is_some();
                let refused = status.starts_with('4') || status.starts_with('5');
                assert!(problem == refused || response["content"].get("text/html").is_some(), "{status} {operation}");
            }
        }
    }
    assert_eq!(document["paths"]["/v1/jobs"]["post"]["security"][0]["token"], serde_json::json!([]));
    assert_eq!(document["paths"]["/healthz"]["get"]["security"], serde_json::json!([]));
}

#[tokio::test]
async fn the_page_loads_from_this_server_alone() {
    let server = start(|_| ()).await;
    let page = server.get("/docs").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    let text = page.text();
    assert!(!text.contains("http:") && !text.contains("https:") && !text.contains("<script>"), "{text}");
    let mut files = 0;
    for part in text.split(['"']).filter(|part| part.starts_with("/docs/")) {
        let file = server.get(part).await;
        assert_eq!(file.status, 200, "{part}");
        assert!(file.header("content-security-policy").is_some() && !file.body.is_empty());
        files += 1;
    }
    assert!(files >= 4, "{text}");
    for path in ["/docs/nothing.js", "/docs/index.html", "/docs/swagger-initializer.js"] {
        assert_eq!(server.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn nobody_reads_them_without_a_token() {
    let server = start(|_| ()).await;
    for path in ["/openapi.json", "/docs", "/docs/swagger-ui-bundle.js"] {
        let asked = request("GET", path, &[], "").replace("Authorization", "X-Nothing");
        let answer = super::exchange(server.address, &asked).await;
        assert_eq!(answer.status, 401, "{path}");
    }
}

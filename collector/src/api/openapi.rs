//! The HTTP API in words for machines: an OpenAPI 3.1 document.
//! Must not know how answers are made; the words of health and reason come from the model.

use comind_model::health::Health;
use comind_model::reason::Reason;
use comind_model::session::By;
use serde_json::{Value, json};

/// The document. `version` is the version of the running program.
pub fn document(version: &str) -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "comind-ops",
            "summary": "How the platform is, why, and since when.",
            "description": "Served on `api.listen`. Where the config names users or tokens, everything \
                but `/livez` and `/readyz` is answered 401 without login; who asks or guesses too \
                often is answered 429 with `Retry-After`. Times are RFC 3339 in UTC.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "version": version,
        },
        "servers": [{ "url": "/" }],
        "tags": [
            { "name": "state", "description": "What is known now, and what changes." },
            { "name": "health", "description": "The health of comind-ops itself." },
            { "name": "page", "description": "The live page for people." },
        ],
        "security": [{}, { "password": [] }, { "token": [] }],
        "paths": paths(),
        "components": {
            "schemas": schemas(),
            "responses": responses(),
            "securitySchemes": {
                "password": { "type": "http", "scheme": "basic" },
                "token": { "type": "http", "scheme": "bearer" },
            },
        },
    })
}

fn paths() -> Value {
    json!({
        "/": { "get": operation("page", "page", "The live page", &ok_html()) },
        "/page/live": { "get": operation(
            "livePart", "page", "The part of the page that changes, as markup for its script", &ok_html()
        ) },
        "/metrics": { "get": metrics() },
        "/livez": { "get": operation(
            "livez", "health", "Whether the watching goes on; restart the process when it does not", &healthz()
        ) },
        "/readyz": { "get": operation(
            "readyz", "health", "Whether every target has been looked at once", &healthz()
        ) },
        "/api/v1/state": { "get": operation(
            "state", "state", "Every target and the platform as a whole",
            &json!({ "200": answer("How everything is now.", "application/json", &reference("State")) }),
        ) },
        "/api/v1/alerts": { "get": operation(
            "alerts", "state", "Open alerts, why some are not told, and how the receivers fare",
            &json!({ "200": answer("What is open now.", "application/json", &reference("Alerts")) }),
        ) },
        "/api/v1/maintenance": {
            "get": operation(
                "maintenance", "state", "Maintenance that somebody began by this API and that is not over",
                &json!({ "200": answer("What is planned or on.", "application/json", &json!({ "type": "object" })) }),
            ),
            "post": begin_maintenance(),
        },
        "/api/v1/maintenance/{id}": { "delete": end_maintenance() },
        "/api/v1/sessions": { "get": sessions(), "delete": end_sessions(
            "end_sessions_of_user", "End all sessions of a user", ("user", "Whose."), true,
        ) },
        "/api/v1/sessions/{id}": { "delete": end_sessions(
            "end_session", "End a session, or all of its user", ("all_of_user", "`true`: all of its user."), false,
        ) },
        "/api/v1/history": { "get": history() },
        "/api/v1/uptime": { "get": operation(
            "uptime", "state", "Uptime, error budget and burn rates of every target",
            &json!({ "200": answer("Worked out a few seconds ago.", "application/json", &json!({ "type": "object" })) }),
        ) },
        "/badge/{badge}": { "get": with_path("badge", "How a target is (`TARGET.svg`) or did (`TARGET/30d.svg`), as a picture", "image/svg+xml") },
        "/feed.atom": { "get": operation(
            "feed", "page", "The last outages as an Atom feed",
            &json!({ "200": answer("The feed.", "application/atom+xml", &text()), "503": failure("Busy") }),
        ) },
        "/target/{target}": { "get": with_path("target", "The page of one target", "text/html") },
        "/api/v1/events": { "get": events() },
        "/api/v1/openapi.json": { "get": operation(
            "openapi", "state", "This document",
            &json!({ "200": answer("This document.", "application/json", &json!({ "type": "object" })) }),
        ) },
        "/probe": { "get": probe() },
    })
}

fn operation(id: &str, tag: &str, summary: &str, responses: &Value) -> Value {
    json!({ "operationId": id, "tags": [tag], "summary": summary, "responses": responses })
}

fn begin_maintenance() -> Value {
    let wanted = object(
        &json!({
            "name": { "type": "string", "description": "What it is for." },
            "targets": { "type": "array", "items": { "type": "string" }, "description": "Names of targets; `*` stands for any text." },
            "duration": { "type": "string", "examples": ["1h", "30m"] },
            "from": described("Time", "When it begins; now by default."),
        }),
        &["name", "targets", "duration"],
    );
    let mut begin = operation(
        "begin_maintenance",
        "state",
        "Tell nobody of these targets for a while, and do not count it; with a login, or from this machine",
        &json!({
            "201": answer("It, with its id.", "application/json", &json!({ "type": "object" })),
            "403": answer("There is no login.", "application/json", &json!({ "type": "object" })),
            "422": answer("It cannot be.", "application/json", &json!({ "type": "object" })),
        }),
    );
    begin["requestBody"] =
        json!({ "required": true, "content": { "application/json": { "schema": wanted } } });
    begin
}

fn end_maintenance() -> Value {
    let mut end = operation(
        "end_maintenance",
        "state",
        "End a maintenance now",
        &json!({
            "204": { "description": "It is over." },
            "404": answer("There is none, or it is over.", "application/json", &json!({ "type": "object" })),
        }),
    );
    end["parameters"] = json!([{ "name": "id", "in": "path", "required": true, "schema": text() }]);
    end
}

fn sessions() -> Value {
    let session = object(
        &json!({
            "id": text(), "user": text(), "login": text(), "route": text(), "host": text(), "client": text(),
            "means": { "type": "string", "enum": ["oidc", "basic", "bearer", "certificate"] },
            "since": reference("Time"),
            "until": described("Time", "When it ends at the latest."),
            "heard": described("Time", "When its client was last heard."),
            "requests": { "type": "integer" },
            "received": { "type": "integer", "description": "Bytes from the client." },
            "sent": { "type": "integer", "description": "Bytes to the client." },
            "live": { "type": "integer", "description": "Requests, streams and WebSockets that it carries now." },
        }),
        &[
            "id", "user", "login", "means", "host", "client", "since", "until", "live",
        ],
    );
    let told = object(
        &json!({
            "logins": { "type": "boolean", "description": "Whether anybody can log in here." },
            "held_by": { "type": ["string", "null"], "description": "The process that holds these; others hold others." },
            "open": { "type": "integer", "description": "How many there are." },
            "sessions": { "type": "array", "items": session },
        }),
        &["logins", "held_by", "open", "sessions"],
    );
    let mut sessions = operation(
        "sessions",
        "state",
        "Who is logged in at the proxy of this process; with a login, or from this machine",
        &json!({
            "200": answer("Some of them, in the order that was asked for.", "application/json", &told),
            "400": failure("BadRequest"),
            "403": failure("Forbidden"),
        }),
    );
    let words: Vec<_> = By::ALL.iter().map(|by| by.as_str()).collect();
    sessions["parameters"] = json!([
        { "name": "by", "in": "query", "description": "What comes first; `since` by default, the newest.",
          "schema": { "type": "string", "enum": words } },
        { "name": "limit", "in": "query", "description": "At most; 200 by default, up to 10,000.",
          "schema": { "type": "integer", "minimum": 0 } },
    ]);
    sessions
}

fn end_sessions(id: &str, summary: &str, (name, about): (&str, &str), required: bool) -> Value {
    let ended = object(&json!({ "ended": { "type": "integer" } }), &["ended"]);
    let mut end = operation(
        id,
        "state",
        summary,
        &json!({
            "200": answer("They are over, with all that they carried.", "application/json", &ended),
            "403": failure("Forbidden"),
            "404": answer("There is none such.", "application/json", &reference("Error")),
        }),
    );
    end["description"] = json!(
        "For who has a login that is not in `api.read_only`; without any login, for clients on this \
         machine alone. A page of another site is refused."
    );
    let mut parameters = vec![
        json!({ "name": name, "in": "query", "required": required, "description": about, "schema": text() }),
    ];
    if !required {
        parameters.push(json!({ "name": "id", "in": "path", "required": true, "schema": text() }));
    }
    end["parameters"] = parameters.into();
    end
}

fn answer(description: &str, content_type: &str, schema: &Value) -> Value {
    json!({ "description": description, "content": { content_type: { "schema": schema } } })
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

fn failure(response: &str) -> Value {
    json!({ "$ref": format!("#/components/responses/{response}") })
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn ok_html() -> Value {
    json!({ "200": answer("Markup.", "text/html", &text()) })
}

fn healthz() -> Value {
    json!({
        "200": answer("It is.", "text/plain", &text()),
        "503": answer("It is not; the text says what is missing.", "text/plain", &text()),
    })
}

fn metrics() -> Value {
    let mut metrics = operation(
        "metrics",
        "state",
        "Metrics for Prometheus, in the format that `Accept` asks for",
        &json!({ "200": {
            "description": "All series.",
            "content": {
                "text/plain": { "schema": text() },
                "application/openmetrics-text": { "schema": text() },
                "application/vnd.google.protobuf": { "schema": { "type": "string", "contentEncoding": "binary" } },
            },
        } }),
    );
    metrics["description"] = json!(
        "`comind_target_up`, `comind_target_unknown`, `comind_probe_duration_seconds`, \
         `comind_transitions_total`, `comind_outage_detection_seconds` and others. A target that \
         is unknown has no `comind_target_up`: unknown is never up."
    );
    metrics
}

fn events() -> Value {
    let mut stream = answer("A stream that does not end.", "text/event-stream", &text());
    // OpenAPI 3.1 has no word for what stands in a stream.
    stream["content"]["text/event-stream"]["x-events"] = json!({
        "snapshot": reference("State"),
        "transition": reference("Transition"),
    });
    let mut events = operation(
        "events",
        "state",
        "Transitions as Server-Sent Events, as they happen",
        &json!({ "200": stream, "503": failure("Busy") }),
    );
    events["description"] = json!(
        "First `event: snapshot`, whose data is the state; then `event: transition` for each change \
         of a health. `id:` is the transition's `seq`. Who comes back with `Last-Event-ID` gets what \
         it missed, or a new snapshot when that is not kept any more. Comments keep the line alive."
    );
    events["parameters"] = json!([{
        "name": "Last-Event-ID", "in": "header", "required": false,
        "description": "The last `id:` that was received.",
        "schema": { "type": "integer", "minimum": 0 },
    }]);
    events
}

fn probe() -> Value {
    let mut probe = operation(
        "probe",
        "state",
        "Looks once, now",
        &json!({
            "200": answer("What the look saw, good or bad.", "application/json", &reference("Look")),
            "400": failure("BadRequest"),
            "403": failure("Forbidden"),
        }),
    );
    probe["description"] = json!("Only for targets that the config allows.");
    probe["parameters"] = json!([
        { "name": "target", "in": "query", "required": true, "description": "The URL to look at.", "schema": text() },
        { "name": "kind", "in": "query", "required": false,
          "description": "The kind of service; `http` without it.", "schema": text() },
    ]);
    probe
}

fn responses() -> Value {
    let error = |description: &str| answer(description, "application/json", &reference("Error"));
    json!({
        "BadRequest": error("The request cannot be understood; `advice` says how to write it."),
        "Forbidden": error("The config does not allow it; `advice` says which setting would."),
        "Busy": error("Too many streams are open; come back later."),
    })
}

fn schemas() -> Value {
    json!({
        "Health": {
            "type": "string",
            "description": "`up` works; `degraded` works, but something asks for attention; `down` \
                cannot do its work; `unknown` was not looked at, or is silent, and is never to be \
                taken for up.",
            "enum": Health::ALL.map(Health::as_str),
        },
        "Reason": {
            "type": "string",
            "description": "The cause. Others may be added.",
            "examples": Reason::ALL.iter().map(|reason| reason.as_str()).collect::<Vec<_>>(),
        },
        "Time": { "type": "string", "format": "date-time", "examples": ["2026-11-23T02:13:20.123456Z"] },
        "Alerts": alerts(),
        "State": state(),
        "Target": target(),
        "Transition": transition(),
        "Look": look(),
        "Facts": {
            "type": "object",
            "description": "What looks learned besides; numbers in base units (seconds, bytes). A name \
                may carry one label: `messages_visible{queue=jobs}`.",
            "additionalProperties": { "type": ["boolean", "number", "string"] },
        },
        "Error": object(&json!({
            "error": { "type": "string", "description": "What was wrong." },
            "advice": { "type": "string", "description": "What to do about it." },
        }), &["error", "advice"]),
    })
}

fn object(properties: &Value, required: &[&str]) -> Value {
    json!({ "type": "object", "properties": properties, "required": required })
}

fn with_path(name: &str, summary: &str, content_type: &str) -> Value {
    let answers = json!({
        "200": answer("It.", content_type, &text()),
        "404": answer("There is no such target.", "application/json", &reference("Error")),
    });
    let mut operation = operation(name, "page", summary, &answers);
    operation["parameters"] =
        json!([{ "name": name, "in": "path", "required": true, "schema": text() }]);
    operation
}

fn history() -> Value {
    let answers = json!({
        "200": answer("Newest first.", "application/json", &json!({ "type": "object" })),
        "400": answer("A time is none.", "application/json", &reference("Error")),
        "503": failure("Busy"),
    });
    let mut history = operation(
        "history",
        "state",
        "Transitions and outages of the past",
        &answers,
    );
    let parameter = |name: &str, about: &str| json!({ "name": name, "in": "query", "description": about, "schema": text() });
    history["parameters"] = json!([
        parameter("target", "Only of this target."),
        parameter(
            "from",
            "RFC 3339, or a time ago such as `-24h`, which is the default."
        ),
        parameter("to", "The same; now by default."),
        parameter(
            "limit",
            "Transitions at most, 1,000 by default, up to 10,000; `more` says whether there are older ones."
        ),
    ]);
    history
}

fn alerts() -> Value {
    let time_or_none = json!({ "oneOf": [reference("Time"), { "type": "null" }] });
    let alert = object(
        &json!({
            "id": { "type": "string", "description": "The same for all that is ever told of this outage." },
            "name": { "type": "string", "examples": ["RequiredServiceDown"] },
            "target": { "type": "string" },
            "kind": { "type": "string" },
            "required": { "type": "boolean" },
            "reason": reference("Reason"),
            "message": { "type": "string", "description": "What was seen, for people." },
            "starts_at": described("Time", "When the outage began."),
        }),
        &[
            "id",
            "name",
            "target",
            "kind",
            "required",
            "reason",
            "message",
            "starts_at",
        ],
    );
    let open = object(
        &json!({
            "alert": alert,
            "told": { "type": "boolean", "description": "Whether it was told; then its end will be." },
            "muted": {
                "type": ["object", "null"],
                "description": "Why it is not told: `why` is dependency, waiting or maintenance, `of` names which.",
            },
            "flapping": { "type": "boolean", "description": "Its end waits until the target is steady." },
        }),
        &["alert", "told", "muted", "flapping"],
    );
    let receiver = object(
        &json!({
            "name": { "type": "string" },
            "delivered": { "type": "integer" },
            "failed": { "type": "integer" },
            "dropped": { "type": "integer" },
            "waiting": { "type": "integer" },
            "last_success": time_or_none,
            "error": { "type": ["string", "null"], "description": "Why the last delivery failed." },
        }),
        &[
            "name",
            "delivered",
            "failed",
            "dropped",
            "waiting",
            "last_success",
            "error",
        ],
    );
    object(
        &json!({
            "alerts": { "type": "array", "items": open },
            "flapping": { "type": "array", "items": { "type": "string" } },
            "leads": { "type": "boolean", "description": "Whether this process is the one that tells." },
            "not_kept": { "type": ["string", "null"], "description": "Why nothing would survive a restart." },
            "receivers": { "type": "array", "items": receiver },
        }),
        &["alerts", "flapping", "leads", "not_kept", "receivers"],
    )
}

fn state() -> Value {
    object(
        &json!({
            "health": described(
                "Health",
                "`down` when a required target is down, `unknown` when a required one is unknown or \
                 nothing is watched, `degraded` when anything else is not up.",
            ),
            "seq": { "type": "integer", "minimum": 0, "description": "The last transition that this contains." },
            "at": described("Time", "When this was so."),
            "targets": {
                "type": "array",
                "description": "In the order of the config.",
                "items": reference("Target"),
            },
        }),
        &["health", "seq", "at", "targets"],
    )
}

fn target() -> Value {
    object(
        &json!({
            "name": { "type": "string", "description": "Unique, from the config." },
            "kind": { "type": "string", "examples": ["postgresql", "minio", "redis", "elasticmq", "http"] },
            "required": { "type": "boolean", "description": "Whether the platform is down without it." },
            "parent": { "type": "string", "description": "The target that this one is a part of; absent for others." },
            "health": reference("Health"),
            "reason": reference("Reason"),
            "message": { "type": "string", "description": "What was seen, for people; empty when all is well." },
            "advice": { "type": "string", "description": "What to do about it; empty when all is well." },
            "last_seen": {
                "description": "When the last look ended, good or bad; null before the first.",
                "oneOf": [reference("Time"), { "type": "null" }],
            },
            "since": described("Time", "Since when the health is what it is."),
            "latency_ms": {
                "type": ["number", "null"],
                "description": "How long the last good look took; null when the last look was not good.",
            },
            "facts": reference("Facts"),
        }),
        &[
            "name",
            "kind",
            "required",
            "health",
            "reason",
            "message",
            "advice",
            "since",
            "last_seen",
            "latency_ms",
            "facts",
        ],
    )
}

fn transition() -> Value {
    object(
        &json!({
            "seq": { "type": "integer", "minimum": 1, "description": "Grows by one with each transition." },
            "at": described("Time", "When it was decided."),
            "target": { "type": "string", "description": "The target's name." },
            "from": reference("Health"),
            "to": reference("Health"),
            "reason": reference("Reason"),
            "message": { "type": "string", "description": "What was seen, for people." },
            "hint": {
                "type": ["string", "null"],
                "description": "What made the source look before its time.",
                "examples": ["connection_closed"],
            },
            "detected_ms": {
                "type": "number",
                "description": "Milliseconds from the hint, or else from the last good look, to `at`; \
                    on a recovery, since the first failed look of the outage.",
            },
        }),
        &[
            "seq",
            "at",
            "target",
            "from",
            "to",
            "reason",
            "message",
            "hint",
            "detected_ms",
        ],
    )
}

fn look() -> Value {
    object(
        &json!({
            "health": reference("Health"),
            "reason": reference("Reason"),
            "message": { "type": "string", "description": "What was tried and what came back." },
            "advice": { "type": "string", "description": "What to do about it; empty when all is well." },
            "latency_ms": { "type": "number", "description": "How long the look took." },
            "facts": reference("Facts"),
        }),
        &[
            "health",
            "reason",
            "message",
            "advice",
            "latency_ms",
            "facts",
        ],
    )
}

/// A reference with words of its own.
fn described(schema: &str, description: &str) -> Value {
    let mut reference = reference(schema);
    reference["description"] = json!(description);
    reference
}

#[cfg(test)]
mod tests {
    use super::*;
    use comind_model::event::Event;
    use comind_model::timestamp::Timestamp;

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                for (key, member) in members {
                    match (key.as_str(), member) {
                        ("$ref", Value::String(address)) => found.push(address.clone()),
                        _ => references(member, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    fn found() -> Vec<String> {
        let mut found = Vec::new();
        references(&document("0.1.0"), &mut found);
        found
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document("0.1.0");
        for address in found() {
            let pointer = address.strip_prefix('#').unwrap();
            assert!(
                document.pointer(pointer).is_some(),
                "{address} leads nowhere"
            );
        }
    }

    #[test]
    fn every_component_is_used() {
        let document = document("0.1.0");
        let found = found();
        for part in ["schemas", "responses"] {
            for name in document["components"][part].as_object().unwrap().keys() {
                let address = format!("#/components/{part}/{name}");
                assert!(found.contains(&address), "nothing uses {address}");
            }
        }
    }

    #[test]
    fn every_operation_says_what_it_is_and_what_comes_back() {
        let document = document("0.1.0");
        let mut ids = Vec::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let what = format!("{method} {path}");
                assert!(operation["summary"].is_string(), "{what} has no summary");
                let responses = operation["responses"].as_object().unwrap();
                let good = responses.iter().find(|(status, _)| status.starts_with('2'));
                let described = good.is_some_and(|(_, good)| good["description"].is_string());
                assert!(described, "{what} has no answer");
                ids.push(operation["operationId"].as_str().unwrap().to_owned());
            }
        }
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all);
    }

    #[test]
    fn whatever_is_required_is_described() {
        let document = document("0.1.0");
        for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
            for required in schema["required"].as_array().into_iter().flatten() {
                let property = &schema["properties"][required.as_str().unwrap()];
                assert!(property.is_object(), "{name} lacks {required}");
            }
        }
    }

    #[test]
    fn a_transition_has_exactly_the_members_that_are_described() {
        let event = Event {
            seq: 1,
            at: Timestamp::default(),
            target: "redis".into(),
            from: Health::Up,
            to: Health::Down,
            reason: Reason::Refused,
            message: String::new(),
            hint: None,
            detected_ms: 1.0,
        };
        let event = serde_json::to_value(event).unwrap();
        let schema = transition();
        let described: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
        let sent: Vec<_> = event.as_object().unwrap().keys().collect();
        assert_eq!(described, sent);
    }
}

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::json;

use super::Redactor;
use crate::secret::Secret;

fn knowing(secrets: &[&str]) -> Redactor {
    let secrets: Vec<Secret> = secrets.iter().copied().map(Secret::new).collect();
    Redactor::new(&secrets).expect("a few secrets")
}

/// What is between the quotes of a JSON string.
fn json_of(text: &str) -> String {
    let quoted = json!(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

fn percent(text: &str) -> String {
    let of = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(of).collect()
}

/// Names whose values are secrets.
const NAMES: &[&str] = &[
    "password",
    "PGPASSWORD",
    "db_password",
    "secretKey",
    "aws_secret_access_key",
    "token",
    "X-Auth-Token",
    "api-key",
    "client-key-data",
    "Authorization",
    "credentials",
    "pwd",
];

/// How a value that has to be in quotes, and is, stands in a text; § is the name, ¶ the value in
/// JSON's spelling.
const QUOTED: &[&str] = &[
    r#"{"§":"¶"}"#,
    r#"{"a":{"§":["¶","¶"]},"b":1}"#,
    r#"{"name":"§","value":"¶"}"#,
    r#"[1,"--§","¶"]"#,
    r#"12:00 INFO started {"§": "¶", "b": 1} well"#,
    r#"§="¶" user=me"#,
    r#"§: "¶""#,
    r#"{§: "¶", b: 1}"#,
    r#"'§' => "¶","#,
    "export §=\"¶\"\nrun",
];

/// … and without quotes: no white space, nothing that ends a value.
const BARE: &[&str] = &[
    "§=¶",
    "user=me §=¶ port=1",
    "--§=¶ run",
    "run --§ ¶ --port 1",
    "GET /?a=1&§=¶&b=2 HTTP/1.1",
    "§: ¶",
    "  - §: ¶\n  - b: 1",
    "> §: Bearer ¶\r\n> Host: a",
    "§:\n  ¶\nb: 1",
    "§: |\n  a\n  ¶\nb: 1",
    "§ := ¶",
];

/// How it stands in a text without a name.
const NAMELESS: &[&str] = &[
    "postgres://me:¶@db:5432/app?a=b",
    "git clone https://¶@git/x.git",
    r#"{"url":"redis:\/\/:¶@cache:6379"}"#,
    "sent Bearer ¶ to it",
    "-----BEGIN PRIVATE KEY-----\nMIIE\n¶\n-----END PRIVATE KEY-----\nb",
    "-----BEGIN EC PRIVATE KEY-----\nMIIE\n¶\nAAAA",
    "¶\nMIIE=\n-----END RSA PRIVATE KEY-----\nb",
];

fn filled(template: &str, name: &str, value: &str) -> String {
    template.replace('§', name).replace('¶', value)
}

fn one_of(all: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    proptest::sample::select(all)
}

proptest! {
    // Each has a pattern of its own to be made.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_known_secret_never_comes_through(
        secret in "[ -~äß€]{2}[a-zA-Z0-9]{4}[ -~äß€]{0,20}",
        before in "[ -~\n]{0,30}",
        after in "[ -~\n]{0,30}",
    ) {
        let once = json_of(&secret);
        let spellings = [
            secret.clone(),
            once.clone(),
            json_of(&once),
            json_of(&json_of(&once)),
            percent(&secret),
            percent(&secret).replace("%20", "+"),
            secret.replace('\'', "''"),
            format!("{secret:?}"),
            secret.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ];
        let redactor = knowing(&["other-secret", &secret]);
        for spelt in &spellings {
            let text = redactor.text(&format!("{before}{spelt}{after}"));
            // What is left of it could only be there because it was around it.
            if !before.contains(spelt.as_str()) && !after.contains(spelt.as_str()) {
                prop_assert!(!text.contains(spelt.as_str()), "{spelt} in {text}");
            }
            prop_assert!(!text.contains(&secret), "{secret} in {text}");
        }
        let pair = format!("{before}:{secret}");
        for spelt in [STANDARD.encode(&pair), URL_SAFE_NO_PAD.encode(&pair)] {
            let text = redactor.text(&format!("x {spelt} y"));
            prop_assert!(!text.contains(&spelt), "{text}");
        }
    }
}

proptest! {
    #[test]
    fn a_quoted_value_of_a_secrets_name_never_comes_through(
        name in one_of(NAMES),
        template in one_of(QUOTED),
        secret in "[ -~\n\t€]{0,20}[a-zA-Z0-9]{8}[ -~\n\t€]{0,20}",
        nested in 0..3_usize,
    ) {
        let mut text = filled(template, name, &json_of(&secret));
        let mut expected = vec![secret.clone(), json_of(&secret)];
        for _ in 0..nested {
            text = format!(r#"{{"level":"info","message":"{}"}}"#, json_of(&text));
            expected.push(json_of(expected.last().map_or("", String::as_str)));
        }
        let left = knowing(&[]).text(&text);
        for spelt in expected {
            prop_assert!(!left.contains(&spelt), "{text}\nleft {left}");
        }
        // Nor the part of it that no spelling changes.
        let core: String = secret.chars().filter(char::is_ascii_alphanumeric).collect();
        if secret.contains(&core) {
            prop_assert!(!left.contains(&core), "{text}\nleft {left}");
        }
    }

    #[test]
    fn a_bare_value_of_a_secrets_name_never_comes_through(
        name in one_of(NAMES),
        template in one_of(BARE),
        secret in "[!$(-~€]{0,10}[a-zA-Z0-9]{8}[!$(-~€]{0,10}",
    ) {
        let text = filled(template, name, &secret);
        let left = knowing(&[]).text(&text);
        prop_assert!(!left.contains(&secret), "{text}\nleft {left}");
    }

    #[test]
    fn what_looks_like_a_secret_never_comes_through(
        template in one_of(NAMELESS),
        secret in "[a-zA-Z0-9+=]{12,40}",
    ) {
        let text = filled(template, "N", &secret);
        let left = knowing(&[]).text(&text);
        prop_assert!(!left.contains(&secret), "{text}\nleft {left}");
    }

    #[test]
    fn any_text_is_survived(text in r#"([\\"'`{}\[\]:=|>\-\n ,]|key|token|PASSWORD|https://|@|é|-----BEGIN PRIVATE KEY-----){0,60}"#) {
        let redactor = knowing(&["a secret"]);
        let once = redactor.text(&text);
        prop_assert!(!redactor.text(&once).contains("a secret"));
    }
}

#[test]
fn what_says_why_something_does_not_work_stays() {
    let redactor = knowing(&["hunter22"]);
    let text = "FATAL: password authentication failed for user \"app\"\n\
        MountVolume.SetUp failed for volume \"a\" : secret \"postgresql-auth\" not found\n\
        cannot connect to 10.231.0.2:6443: connection refused\n";
    assert_eq!(redactor.text(text), text);
    let line = r#"{"level":"error","error":"bad hunter22","port":5432,"token":null}"#;
    let left = redactor.text(line);
    let left: serde_json::Value = serde_json::from_str(&left).expect("it is JSON still");
    let wanted = json!({ "level": "error", "error": "bad ***", "port": 5432, "token": null });
    assert_eq!(left, wanted);
}

#[test]
fn values_are_redacted_in_their_places() {
    let value = json!({
        "env": [
            { "name": "DB_PASSWORD", "value": "a" },
            { "name": "DB_HOST", "value": "b" },
            { "name": "T", "valueFrom": { "secretKeyRef": { "name": "c", "optional": true } } },
        ],
        "args": ["--token", "d", "--port", "1"],
        "secret": { "secretName": "e", "items": [{ "key": "f" }] },
    });
    let left: serde_json::Value =
        serde_json::from_str(&knowing(&[]).value(value)).expect("it is JSON still");
    let wanted = json!({
        "env": [
            { "name": "DB_PASSWORD", "value": "***" },
            { "name": "DB_HOST", "value": "b" },
            { "name": "T", "valueFrom": { "secretKeyRef": { "name": "c", "optional": true } } },
        ],
        "args": ["--token", "***", "--port", "1"],
        "secret": { "secretName": "e", "items": [{ "key": "***" }] },
    });
    assert_eq!(left, wanted);
}

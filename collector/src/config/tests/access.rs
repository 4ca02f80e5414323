//! The access keys of the section `api`: what is refused, where, and without repeating secrets.

use crate::config::parse;

fn problem(api: &str) -> String {
    let text = format!("api: {api}\ntargets: []\n");
    parse(&text, "c.yaml", &|_| None).unwrap_err().to_string()
}

#[test]
fn what_lets_nobody_or_anybody_in_is_refused_with_its_place() {
    let cases = [
        ("{ users: { alice: fathom } }", "1:24", "hash-password"),
        (
            "{ tokens: [{ name: a, token: fathom }] }",
            "1:",
            "openssl rand",
        ),
        ("{ tokens: [{ name: a }] }", "1:", "token_file"),
        (
            "{ tokens: [{ name: a, token_file: none }] }",
            "1:",
            "does not exist",
        ),
        (
            "{ tls: { cert_file: none.crt, key_file: none.key } }",
            "1:13",
            "none.crt",
        ),
        ("{ tls: { cert_file: a } }", "1:", "key_file"),
        (
            "{ tls: { cert_file: a, key_file: b, client_auth: require } }",
            "1:13",
            "client_ca_file",
        ),
        (
            "{ tls: { cert_file: a, key_file: b, client_auth: maybe } }",
            "1:",
            "optional",
        ),
        ("{ rate_limit: { per_second: 0 } }", "1:", "per_second"),
        ("{ web_config_file: none.yml }", "1:25", "none.yml"),
        ("{ user: {} }", "1:8", "users"),
    ];
    for (api, place, word) in cases {
        let said = problem(api);
        assert!(said.contains(&format!("c.yaml:{place}")), "{api}: {said}");
        assert!(said.contains(word), "{api}: {said}");
        assert!(!said.contains("fathom"), "{said}");
    }
}

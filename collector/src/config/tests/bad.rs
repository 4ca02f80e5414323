//! Each mistake is told with its file, line, column and fix.

use std::fs;

use super::{problems, read};
use crate::config::load;

/// A mistake, and how its one problem begins and what else it says.
struct Mistake {
    config: &'static str,
    begins: &'static str,
    says: &'static [&'static str],
}

const MISTAKES: &[Mistake] = &[
    Mistake {
        config: "notify: { alertmanager: [\"ftp://am:1\"] }\n",
        begins: "c.yaml:1:9: `notify`: the receiver at am: the URL's scheme is `ftp`",
        says: &["https://"],
    },
    Mistake {
        config: "notify: { webhooks: [{ url: \"http://h/t0ken\", secret_file: /no/such }] }\n",
        begins: "c.yaml:1:9: `notify`: the receiver at h: secret file /no/such does not exist",
        says: &[],
    },
    Mistake {
        config: "notify: { resend: 10ms }\n",
        begins: "c.yaml:1:9: `notify`: `resend`: 10ms is out of bounds; write 1s to 1d",
        says: &[],
    },
    Mistake {
        config: "maintenance:\n  - { name: m, targets: [a], schedule: often, duration: 1h }\n",
        begins: "c.yaml:2:5: `maintenance`: `schedule` is no cron pattern",
        says: &["0 3 * * SUN"],
    },
    Mistake {
        config: "history: { max_mib: 1 }\n",
        begins: "c.yaml:1:10: `history`: `max_mib` is 1, it must be 8 to 65536",
        says: &[],
    },
    Mistake {
        config: "targets:\n  - { name: a, kind: tcp, url: tcp://h:1, slo: 100 }\n",
        begins: "c.yaml:2:48: target `a`: `slo` is 100, it must lie between 0 and 100",
        says: &[],
    },
    Mistake {
        config: "targets:\n  - { name: a, kind: tcp, url: tcp://h:1, depends_on: [b] }\n",
        begins: "c.yaml:2:56: target `a`: `depends_on` names `b`, which is no target",
        says: &[],
    },
    Mistake {
        config: "targets:\n  - { name: a, kind: tcp, url: tcp://h:1, depends_on: [a] }\n",
        begins: "c.yaml:2:56: target `a`: it would depend on itself through `a`",
        says: &[],
    },
    Mistake {
        config: "targets:\n  - { name: k, kind: argocd, kubeconfig: /no/such }\n",
        begins: "c.yaml:2:42: target `k`: `kubeconfig`: failed to read",
        says: &["/no/such"],
    },
    Mistake {
        config: "targets: []\napii: {}\n",
        begins: "c.yaml:2:1: unknown key `apii`; did you mean `api`?",
        says: &["`targets`"],
    },
    Mistake {
        config: "api:\n  listn: 127.0.0.1:1\n",
        begins: "c.yaml:2:3: `api`: unknown key `listn`; did you mean `listen`?",
        says: &[],
    },
    Mistake {
        config: "targets:\n  - name: a\n    kind: tcp\n    url: tcp://h:1\n    intervall: 1s\n",
        begins: "c.yaml:5:5: target `a`: unknown key `intervall`; did you mean `interval`?",
        says: &["`deep_timeout`", "`url`"],
    },
    Mistake {
        config: "targets:\n  - { name: a, kind: tcp, url: tcp://h:1, required: yes }\n",
        begins: "c.yaml:2:53: target `a`: `required`: expected `true` or `false` without quotes, found a text",
        says: &[],
    },
    Mistake {
        config: "targets:\n  - { name: a, kind: tcp, url: [1] }\n",
        begins: "c.yaml:2:32: target `a`: `url`: expected a text, found a list",
        says: &[],
    },
    Mistake {
        config: "targets:\n  - { name: a, kind: tcp, url: }\n",
        begins: "c.yaml:2:",
        says: &["target `a`: `url`: expected a text, found nothing"],
    },
    Mistake {
        config: "targets: { a: b }\n",
        begins: "c.yaml:1:10: `targets`: expected a list",
        says: &["- name:"],
    },
    Mistake {
        config: "defaults:\n  thresholds: { soft: many }\n",
        begins: "c.yaml:2:23: `soft`: expected a whole number from 0 to 255, found a text",
        says: &[],
    },
    Mistake {
        config: "defaults:\n  thresholds: { soft: \"2\" }\n",
        begins: "c.yaml:2:23: `soft`: expected a whole number from 0 to 255, found a text; take the quotes off",
        says: &[],
    },
    Mistake {
        config: "defaults:\n  thresholds: { soft: 3 }\n",
        begins: "c.yaml:2:15: `thresholds`: `soft` is 3, it must be 1 to `window` (2)",
        says: &[],
    },
    Mistake {
        config: "targets:\n  - { name: a, kind: tcp, url: tcp://h:1 }\n  - { name: a, kind: tcp, url: tcp://h:2 }\n",
        begins: "c.yaml:3:13: target `a`: `name`: already taken by the target on line 2; give another",
        says: &[],
    },
    Mistake {
        config: "api: {}\ndata_dir: x\napi: {}\n",
        begins: "c.yaml:3:1: `api` is given twice, first on line 1; keep one",
        says: &[],
    },
    Mistake {
        config: "targets:\n  - { name: a, kind: tcp, url: nonsense }\n",
        begins: "c.yaml:2:32: target `a`: `url`: not a URL",
        says: &["scheme://host:port"],
    },
    Mistake {
        config: "defaults:\n  interval: 5\n",
        begins: "c.yaml:2:13: `interval`: `5` has no unit; write `5s`",
        says: &[],
    },
    Mistake {
        config: "defaults:\n  interval: 5 seconds\n",
        begins: "c.yaml:2:13: `interval`: `5 seconds` is no duration; write",
        says: &["250ms"],
    },
    Mistake {
        config: "defaults:\n  interval: 10ms\n",
        begins: "c.yaml:2:13: `interval`: 10ms is out of bounds; write 100ms to 1d",
        says: &[],
    },
    Mistake {
        config: "targets:\n  - { name: a, kind: tcp, url: tcp://h:1, timeout: 0s }\n",
        begins: "c.yaml:2:52: target `a`: `timeout`: 0s is out of bounds; write 1ms to 1m",
        says: &[],
    },
    Mistake {
        config: "targets:\n  - { name: a, kind: tcp }\n",
        begins: "c.yaml:2:5: target `a`: missing key `url`; add `url: …`",
        says: &[],
    },
    Mistake {
        config: "targets:\n  - kind: tcp\n    url: tcp://h:1\n",
        begins: "c.yaml:2:5: missing key `name`; add `name: …`",
        says: &[],
    },
    Mistake {
        config: "targets:\n  - { name: a, url: tcp://h:1 }\n",
        begins: "c.yaml:2:5: target `a`: missing key `kind`; add `kind: …`, one of",
        says: &["`redis`"],
    },
    Mistake {
        config: "targets:\n  - { name: a, kind: redsi, url: redis://h }\n",
        begins: "c.yaml:2:22: target `a`: unknown kind `redsi`; did you mean `redis`? allowed:",
        says: &["`postgresql`"],
    },
    Mistake {
        config: "targets:\n  - { name: \"-a\", kind: tcp, url: tcp://h:1 }\n",
        begins: "c.yaml:2:13: target `-a`: `name`: write 1 to 63 letters",
        says: &[],
    },
    Mistake {
        config: "targets:\n  - { name: a, kind: tcp, url: \"tcp://${NOBODY}:1\" }\n",
        begins: "c.yaml:2:32: environment variable `NOBODY` is not set; set it, or write `${NOBODY:-default}`",
        says: &[],
    },
    Mistake {
        config: "api: { listen: localhost:9600 }\n",
        begins: "c.yaml:1:16: `listen`: `localhost:9600` is no address; write IP:PORT",
        says: &["127.0.0.1:9600"],
    },
    Mistake {
        config: "api:\n\tlisten: 127.0.0.1:9600\n",
        begins: "c.yaml:2:2: a tab in the indentation; YAML indents with spaces",
        says: &[],
    },
    Mistake {
        config: "",
        begins: "c.yaml:1:1: the file is empty; it needs at least `targets:`",
        says: &[],
    },
    Mistake {
        config: "# nothing\n---\n",
        begins: "c.yaml:1:1: the file is empty",
        says: &[],
    },
    Mistake {
        config: "just a text",
        begins: "c.yaml:1:1: a config is a map with keys such as `targets:`, this is a text",
        says: &[],
    },
    Mistake {
        config: "targets: []\n---\ntargets: []\n",
        begins: "c.yaml:2:1: a second document begins",
        says: &[],
    },
    Mistake {
        config: "targets: [\n",
        begins: "c.yaml:",
        says: &["not YAML"],
    },
    Mistake {
        config: "targets:\n  - foo\n",
        begins: "c.yaml:2:5: expected a target such as `- { name: db, kind: tcp, … }`, found a text",
        says: &[],
    },
    Mistake {
        config: "data_dir: !secret x\n",
        begins: "c.yaml:1:",
        says: &["the tag `!secret` means nothing here"],
    },
    Mistake {
        config: "? [a]\n: b\n",
        begins: "c.yaml:1:3: a key has to be a word",
        says: &[],
    },
    Mistake {
        config: "<<: text\n",
        begins: "c.yaml:1:5: `<<` takes a map or a list of maps, not a text",
        says: &[],
    },
    Mistake {
        config: "proxy: { listen: 127.0.0.1:1, routes: [{ hots: a }] }\n",
        begins: "c.yaml:1:42: `routes`: unknown key `hots`; did you mean `host`?",
        says: &[],
    },
    Mistake {
        config: "proxy:\n  listen: 127.0.0.1:1\n  routes:\n    - { host: a, upstream: \"http://h:1\", login: staff }\n",
        begins: "c.yaml:4:7: `proxy`: there is no login `staff`; `proxy.logins` has none",
        says: &[],
    },
    Mistake {
        config: "proxy:\n  listen: 127.0.0.1:1\n  logins:\n    s: { oidc: { issuer: \"https://id.test\", client_id: a, roles: { admin: [x] } } }\n  routes:\n    - { host: a, upstream: \"http://h:1\", login: s, roles: [owner] }\n",
        begins: "c.yaml:6:7: `proxy`: nobody can have the role `owner`: the login `s` gives admin",
        says: &[],
    },
    Mistake {
        config: "proxy:\n  listen: 127.0.0.1:1\n  logins:\n    staff: { oidc: { issuer: \"http://id.example.org\", client_id: a } }\n",
        begins: "c.yaml:4:20: `proxy`: `issuer` begins with https://",
        says: &[],
    },
    Mistake {
        config: "proxy:\n  listen: 127.0.0.1:1\n  logins:\n    staff: { ttl: 1h }\n",
        begins: "c.yaml:4:12: `proxy`: a login has one of `oidc`, `basic`, `bearer`, `certificate` and `kubernetes`",
        says: &[],
    },
    Mistake {
        config: "proxy:\n  listen: 127.0.0.1:1\n  logins:\n    s: { basic: { users: { ada: { hash: fathom } } } }\n",
        begins: "c.yaml:4:33: `proxy`: the `hash` of `ada` is no hash of bcrypt or argon2",
        says: &["hash-password"],
    },
    Mistake {
        config: "proxy:\n  listen: 127.0.0.1:1\n  logins:\n    s: { certificate: { subjects: { a: {} } } }\n",
        begins: "c.yaml:4:8: `proxy`: `certificate` needs `proxy.tls.client_ca_file`",
        says: &[],
    },
    Mistake {
        config: "proxy:\n  listen: 127.0.0.1:1\n  logins:\n    k: { kubernetes: { authorized_ttl: 10m } }\n",
        begins: "c.yaml:4:40: `proxy`: `authorized_ttl` ",
        says: &["5m"],
    },
    Mistake {
        config: "proxy:\n  listen: 127.0.0.1:1\n  logins:\n    k: { kubernetes: { audiences: [\"\"] } }\n",
        begins: "c.yaml:4:35: `proxy`: `audiences` has up to 16 names",
        says: &[],
    },
    Mistake {
        config: "proxy:\n  listen: 127.0.0.1:1\n  logins:\n    k: { kubernetes: { audience: a } }\n",
        begins: "c.yaml:4:24: `kubernetes`: unknown key `audience`; did you mean `audiences`?",
        says: &[],
    },
    Mistake {
        config: "proxy:\n  listen: 127.0.0.1:1\n  logins: { k: { kubernetes: {} } }\n  routes:\n    - { host: a, upstream: \"http://h:1\", login: k, access: { kubernetes: { verb: get } } }\n",
        begins: "c.yaml:5:74: `proxy`: a right has one of `resource` (such as `services/proxy`) and `path`",
        says: &[],
    },
    Mistake {
        config: "proxy:\n  listen: 127.0.0.1:1\n  logins: { k: { kubernetes: {} } }\n  routes:\n    - { host: a, upstream: \"http://h:1\", login: k, access: { kubernetes: { verb: get, path: /a, namespace: b } } }\n",
        begins: "c.yaml:5:108: `proxy`: `namespace` goes with `resource`, not with `path`",
        says: &[],
    },
    Mistake {
        config: "proxy:\n  listen: 127.0.0.1:1\n  logins: { k: { kubernetes: {} } }\n  routes:\n    - { host: a, upstream: \"http://h:1\", login: k, access: { kubernetes: { verb: get, path: metrics } } }\n",
        begins: "c.yaml:5:93: `proxy`: `metrics` is no path of an API server",
        says: &[],
    },
    Mistake {
        config: "proxy:\n  listen: 127.0.0.1:1\n  logins: { k: { kubernetes: {} } }\n  routes:\n    - { host: a, upstream: \"http://h:1\", login: k, access: { kubernetes: { verb: get, resource: a/b, subresource: c } } }\n",
        begins: "c.yaml:5:115: `proxy`: `resource` has a subresource in it already",
        says: &[],
    },
    Mistake {
        config: "proxy:\n  listen: 127.0.0.1:1\n  logins: { k: { kubernetes: {} } }\n  routes:\n    - { host: a, upstream: \"http://h:1\", login: k, access: { kubernetes: { verb: \"get all\", resource: a } } }\n",
        begins: "c.yaml:5:82: `proxy`: `verb` is no word of RBAC: `get all`",
        says: &[],
    },
    Mistake {
        config: "proxy:\n  listen: 127.0.0.1:1\n  logins: { o: { oidc: { issuer: \"https://id.test\", client_id: a } } }\n  routes:\n    - { host: a, upstream: \"http://h:1\", login: o, access: { kubernetes: { verb: get, path: /a } } }\n",
        begins: "c.yaml:5:60: `proxy`: `access.kubernetes` needs a `login` by `kubernetes`",
        says: &[],
    },
    Mistake {
        config: "proxy:\n  listen: 127.0.0.1:1\n  routes:\n    - { host: a, upstream: \"http://h:1\", access: { kubernetes: { verb: get, path: /a } } }\n",
        begins: "c.yaml:4:50: `proxy`: `access` needs a `login`",
        says: &[],
    },
    Mistake {
        config: "proxy:\n  listen: 127.0.0.1:1\n  routes:\n    - { host: a, upstream: \"http://h:1\", identity: { user: X-User } }\n",
        begins: "c.yaml:4:52: `proxy`: `identity` needs a `login`",
        says: &[],
    },
    Mistake {
        config: "proxy:\n  listen: 127.0.0.1:1\n  logins: { k: { kubernetes: {} } }\n  routes:\n    - { host: a, upstream: \"http://h:1\", login: k, identity: { user: Host } }\n",
        begins: "c.yaml:5:70: `proxy`: `Host` is no header for this",
        says: &["X-WEBAUTH-USER"],
    },
    Mistake {
        config: "proxy:\n  listen: 127.0.0.1:1\n  logins: { k: { kubernetes: {} } }\n  routes:\n    - { host: a, upstream: \"http://h:1\", login: k, identity: { user: X-User, name: x-user } }\n",
        begins: "c.yaml:5:84: `proxy`: `x-user` is told something else already",
        says: &[],
    },
    Mistake {
        config: "proxy:\n  listen: 127.0.0.1:1\n  logins: { k: { kubernetes: {} } }\n  routes:\n    - { host: a, upstream: \"http://h:1\", login: k, identity: { email: X_Forwarded_For } }\n",
        begins: "c.yaml:5:71: `proxy`: `X_Forwarded_For` is about something else than who asks",
        says: &[],
    },
    Mistake {
        config: "proxy:\n  listen: 127.0.0.1:1\n  tls: { listen: 127.0.0.1:2, local_authority: true }\n  logins: { b: { basic: { users: { ada: { hash: \"$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi\" } } } } }\n  routes:\n    - { host: a, upstream: \"http://h:1\", login: b, identity: { pass_token: bearer } }\n",
        begins: "c.yaml:6:76: `proxy`: there is no token to pass",
        says: &["`oidc`, `bearer` or `kubernetes`"],
    },
    Mistake {
        config: "notify: { webhooks: [nonsense] }\n",
        begins: "c.yaml:1:22: `webhooks`: not a URL",
        says: &[],
    },
    Mistake {
        config: "probe: { allow: [everything] }\n",
        begins: "c.yaml:1:18: `allow`: `everything` is no pattern; write SCHEME://HOST:PORT",
        says: &[],
    },
    Mistake {
        config: "compat_metrics: 1\n",
        begins: "c.yaml:1:17: `compat_metrics`: expected `true` or `false`",
        says: &["found a number"],
    },
    Mistake {
        config: "targets:\n  - { name: a, kind: redis, url: redis://h, password_file: nowhere/pw }\n",
        begins: "c.yaml:2:60: target `a`: secret file nowhere/pw does not exist; create it",
        says: &[],
    },
    Mistake {
        config: "targets:\n  - { name: a, kind: redis, url: http://h }\n",
        begins: "c.yaml:2:34: target `a`: the URL's scheme is `http`; kind redis asks redis://",
        says: &[],
    },
];

#[test]
fn every_mistake_is_told_with_its_place_and_fix() {
    let mut wrong = Vec::new();
    for mistake in MISTAKES {
        let told = problems(mistake.config);
        let good = told.lines().count() == 1
            && told.starts_with(mistake.begins)
            && mistake.says.iter().all(|text| told.contains(text));
        if !good {
            wrong.push(format!(
                "{}{told}\nexpected {}\n",
                mistake.config, mistake.begins
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let told = problems(
        "api: { listen: x }
defaults: { heartbeat: 1 }
targets:
  - { name: a, kind: nothing }
  - { name: a, kind: tcp, url: x, colour: red, timeout: 2m }
  - { name: b b, kind: redis, url: redis://h }
  - 7
",
    );
    let places: Vec<String> = told
        .lines()
        .map(|line| {
            line.splitn(4, ':')
                .skip(1)
                .take(2)
                .collect::<Vec<_>>()
                .join(":")
        })
        .collect();
    let expected = [
        "1:16", "2:24", "4:22", "5:13", "5:32", "5:35", "5:57", "6:13", "7:5",
    ];
    assert_eq!(places, expected, "{told}");
}

#[test]
fn a_thousand_mistakes_are_told_in_fifty_lines() {
    let items: String = (0..1_000)
        .map(|n| format!("  - {{ name: t{n}, kind: x }}\n"))
        .collect();
    let told = problems(&format!("targets:\n{items}"));
    assert_eq!(told.lines().count(), 51);
    assert!(told.ends_with("… and 950 more problems"), "{told}");
}

#[test]
fn too_many_targets_are_refused() {
    let items = "  - x\n".repeat(10_001);
    let told = problems(&format!("targets:\n{items}"));
    assert!(
        told.starts_with("c.yaml:2:3: 10001 targets; one instance watches at most 10000"),
        "{told}"
    );
}

#[test]
fn what_comes_from_the_environment_is_never_shown() {
    for config in [
        "targets: [{ name: a, kind: tcp, url: \"${PASSWORD}\" }]",
        "targets: [{ name: a, kind: redis, url: \"tcp://u:${PASSWORD}@h:1\" }]",
        "targets: [{ name: a, kind: \"${PASSWORD}\" }]",
        "targets: [{ name: \"${PASSWORD} !\", kind: tcp, url: tcp://h:1 }]",
        "api: { listen: \"x${PASSWORD}\" }",
        "defaults: { interval: \"${PASSWORD}\" }",
        "defaults: { thresholds: { soft: \"${PASSWORD}\" } }",
        "probe: { allow: [\"${PASSWORD}\"] }",
        // Cut in the middle of the value.
        "api: { listen: \"12345678901234567890123456789012345678901234567890123456${PASSWORD}\" }",
    ] {
        let result = read(config);
        let shown = format!("{result:?}");
        assert!(!shown.contains("hunter2"), "{config}: {shown}");
        let told = result.map(|_| ()).map_err(|error| error.to_string());
        assert!(!format!("{told:?}").contains("hunt"), "{config}: {told:?}");
    }
    assert!(problems("api: { listen: \"x${PASSWORD}\" }").contains("`x${PASSWORD}` is no address"));
}

#[test]
fn a_file_that_is_missing_or_no_text_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let told = load(&folder.path().join("none.yaml"))
        .unwrap_err()
        .to_string();
    assert!(
        told.contains("none.yaml: failed to read the config"),
        "{told}"
    );
    assert!(told.contains("--config FILE"), "{told}");

    let binary = folder.path().join("binary.yaml");
    fs::write(&binary, b"api:\n  listen: \xff\xfe").unwrap();
    let told = load(&binary).unwrap_err().to_string();
    assert!(
        told.ends_with("binary.yaml:2:11: not text in UTF-8; save the config as UTF-8"),
        "{told}"
    );

    let huge = folder.path().join("huge.yaml");
    fs::write(&huge, vec![b'#'; 9 * 1024 * 1024]).unwrap();
    let told = load(&huge).unwrap_err().to_string();
    assert!(told.contains("it is larger than 8388608 bytes"), "{told}");
}

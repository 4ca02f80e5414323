use serde_json::json;

use super::*;
use crate::discovery::wish::{Origin, SecretKey};

fn asker(origin: Origin, name: &str) -> Asker {
    Asker {
        origin,
        namespace: "shop".to_owned(),
        name: name.to_owned(),
    }
}

fn asking(keys: Value) -> Asking {
    let Value::Object(keys) = keys else {
        panic!("{keys}")
    };
    Asking {
        wish: Ok(Wish {
            keys,
            secrets: BTreeMap::new(),
        }),
        secrets: Ok(BTreeMap::new()),
        generation: Some(1),
        made: 0,
    }
}

fn redis(name: &str) -> Asking {
    asking(json!({ "kind": "redis", "url": format!("redis://{name}.shop.svc:6379") }))
}

fn terms() -> Terms {
    Terms {
        defaults: Defaults::default(),
        taken: HashSet::from(["taken.shop".to_owned()]),
        allow: ProbePolicy {
            allow: vec!["tcp://*.example.org:443".parse().unwrap()],
        },
        most: 10,
    }
}

fn judge(askers: impl IntoIterator<Item = (Asker, Asking)>) -> Judgement {
    Judge::new(terms()).judge(&askers.into_iter().collect())
}

fn verdict(keys: Value) -> Verdict {
    let asker = asker(Origin::Monitor, "x");
    judge([(asker.clone(), asking(keys))]).verdicts[&asker].clone()
}

#[test]
fn those_that_may_be_watched_are() {
    let judgement = judge([(asker(Origin::Monitor, "cache"), redis("cache"))]);
    let [target] = &judgement.targets[..] else {
        panic!("{judgement:?}")
    };
    assert_eq!(&*target.target.name, "cache.shop");
    assert!(judgement.verdicts.values().all(Verdict::is_watched));
    let allowed = json!({ "kind": "tcp", "url": "tcp://mail.example.org:443" });
    assert_eq!(verdict(allowed).reason, WATCHED);
    let own = json!({ "kind": "http", "url": "http://web.shop.svc.cluster.local/" });
    assert_eq!(verdict(own).reason, WATCHED);
}

#[test]
fn what_is_wrong_is_told() {
    let cases = [
        (
            json!({ "kind": "rediss", "url": "redis://a.shop.svc" }),
            "Invalid",
            "redis",
        ),
        (
            json!({ "kind": "redis", "url": "redis://a.shop.svc", "intervall": "1s" }),
            "Invalid",
            "`interval`",
        ),
        (
            json!({ "kind": "redis", "url": "redis://a.shop.svc", "interval": "1ms" }),
            "Invalid",
            "interval",
        ),
        (json!({ "kind": "redis" }), "Invalid", "url"),
        (
            json!({ "kind": "redis", "url": "redis:" }),
            "NotAllowed",
            "shop",
        ),
    ];
    for (keys, reason, word) in cases {
        let verdict = verdict(keys.clone());
        assert_eq!(verdict.reason, reason, "{keys}: {verdict:?}");
        assert!(verdict.message.contains(word), "{keys}: {verdict:?}");
    }
}

#[test]
fn nothing_reaches_beyond_its_namespace() {
    let urls = [
        "redis://cache.prod.svc",
        "redis://169.254.169.254",
        "redis://127.0.0.1",
        "redis://cache.shop.svc@cache.prod.svc",
        "redis://cache.prod.svc/cache.shop.svc",
        "redis://cache.prod.svc?cache.shop.svc",
        "redis://cache.prod.svc#.shop.svc",
        "redis://notshop.svc",
        "redis://cache.shop.svc.evil.test",
        "tcp://x.example.org:22",
    ];
    for url in urls {
        let verdict = verdict(json!({ "kind": "redis", "url": url }));
        assert_eq!(verdict.reason, "NotAllowed", "{url}: {verdict:?}");
    }
    let ours = [
        json!({ "kind": "redis", "url": "redis://a.shop.svc", "password_file": "/etc/x" }),
        json!({ "kind": "tls", "url": "tls://a.shop.svc:1", "tls": { "ca_file": "/etc/x" } }),
        json!({ "kind": "kubernetes", "url": "http://a.shop.svc", "kubeconfig": "/x" }),
    ];
    for keys in ours {
        let verdict = verdict(keys.clone());
        assert_eq!(verdict.reason, "NotAllowed", "{keys}: {verdict:?}");
    }
    let watched = json!({ "kind": "kubernetes", "url": "http://a.shop.svc" });
    assert_ne!(verdict(watched).reason, WATCHED);
}

#[test]
fn names_are_given_once() {
    let service = asker(Origin::Service, "cache");
    let monitor = asker(Origin::Monitor, "cache");
    let taken = asker(Origin::Service, "taken");
    let judgement = judge([
        (service.clone(), redis("cache")),
        (monitor.clone(), redis("cache")),
        (taken.clone(), redis("taken")),
    ]);
    assert!(judgement.verdicts[&monitor].is_watched());
    assert_eq!(judgement.verdicts[&service].reason, "Conflict");
    assert_eq!(judgement.verdicts[&taken].reason, "Conflict");
    assert_eq!(judgement.targets.len(), 1);
}

#[test]
fn the_oldest_come_first() {
    let all = (0..12).map(|number| {
        let made = 100 - number;
        let asking = Asking { made, ..redis("a") };
        (asker(Origin::Monitor, &format!("m{number:02}")), asking)
    });
    let judgement = judge(all);
    assert_eq!(judgement.targets.len(), 10);
    for young in ["m00", "m01"] {
        let verdict = &judgement.verdicts[&asker(Origin::Monitor, young)];
        assert_eq!(verdict.reason, "TooMany", "{verdict:?}");
    }
}

#[test]
fn circles_are_refused_and_strangers_are_named() {
    let with = |name: &str, on: &str| {
        let keys = json!({ "kind": "redis", "url": "redis://a.shop.svc", "depends_on": [on] });
        (asker(Origin::Monitor, name), asking(keys))
    };
    let judgement = judge([
        with("a", "b.shop"),
        with("b", "a.shop"),
        with("c", "a.shop"),
        with("d", "taken.shop"),
    ]);
    let said = |name: &str| &judgement.verdicts[&asker(Origin::Monitor, name)];
    assert_eq!((said("a").reason, said("b").reason), ("Invalid", "Invalid"));
    assert!(said("c").message.contains("`a.shop`, which is not watched"));
    assert_eq!(said("d").message, "watched as `d.shop`");
}

#[test]
fn strangers_hide_no_circle() {
    let with = |name: &str, on: &[&str]| {
        let keys = json!({ "kind": "redis", "url": "redis://a.shop.svc", "depends_on": on });
        (asker(Origin::Monitor, name), asking(keys))
    };
    let judgement = judge([
        with("a", &["b.shop"]),
        with("b", &["c.shop", "x.far", "y.far", "z.far"]),
        with("c", &["a.shop"]),
    ]);
    assert!(judgement.targets.is_empty(), "{judgement:?}");
}

#[test]
fn secrets_are_put_in_and_never_told() {
    let secret = |key: &str| SecretKey {
        name: "db".to_owned(),
        key: key.to_owned(),
    };
    let mut asking = asking(json!({ "kind": "postgresql", "url": "postgres://db.shop.svc/dev" }));
    asking.wish = asking.wish.map(|wish| Wish {
        secrets: BTreeMap::from([("password".to_owned(), secret("password"))]),
        ..wish
    });
    let with = |password: &str, asking: &Asking| Asking {
        secrets: Ok(BTreeMap::from([(
            "password".to_owned(),
            Secret::new(password),
        )])),
        ..asking.clone()
    };
    let asker = asker(Origin::Monitor, "db");
    let mut judge = Judge::new(terms());
    let mut identity = |password: &str| {
        let askers = BTreeMap::from([(asker.clone(), with(password, &asking))]);
        let judgement = judge.judge(&askers);
        assert!(!format!("{judgement:?}").contains("fathom"));
        judgement.targets[0].identity.clone()
    };
    let one = identity("fathom@/1");
    assert!(one == identity("fathom@/1"));
    assert!(one != identity("fathom2"));

    let url = Asking {
        wish: Ok(Wish {
            keys: json!({ "kind": "postgresql" }).as_object().unwrap().clone(),
            secrets: BTreeMap::from([("url".to_owned(), secret("url"))]),
        }),
        secrets: Ok(BTreeMap::from([(
            "url".to_owned(),
            Secret::new("mysql://u:fathom@db.shop.svc"),
        )])),
        ..asking.clone()
    };
    let verdict = judge
        .judge(&BTreeMap::from([(asker.clone(), url)]))
        .verdicts[&asker]
        .clone();
    assert_eq!(verdict.reason, "Invalid");
    assert!(!verdict.message.contains("fathom"), "{verdict:?}");

    let unreadable = Asking {
        secrets: Err("no Secret db".to_owned()),
        ..asking
    };
    let askers = BTreeMap::from([(asker.clone(), unreadable)]);
    assert_eq!(
        judge.judge(&askers).verdicts[&asker].reason,
        "SecretUnreadable"
    );
}

use proptest::prelude::*;

use super::*;
use crate::access::password::Hash;
use crate::secret::Secret;

/// Cost 4, "fathom": quick enough for tests.
fn hash() -> Hash {
    Hash::parse(&bcrypt::hash("fathom", 4).unwrap()).unwrap()
}

fn gate(change: impl FnOnce(&mut Policy)) -> Gate {
    let mut policy = Policy {
        users: vec![("alice".to_owned(), hash())],
        tokens: vec![("robot".to_owned(), Secret::new("plumb-line"))],
        open_health: true,
        ..Policy::default()
    };
    change(&mut policy);
    Gate::new(policy).unwrap()
}

fn encode(text: &str) -> String {
    BASE64.encode(text)
}

async fn ask(gate: &Gate, authorization: &str) -> Result<(), Refusal> {
    let mut headers = HeaderMap::new();
    if !authorization.is_empty() {
        headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
    }
    gate.admit([192, 0, 2, 1].into(), "/metrics", &headers)
        .await
        .map(drop)
}

fn basic(pair: &str) -> String {
    format!("Basic {}", encode(pair))
}

#[tokio::test]
async fn who_has_a_password_or_a_token_is_let_in() {
    let gate = gate(|_| {});
    assert_eq!(ask(&gate, &basic("alice:fathom")).await, Ok(()));
    assert_eq!(ask(&gate, &basic("alice:fathom")).await, Ok(()));
    assert_eq!(ask(&gate, "bearer plumb-line").await, Ok(()));
}

#[tokio::test]
async fn who_was_let_in_is_known_by_name_each_time() {
    let gate = gate(|policy| policy.read_only = ["robot".to_owned()].into());
    let ask = async |authorization: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
        gate.admit([192, 0, 2, 1].into(), "/", &headers).await
    };
    let named = |name: &str, reads_only| {
        Ok(Entered {
            name: Some(name.to_owned()),
            reads_only,
        })
    };
    assert_eq!(ask(&basic("alice:fathom")).await, named("alice", false));
    assert_eq!(ask(&basic("alice:fathom")).await, named("alice", false));
    assert_eq!(ask("Bearer plumb-line").await, named("robot", true));
}

#[tokio::test]
async fn who_has_not_is_told_what_is_wrong_and_no_more() {
    let gate = gate(|_| {});
    let twice = basic("alice:fathom");
    let cases = [
        ("", Refusal::Missing),
        ("Basic", Refusal::Malformed),
        ("Basic !!!", Refusal::Malformed),
        ("Digest x", Refusal::Malformed),
        ("Bearer plumb-lin", Refusal::Wrong),
        ("Bearer ", Refusal::Malformed),
        (&basic("alice:fathoM"), Refusal::Wrong),
        (&basic("bob:fathom"), Refusal::Wrong),
        (&basic("alice"), Refusal::Malformed),
        (&basic("alice:"), Refusal::Wrong),
    ];
    for (authorization, refusal) in cases {
        let said = ask(&gate, authorization).await.unwrap_err();
        // `HeaderValue` keeps the space at the end, and an empty token is a wrong one.
        if authorization == "Bearer " {
            assert!(matches!(said, Refusal::Wrong | Refusal::Malformed));
            continue;
        }
        assert_eq!(said, refusal, "{authorization}");
    }
    let mut headers = HeaderMap::new();
    headers.append(header::AUTHORIZATION, twice.parse().unwrap());
    headers.append(header::AUTHORIZATION, twice.parse().unwrap());
    let said = gate.admit([192, 0, 2, 9].into(), "/", &headers).await;
    assert_eq!(said, Err(Refusal::Malformed));
}

#[tokio::test]
async fn who_guesses_is_slowed_down_and_others_are_not() {
    let gate = gate(|_| {});
    assert_eq!(ask(&gate, &basic("alice:fathom")).await, Ok(()));
    let mut last = Ok(());
    for guess in 0..12 {
        last = ask(&gate, &basic(&format!("alice:{guess}"))).await;
    }
    assert!(matches!(last, Err(Refusal::WrongTooOften(_))), "{last:?}");
    // Whoever was let in stays in, also from the same address.
    assert_eq!(ask(&gate, &basic("alice:fathom")).await, Ok(()));
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, basic("alice:no").parse().unwrap());
    let other = gate.admit([192, 0, 2, 7].into(), "/", &headers).await;
    assert_eq!(other, Err(Refusal::Wrong));
}

#[tokio::test]
async fn health_is_open_only_where_the_config_says_so() {
    for (open, expected) in [
        (true, Ok(Entered::default())),
        (false, Err(Refusal::Missing)),
    ] {
        let gate = gate(|policy| policy.open_health = open);
        for path in ["/livez", "/readyz"] {
            let said = gate
                .admit([192, 0, 2, 1].into(), path, &HeaderMap::new())
                .await;
            assert_eq!(said, expected, "{path}");
        }
        let said = gate
            .admit([192, 0, 2, 1].into(), "/api/v1/state", &HeaderMap::new())
            .await;
        assert_eq!(said, Err(Refusal::Missing));
    }
}

#[tokio::test]
async fn what_is_remembered_is_bounded() {
    let gate = gate(|_| {});
    for number in 0..2 * REMEMBERED {
        gate.remember(keyed(&gate.key, &number.to_be_bytes()));
    }
    assert_eq!(gate.remembered.lock().unwrap().len(), REMEMBERED);
}

#[tokio::test]
async fn too_many_checks_at_once_are_refused() {
    let gate = gate(|_| {});
    let _all = gate.waiting.acquire_many(WAITING as u32).await.unwrap();
    let said = ask(&gate, &basic("alice:fathom")).await;
    assert_eq!(said, Err(Refusal::Busy));
}

proptest! {
    #[test]
    fn basic_is_read_with_and_without_its_padding(text in ".{0,40}") {
        let written = encode(&text);
        for written in [written.as_str(), written.trim_end_matches('=')] {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", format!("basic {written}").parse().unwrap());
            let read = matches!(
                credentials(&headers),
                Ok(Credentials::Basic(pair)) if pair == text.as_bytes()
            );
            prop_assert!(read);
        }
    }

    #[test]
    fn any_authorization_is_read_without_a_panic(value in proptest::collection::vec(32_u8..=255, 0..60)) {
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            headers.insert("authorization", value);
        }
        let _ = credentials(&headers);
    }
}

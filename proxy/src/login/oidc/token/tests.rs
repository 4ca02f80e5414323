use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use comind_model::ingress::UpstreamTls;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::json;

use super::*;

fn told() -> Oidc {
    Oidc {
        issuer: "https://id.test".into(),
        client_id: "us".into(),
        client_secret: None,
        scopes: Vec::new(),
        user_claim: "email".into(),
        groups_claim: "groups".into(),
        roles: BTreeMap::new(),
        tls: UpstreamTls::default(),
    }
}

struct Signer(EcdsaKeyPair, &'static str);

impl Signer {
    fn new(id: &'static str) -> Self {
        let random = SystemRandom::new();
        let with = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let key = EcdsaKeyPair::generate_pkcs8(with, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(with, key.as_ref(), &random).unwrap();
        Self(key, id)
    }

    fn public(&self, purpose: &str) -> Value {
        let point = self.0.public_key().as_ref();
        json!({
            "kty": "EC", "crv": "P-256", "kid": self.1, "use": purpose, "alg": "ES256",
            "x": BASE64.encode(&point[1..33]), "y": BASE64.encode(&point[33..]),
        })
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| BASE64.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signed = self
            .0
            .sign(&SystemRandom::new(), message.as_bytes())
            .unwrap();
        format!("{message}.{}", BASE64.encode(signed.as_ref()))
    }
}

fn read(set: &[Value]) -> Vec<Jwk> {
    keys(json!({ "keys": set }).to_string().as_bytes()).unwrap()
}

fn claimed(change: &Value) -> Value {
    let now = jsonwebtoken::get_current_timestamp();
    let mut claims = json!({
        "iss": "https://id.test", "aud": "us", "sub": "1", "nonce": "n", "iat": now, "exp": now + 60,
    });
    for (name, value) in change.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

#[test]
fn a_good_token_is_good_and_each_flaw_is_found() {
    let signer = Signer::new("a");
    let header = json!({ "alg": "ES256", "kid": "a" });
    // Keys for other purposes, and of kinds that we cannot read, stand beside.
    let set = read(&[json!({ "kty": "odd" }), signer.public("sig")]);
    let verify = |change: &Value| {
        let token = signer.sign(&header, &claimed(change));
        verify(&token, &set, &told(), "n")
    };
    assert!(verify(&json!({})).is_ok());
    assert!(verify(&json!({ "aud": ["us"] })).is_ok());
    assert!(verify(&json!({ "aud": ["us", "them"], "azp": "us" })).is_ok());
    let now = jsonwebtoken::get_current_timestamp();
    for flaw in [
        json!({ "iss": "https://other.test" }),
        json!({ "iss": ["https://id.test", "https://other.test"] }),
        json!({ "aud": "them" }),
        json!({ "aud": ["us", "them"] }),
        json!({ "aud": ["us", "them"], "azp": "them" }),
        json!({ "nonce": "other" }),
        json!({ "nonce": null }),
        json!({ "exp": now - 120 }),
        json!({ "exp": "never" }),
        json!({ "nbf": now + 3600 }),
        json!({ "sub": null }),
    ] {
        assert!(verify(&flaw).is_err(), "{flaw}");
    }
}

#[test]
fn keys_are_those_of_the_provider_and_for_this() {
    let (ours, theirs) = (Signer::new("a"), Signer::new("b"));
    let header = json!({ "alg": "ES256", "kid": "a" });
    let good = ours.sign(&header, &claimed(&json!({})));
    let by_other = theirs.sign(&header, &claimed(&json!({})));
    let set = read(&[ours.public("sig")]);
    assert!(verify(&good, &set, &told(), "n").is_ok());
    assert_eq!(verify(&by_other, &set, &told(), "n"), Err(Bad::UnknownKey));
    assert_eq!(
        verify(&good, &read(&[theirs.public("sig")]), &told(), "n"),
        Err(Bad::UnknownKey)
    );
    assert_eq!(
        verify(&good, &read(&[ours.public("enc")]), &told(), "n"),
        Err(Bad::UnknownKey)
    );
    assert_eq!(verify(&good, &[], &told(), "n"), Err(Bad::UnknownKey));
}

#[test]
fn what_is_not_signed_by_a_key_is_not_signed() {
    let signer = Signer::new("a");
    let set = read(&[
        signer.public("sig"),
        json!({ "kty": "oct", "k": "c2VjcmV0", "kid": "s" }),
    ]);
    for header in [
        json!({ "alg": "none" }),
        json!({ "alg": "HS256", "kid": "s" }),
        json!({ "alg": "HS256", "kid": "a" }),
        json!({ "alg": "RS256", "kid": "a" }),
        json!({ "alg": "EdDSA", "kid": "a" }),
    ] {
        let token = signer.sign(&header, &claimed(&json!({})));
        assert!(verify(&token, &set, &told(), "n").is_err(), "{header}");
    }
    let token = signer.sign(&json!({ "alg": "ES256", "kid": "a" }), &claimed(&json!({})));
    let cut = token.rsplit_once('.').unwrap().0;
    assert!(verify(&format!("{cut}."), &set, &told(), "n").is_err());
    let mut other = token.into_bytes();
    let middle = other.len() / 2;
    other[middle] ^= 1;
    let other = String::from_utf8(other).unwrap();
    assert!(verify(&other, &set, &told(), "n").is_err());
}

//! Whether an ID token is good: signed by a key of the provider, for us, from it, in time, and
//! for this login. The signature is checked by ring.

use comind_model::login::Oidc;
use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, Validation};
use ring::signature as ours;
use serde_json::{Map, Value};

/// Clocks may differ by so many seconds.
const LEEWAY: u64 = 60;

/// What a token says.
pub type Claims = Map<String, Value>;

static RING: CryptoProvider = CryptoProvider {
    // We sign nothing.
    signer_factory: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// The library's provider of cryptography, which is ours. Called once before the first token.
pub fn install() {
    // Another call came first: it is the same.
    let _ = RING.install_default();
}

struct ByRing(Algorithm, DecodingKey);

fn verifier(
    algorithm: &Algorithm,
    key: &DecodingKey,
) -> jsonwebtoken::errors::Result<Box<dyn JwtVerifier>> {
    let fits = match algorithm {
        Algorithm::ES256 | Algorithm::ES384 => AlgorithmFamily::Ec,
        Algorithm::EdDSA => AlgorithmFamily::Ed,
        // A secret that both sides have is none that a key set could hold.
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
            return Err(ErrorKind::InvalidAlgorithm.into());
        }
        _ => AlgorithmFamily::Rsa,
    };
    if key.family() != fits {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    Ok(Box::new(ByRing(*algorithm, key.clone())))
}

impl Verifier<Vec<u8>> for ByRing {
    fn verify(&self, message: &[u8], signed: &Vec<u8>) -> Result<(), signature::Error> {
        let rsa = |with: &'static ours::RsaParameters| match self.1.kind() {
            DecodingKeyKind::RsaModulusExponent { n, e } => {
                ours::RsaPublicKeyComponents { n, e }.verify(with, message, signed)
            }
            DecodingKeyKind::SecretOrDer(_) => Err(ring::error::Unspecified),
        };
        let other = |with: &'static dyn ours::VerificationAlgorithm| match self.1.kind() {
            DecodingKeyKind::SecretOrDer(key) => {
                ours::UnparsedPublicKey::new(with, key).verify(message, signed)
            }
            DecodingKeyKind::RsaModulusExponent { .. } => Err(ring::error::Unspecified),
        };
        let verified = match self.0 {
            Algorithm::RS256 => rsa(&ours::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RS384 => rsa(&ours::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::RS512 => rsa(&ours::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::PS256 => rsa(&ours::RSA_PSS_2048_8192_SHA256),
            Algorithm::PS384 => rsa(&ours::RSA_PSS_2048_8192_SHA384),
            Algorithm::PS512 => rsa(&ours::RSA_PSS_2048_8192_SHA512),
            Algorithm::ES256 => other(&ours::ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => other(&ours::ECDSA_P384_SHA384_FIXED),
            Algorithm::EdDSA => other(&ours::ED25519),
            // Secrets, and what is not known yet.
            _ => Err(ring::error::Unspecified),
        };
        verified.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for ByRing {
    fn algorithm(&self) -> Algorithm {
        self.0
    }
}

/// The keys of a provider: those that we can read. Others are for other purposes.
pub fn keys(set: &[u8]) -> Result<Vec<Jwk>, String> {
    let value: Value =
        serde_json::from_slice(set).map_err(|error| format!("the key set is no JSON: {error}"))?;
    let all = value.get("keys").and_then(Value::as_array);
    let all = all.ok_or("the key set has no `keys`")?;
    Ok(all
        .iter()
        .filter_map(|key| serde_json::from_value(key.clone()).ok())
        .collect())
}

/// Why a token is not good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bad {
    /// No key that we know has signed it: there may be a new one.
    UnknownKey,
    /// In a word.
    Other(String),
}

fn bad(text: impl Into<String>) -> Bad {
    Bad::Other(text.into())
}

/// What it says, if it is good.
///
/// # Errors
/// Why not.
pub fn verify(token: &str, keys: &[Jwk], told: &Oidc, nonce: &str) -> Result<Claims, Bad> {
    install();
    let header = jsonwebtoken::decode_header(token).map_err(|error| bad(error.to_string()))?;
    let family = match header.alg {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
            return Err(bad(
                "it is signed by a secret, not by a key of the provider",
            ));
        }
        other => other,
    };
    let fits = |key: &&Jwk| {
        let named = match (&header.kid, &key.common.key_id) {
            (Some(wanted), Some(id)) => wanted == id,
            (Some(_), None) => false,
            (None, _) => true,
        };
        let signs =
            !matches!(&key.common.public_key_use, Some(other) if *other != PublicKeyUse::Signature);
        let for_this = key
            .common
            .key_algorithm
            .is_none_or(|algorithm| algorithm == family.into());
        named && signs && for_this
    };
    let mut validation = Validation::new(family);
    validation.leeway = LEEWAY;
    validation.validate_nbf = true;
    validation.set_audience(&[&*told.client_id]);
    validation.set_issuer(&[&*told.issuer]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    let mut last = Bad::UnknownKey;
    for key in keys.iter().filter(fits) {
        let Ok(key) = DecodingKey::from_jwk(key) else {
            continue;
        };
        match jsonwebtoken::decode::<Claims>(token, &key, &validation) {
            Ok(good) => return claims(good.claims, told, nonce),
            Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => {}
            Err(error) => last = bad(error.to_string()),
        }
    }
    Err(last)
}

fn claims(claims: Claims, told: &Oidc, nonce: &str) -> Result<Claims, Bad> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if text("iss") != Some(&*told.issuer) {
        return Err(bad("its issuer is another"));
    }
    // It is for this login, and not one that was taken from another (Core, section 3.1.3.7).
    if text("nonce") != Some(nonce) {
        return Err(bad("its nonce is not that of this login"));
    }
    let several = claims
        .get("aud")
        .and_then(Value::as_array)
        .is_some_and(|all| all.len() > 1);
    match text("azp") {
        Some(party) if party != &*told.client_id => Err(bad("it is for another party")),
        None if several => Err(bad("it is for several, and does not say for whom first")),
        _ => Ok(claims),
    }
}

#[cfg(test)]
mod tests;

//! The login for a registry, from where `docker login` has put it: its configuration or a helper that
//! this names. Must not know what it is for.

use std::fs::File;
use std::io::{BufReader, ErrorKind};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};
use oci_client::secrets::RegistryAuth;

/// What helpers write for a host that they have no login for.
const NONE: &str = "credentials not found";

/// The one for this host; anonymous if there is none.
///
/// # Errors
/// When there is one that cannot be read or used.
pub fn login(host: &str) -> Result<RegistryAuth> {
    let Some(file) = file() else {
        return Ok(RegistryAuth::Anonymous);
    };
    let config = match File::open(&file) {
        Ok(config) => BufReader::new(config),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(RegistryAuth::Anonymous),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", file.display()));
        }
    };
    // Docker has another name for its own registry.
    let known = match host {
        "docker.io" => "https://index.docker.io/v1/",
        host => host,
    };
    match get_credential_from_reader(config, known) {
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            Ok(RegistryAuth::Basic(user, password))
        }
        Ok(DockerCredential::IdentityToken(_)) => bail!(
            "{} has an identity token for {host}, which cannot be used here: docker login {host} with a password or an access token",
            file.display()
        ),
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(RegistryAuth::Anonymous),
        Err(CredentialRetrievalError::HelperFailure { stdout, .. }) if stdout.contains(NONE) => {
            Ok(RegistryAuth::Anonymous)
        }
        // What else a helper wrote may be a secret.
        Err(CredentialRetrievalError::HelperFailure { helper, .. }) => bail!(
            "docker's helper {helper}, which {} names, gave no login for {host}: docker login {host}",
            file.display()
        ),
        Err(error) => bail!(
            "{} gives no login for {host}: {error}; docker login {host} writes it anew",
            file.display()
        ),
    }
}

/// Docker's configuration.
fn file() -> Option<PathBuf> {
    let named = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let usual = || std::env::home_dir().map(|home| home.join(".docker"));
    Some(named.or_else(usual)?.join("config.json"))
}

//! Where images are kept: `--image-registry [http://]HOST[:PORT]/PATH`, and what an image that is
//! made here is called there. Pure; must not know how a registry is spoken to.

use std::fmt;
use std::str::FromStr;

use oci_client::Reference;
use serde::{Deserialize, Serialize};

/// A folder of a registry.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    host: String,
    path: String,
    plain: bool,
}

/// Why a text names no such folder.
#[derive(Debug, thiserror::Error)]
#[error(
    "--image-registry {given}: {why}; it is [http://]HOST[:PORT]/PATH, such as registry.example.org/team"
)]
pub struct Invalid {
    given: String,
    why: String,
}

impl FromStr for Address {
    type Err = Invalid;

    fn from_str(given: &str) -> Result<Self, Invalid> {
        // What stands before an @ may be a password: it is not said again.
        let invalid = |why: &str| Invalid {
            given: given.rsplit('@').next().unwrap_or_default().to_owned(),
            why: why.to_owned(),
        };
        if given.contains('@') {
            return Err(invalid("a login is not given here but to `docker login`"));
        }
        let (plain, rest) = match (
            given.strip_prefix("http://"),
            given.strip_prefix("https://"),
        ) {
            (Some(rest), _) => (true, rest),
            (None, rest) => (false, rest.unwrap_or(given)),
        };
        let rest = rest.trim_end_matches('/');
        let image = format!("{rest}/image");
        let parsed: Reference = image.parse().map_err(|why| invalid(&format!("{why}")))?;
        let path = parsed.repository().strip_suffix("image");
        let path = path.unwrap_or_default().trim_end_matches('/');
        let address = Self {
            host: parsed.registry().to_owned(),
            path: path.to_owned(),
            plain,
        };
        // The parser takes some names (A/image) that it does not take with their host before them.
        let whole: Reference = format!("{address}/image")
            .parse()
            .map_err(|why| invalid(&format!("{why}")))?;
        match whole.registry() == address.host {
            true => Ok(address),
            false => Err(invalid("it names no host")),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = Invalid;

    fn try_from(given: String) -> Result<Self, Invalid> {
        given.parse()
    }
}

/// As it is given.
impl From<Address> for String {
    fn from(address: Address) -> Self {
        let scheme = if address.plain { "http://" } else { "" };
        format!("{scheme}{address}")
    }
}

impl Address {
    /// The registry, as a host with its port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether it is spoken to without TLS, because it was named so.
    pub fn plain(&self) -> bool {
        self.plain
    }

    /// Where it answers.
    pub fn url(&self) -> String {
        let scheme = if self.plain { "http" } else { "https" };
        format!("{scheme}://{}", self.host)
    }

    /// What an image that is made here (`comind.local/NAME:TAG`) is called there: by its digest, so
    /// that nothing else can be pulled under its name. The tag is for people.
    pub fn image(&self, local: &str, digest: &str) -> String {
        let name = local.split_once('/').map_or(local, |(_, name)| name);
        format!("{self}/{name}@{digest}")
    }
}

/// As images' names begin, without the scheme.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        match self.path.is_empty() {
            true => Ok(()),
            false => write!(f, "/{}", self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is given, and what is taken is taken again as it is kept.
        #[test]
        fn any_text_is_survived(given in "(https?://)?[a-zA-Z0-9.:/@_%-]{0,40}|\\PC{0,20}") {
            if let Ok(address) = given.parse::<Address>() {
                prop_assert_eq!(String::from(address.clone()).parse::<Address>().ok(), Some(address.clone()));
                let image = address.image("comind.local/git:1", &format!("sha256:{:064}", 0));
                prop_assert!(image.parse::<Reference>().is_ok_and(|image| image.registry() == address.host()), "{}", image);
            }
        }
    }

    #[test]
    fn images_are_named_by_what_is_in_them() -> Result<(), Invalid> {
        for (given, name, url) in [
            (
                "registry.example.org/team",
                "registry.example.org/team",
                "https://registry.example.org",
            ),
            (
                "https://registry.example.org/a/b/",
                "registry.example.org/a/b",
                "https://registry.example.org",
            ),
            (
                "http://10.0.0.1:5000",
                "10.0.0.1:5000",
                "http://10.0.0.1:5000",
            ),
            // As Docker reads it: without a dot, a port or localhost it is no host.
            ("team", "docker.io/team", "https://docker.io"),
        ] {
            let address: Address = given.parse()?;
            assert_eq!(address.url(), url, "{given}");
            assert_eq!(String::from(address.clone()).parse::<Address>()?, address);
            assert_eq!(
                address.image("comind.local/git:1", "sha256:ab"),
                format!("{name}/git:1@sha256:ab"),
                "{given}"
            );
        }
        Ok(())
    }

    #[test]
    fn what_is_no_registry_is_told_without_its_password() {
        for (given, said) in [
            ("", "--image-registry : "),
            ("Registry.example.org/Team", "invalid"),
            ("ftp://registry", "invalid"),
            ("A", "invalid"),
            ("https://me:secret@registry.example.org", "docker login"),
        ] {
            let error = given.parse::<Address>().expect_err(given).to_string();
            assert!(error.contains(said) && !error.contains("secret"), "{error}");
        }
    }
}

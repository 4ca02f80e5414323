//! Throw-away certificates for servers on 127.0.0.1 and localhost.
//!
//! Must not know which server uses them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::peer::own_file;
use crate::user::User;

/// A certificate for 127.0.0.1 and localhost, and the authority that signed it.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// PEM of the authority: what a client must trust.
    pub authority_pem: String,
    /// PEM of the server's certificate.
    pub certificate_pem: String,
    /// PEM (PKCS #8) of the server's private key.
    pub key_pem: String,
}

/// The files of a [`Certificate`].
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// `ca.crt`.
    pub authority: PathBuf,
    /// `server.crt`.
    pub certificate: PathBuf,
    /// `server.key`, readable by the server's user only.
    pub key: PathBuf,
}

impl Certificate {
    /// Makes a new authority and a certificate which it signs, valid until the
    /// library's far default end.
    pub fn new() -> Result<Self> {
        Self::for_names(&[])
    }

    /// As [`new`](Self::new), for more names or addresses besides.
    pub fn for_names(more: &[&str]) -> Result<Self> {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let name = &mut authority.distinguished_name;
        name.push(DnType::CommonName, "comind-peers test authority");
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)
            .context("could not make a certificate authority")?;
        let key = KeyPair::generate()?;
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        names.extend(more.iter().map(|&n| n.to_owned()));
        let mut server = CertificateParams::new(names)?;
        let name = &mut server.distinguished_name;
        name.push(DnType::CommonName, "localhost");
        let certificate = server
            .signed_by(&key, &authority)
            .context("could not sign a certificate")?;
        Ok(Self {
            authority_pem: authority.pem(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    /// Writes the three files into `dir` for a server that runs as `user`.
    pub fn write(&self, dir: &Path, user: Option<User>) -> Result<CertificateFiles> {
        Ok(CertificateFiles {
            authority: own_file(dir, "ca.crt", user, &self.authority_pem)?,
            certificate: own_file(dir, "server.crt", user, &self.certificate_pem)?,
            key: own_file(dir, "server.key", user, &self.key_pem)?,
        })
    }
}

//! An authority of our own, for names that have no certificate: made on first use, kept in a
//! folder, trusted by whoever installs it (`comind-ops tls trust` says how).
//! Its key signs only for local names, and that stands in its certificate.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls::crypto::ring;
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;

/// Names below these may be signed.
const LOCAL: [&str; 4] = ["localhost", "localdomain", "nip.io", "internal"];
/// Years that the authority lasts, and days that what it signs lasts.
const YEARS: i64 = 10;
const DAYS: i64 = 90;
/// So many names are signed; a client can ask for any.
const NAMES: usize = 1000;

/// So many days from now, in the type of a library that is not ours to name.
macro_rules! day {
    ($days:expr) => {{
        let today = jiff::Timestamp::now()
            .to_zoned(jiff::tz::TimeZone::UTC)
            .date();
        let day = today.saturating_add(jiff::Span::new().days($days));
        let (month, of_month) = (day.month().unsigned_abs(), day.day().unsigned_abs());
        rcgen::date_time_ymd(day.year().into(), month, of_month)
    }};
}

/// The authority.
#[derive(Debug)]
pub struct Authority {
    file: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    made: Mutex<HashMap<String, (Arc<CertifiedKey>, i64)>>,
}

/// Where it is kept, below `data_dir`.
pub const FOLDER: &str = "authority";
/// Where its certificate is, below the folder.
pub const CERTIFICATE: &str = "authority.pem";
const KEY: &str = "authority.key";

impl Authority {
    /// Opens the one in `folder`, or makes it.
    ///
    /// # Errors
    /// When it cannot be read, written or made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let (file, key_file) = (folder.join(CERTIFICATE), folder.join(KEY));
        if !file.exists() || !key_file.exists() {
            create(folder, &file, &key_file)?;
        }
        let pem = fs::read_to_string(&file)?;
        let key = KeyPair::from_pem(&fs::read_to_string(&key_file)?).map_err(io::Error::other)?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key).map_err(io::Error::other)?;
        Ok(Self {
            file,
            issuer,
            made: Mutex::default(),
        })
    }

    /// Where its certificate is.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// A certificate for a local name; none for others.
    pub fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        if !is_local(name) {
            return None;
        }
        let now = jiff::Timestamp::now().as_second();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        // Renewed when two thirds of its time are over.
        made.retain(|_, (_, until)| *until > now);
        if let Some((key, _)) = made.get(name) {
            return Some(key.clone());
        }
        if made.len() >= NAMES {
            return None;
        }
        let key = match self.sign(name) {
            Ok(key) => Arc::new(key),
            Err(error) => {
                tracing::warn!(name, "no certificate could be made: {error}");
                return None;
            }
        };
        made.insert(name.to_owned(), (key.clone(), now + DAYS * 86_400 * 2 / 3));
        Some(key)
    }

    fn sign(&self, name: &str) -> Result<CertifiedKey, String> {
        let told = |error: rcgen::Error| error.to_string();
        let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(told)?;
        params.distinguished_name = named(name);
        (params.not_before, params.not_after) = (day!(-1), day!(DAYS));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(told)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(told)?;
        let der = PrivateKeyDer::try_from(key.serialize_der()).map_err(str::to_owned)?;
        CertifiedKey::from_der(
            vec![certificate.der().clone()],
            der,
            &ring::default_provider(),
        )
        .map_err(|error| error.to_string())
    }
}

fn is_local(name: &str) -> bool {
    LOCAL.iter().any(|local| {
        name.strip_suffix(local)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn create(folder: &Path, file: &Path, key_file: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = named("comind-ops local authority");
    (params.not_before, params.not_after) = (day!(-1), day!(YEARS * 365));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // Whoever steals the key can pose as these names only.
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: LOCAL
            .iter()
            .map(|name| GeneralSubtree::DnsName((*name).to_owned()))
            .collect(),
        excluded_subtrees: Vec::new(),
    });
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let certificate = params.self_signed(&key).map_err(io::Error::other)?;
    // The key first: a certificate without its key would be made anew.
    let mut out = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(key_file)?;
    out.write_all(key.serialize_pem().as_bytes())?;
    fs::write(file, certificate.pem())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_local_names_and_goes_on_after_a_restart() {
        let folder = std::env::temp_dir().join(format!("comind-authority-{}", std::process::id()));
        let first = Authority::open(&folder).unwrap();
        let shown = first.certificate("grafana.localhost").unwrap();
        assert!(Arc::ptr_eq(
            &shown,
            &first.certificate("grafana.localhost").unwrap()
        ));
        assert!(
            first.certificate("example.org").is_none()
                && first.certificate("notlocalhost").is_none()
        );
        let before = fs::read(first.file()).unwrap();
        let again = Authority::open(&folder).unwrap();
        assert_eq!(fs::read(again.file()).unwrap(), before);
        assert!(again.certificate("localhost").is_some());
        fs::remove_dir_all(&folder).unwrap();
    }
}

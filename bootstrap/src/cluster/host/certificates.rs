//! The cluster's certificates: an authority of its own, and what it signs. Renewed when a third of
//! their time is left.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use serde::{Deserialize, Serialize};

use crate::cluster::host::place::{API_SERVICE, Place};
use crate::fingerprint;
use crate::plan::step::Change;
use crate::{store, validity};

/// How long a certificate lasts, in days.
const DAYS: i64 = 365;
/// How long the authority lasts, in days.
const AUTHORITY_DAYS: i64 = 3650;
/// The authority's files.
pub const AUTHORITY: &str = "ca.crt";
const AUTHORITY_KEY: &str = "ca.key";
/// The pair that signs tokens of service accounts.
pub const ACCOUNTS_KEY: &str = "service-accounts.key";
/// Its public half.
pub const ACCOUNTS_PUBLIC: &str = "service-accounts.pub";

/// One certificate.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Wanted {
    /// The name of its files: `NAME.crt`, `NAME.key`.
    pub name: &'static str,
    /// Who it is for: Kubernetes takes this for the user.
    pub user: String,
    /// Kubernetes takes this for the group.
    pub group: Option<&'static str>,
    /// As what a server may be reached.
    pub reached_as: Vec<String>,
}

/// What a cluster needs. Pure.
pub fn wanted(place: &Place) -> Vec<Wanted> {
    let (node, name) = (place.node().to_string(), place.name());
    let client = |name, user: &str, group| Wanted {
        name,
        user: user.to_owned(),
        group,
        reached_as: Vec::new(),
    };
    let server = |name, user: &str, group, reached_as: &[&str]| Wanted {
        name,
        user: user.to_owned(),
        group,
        reached_as: reached_as.iter().map(|&name| name.to_owned()).collect(),
    };
    vec![
        server("etcd", "etcd", None, &["127.0.0.1", "localhost"]),
        server(
            "apiserver",
            "kube-apiserver",
            None,
            &[
                &node,
                API_SERVICE,
                "127.0.0.1",
                "localhost",
                "kubernetes",
                "kubernetes.default",
                "kubernetes.default.svc",
                "kubernetes.default.svc.cluster.local",
                &name,
            ],
        ),
        // The API server towards etcd, towards kubelets, and towards API servers behind it.
        client("apiserver-client", "kube-apiserver", Some("system:masters")),
        client("front-proxy", "front-proxy-client", None),
        server(
            "kubelet",
            &format!("system:node:{name}"),
            Some("system:nodes"),
            &[&node, &name, "127.0.0.1", "localhost"],
        ),
        client("admin", "comind-ops-admin", Some("system:masters")),
        client("controller-manager", "system:kube-controller-manager", None),
        client("scheduler", "system:kube-scheduler", None),
        client("proxy", "system:kube-proxy", None),
    ]
}

/// What is noted beside a certificate.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Note {
    /// Of what was wanted and of the authority.
    of: String,
    until: Timestamp,
}

/// What there is.
#[derive(Clone, Debug)]
pub struct Seen {
    authority: bool,
    accounts: bool,
    now: Timestamp,
    notes: Vec<(Wanted, Option<Note>, String)>,
}

/// Looks.
///
/// # Errors
/// When files cannot be read.
pub fn look(place: &Place, now: Timestamp) -> Result<Seen> {
    let authority = store::read(&place.pki(AUTHORITY))?;
    let notes = wanted(place)
        .into_iter()
        .map(|wanted| {
            let of = fingerprint::of(&(&wanted, &authority));
            let there = [".crt", ".key"]
                .iter()
                .all(|end| place.pki(&format!("{}{end}", wanted.name)).exists());
            let note = store::read_json(&place.pki(&format!("{}.note", wanted.name)))?;
            Ok((wanted, note.filter(|_| there), of))
        })
        .collect::<Result<_>>()?;
    Ok(Seen {
        authority: authority.is_some() && place.pki(AUTHORITY_KEY).exists(),
        accounts: place.pki(ACCOUNTS_KEY).exists() && place.pki(ACCOUNTS_PUBLIC).exists(),
        now,
        notes,
    })
}

impl Seen {
    fn due(&self) -> impl Iterator<Item = (&Wanted, &'static str)> {
        let soon = self.now + SignedDuration::from_hours(24 * DAYS / 3);
        self.notes.iter().filter_map(move |(wanted, note, of)| {
            let why = match note {
                _ if !self.authority => "make",
                None => "make",
                Some(note) if note.of != *of => "make anew, because it was for something else:",
                Some(note) if note.until < soon => "renew",
                Some(_) => return None,
            };
            Some((wanted, why))
        })
    }
}

/// What would be made. Pure.
pub fn diff(seen: &Seen) -> Vec<Change> {
    let mut changes = Vec::new();
    if !seen.authority {
        changes.push(Change::new("make the cluster's authority"));
    }
    if !seen.accounts {
        changes.push(Change::new("make the key of service accounts"));
    }
    let due = seen.due();
    changes.extend(
        due.map(|(wanted, why)| Change::new(format!("{why} the certificate {}", wanted.name))),
    );
    changes
}

/// Makes what is due.
///
/// # Errors
/// When files cannot be written.
pub fn make(place: &Place, seen: &Seen) -> Result<()> {
    std::fs::create_dir_all(place.data("pki")).context("cannot make the certificates' folder")?;
    if !seen.authority {
        make_authority(place, seen.now)?;
    }
    if !seen.accounts {
        let key = KeyPair::generate()?;
        store::write(&place.pki(ACCOUNTS_PUBLIC), key.public_key_pem().as_bytes())?;
        store::write(&place.pki(ACCOUNTS_KEY), key.serialize_pem().as_bytes())?;
    }
    let pem = std::fs::read_to_string(place.pki(AUTHORITY))?;
    let key = KeyPair::from_pem(&std::fs::read_to_string(place.pki(AUTHORITY_KEY))?)?;
    let issuer = Issuer::from_ca_cert_pem(&pem, key)?;
    for (wanted, _) in seen.due() {
        sign(place, wanted, &issuer, &pem, seen.now)
            .with_context(|| format!("cannot make the certificate {}", wanted.name))?;
    }
    Ok(())
}

fn make_authority(place: &Place, now: Timestamp) -> Result<()> {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished(&format!("{} cluster", place.name()), None);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    validity::set(&mut params, now, AUTHORITY_DAYS)?;
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    store::write(&place.pki(AUTHORITY_KEY), key.serialize_pem().as_bytes())?;
    store::write(&place.pki(AUTHORITY), certificate.pem().as_bytes())
}

fn sign(
    place: &Place,
    wanted: &Wanted,
    issuer: &Issuer<'_, KeyPair>,
    authority: &str,
    now: Timestamp,
) -> Result<()> {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished(&wanted.user, wanted.group);
    params.subject_alt_names = wanted
        .reached_as
        .iter()
        .map(|name| match name.parse::<IpAddr>() {
            Ok(address) => Ok(SanType::IpAddress(address)),
            Err(_) => Ok(SanType::DnsName(name.as_str().try_into()?)),
        })
        .collect::<Result<_>>()?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if !wanted.reached_as.is_empty() {
        params
            .extended_key_usages
            .push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    let until = validity::set(&mut params, now, DAYS)?;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    let file = |end: &str| place.pki(&format!("{}{end}", wanted.name));
    store::write(&file(".key"), key.serialize_pem().as_bytes())?;
    store::write(&file(".crt"), certificate.pem().as_bytes())?;
    // Last: a run that is cut off before this makes both anew.
    let of = fingerprint::of(&(wanted, Some(authority)));
    store::write_json(&file(".note"), &Note { of, until })
}

fn distinguished(user: &str, group: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(group) = group {
        name.push(DnType::OrganizationName, group);
    }
    name.push(DnType::CommonName, user);
    name
}

/// Changes when one of these certificates does: for whoever has to be started anew then.
///
/// # Errors
/// When a note cannot be read.
pub fn edition(place: &Place, names: &[&str]) -> Result<String> {
    let notes = names
        .iter()
        .map(|name| store::read(&place.pki(&format!("{name}.crt"))))
        .collect::<Result<Vec<_>>>()?;
    Ok(fingerprint::of(&notes))
}

/// The base64 of a file, as kubeconfigs want it.
///
/// # Errors
/// When it cannot be read.
pub fn base64_of(path: &Path) -> Result<String> {
    use base64::Engine as _;
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(base64::engine::general_purpose::STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::env::Env;
    use crate::home::{Home, Surroundings};

    fn words(seen: &Seen) -> String {
        Change::words(&diff(seen)).join("\n")
    }

    #[test]
    fn made_once_and_renewed_in_time() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let asked = Surroundings {
            asked: Some(dir.path().to_owned()),
            ..Surroundings::default()
        };
        let place = Place {
            env: Env::Dev,
            home: Home::choose(&asked)?,
        };
        let now: Timestamp = "2026-01-01T00:00:00Z".parse()?;
        let at = |days: i64| now + SignedDuration::from_hours(24 * days);
        let first = look(&place, now)?;
        insta::assert_snapshot!(words(&first), @r"
        make the cluster's authority
        make the key of service accounts
        make the certificate etcd
        make the certificate apiserver
        make the certificate apiserver-client
        make the certificate front-proxy
        make the certificate kubelet
        make the certificate admin
        make the certificate controller-manager
        make the certificate scheduler
        make the certificate proxy
        ");
        make(&place, &first)?;
        assert_eq!(words(&look(&place, now)?), "");
        assert_eq!(words(&look(&place, at(240))?), "");
        let late = look(&place, at(250))?;
        assert_eq!(diff(&late).len(), wanted(&place).len());
        let before = edition(&place, &["kubelet"])?;
        make(&place, &late)?;
        assert_ne!(edition(&place, &["kubelet"])?, before);
        assert_eq!(words(&look(&place, at(250))?), "");
        // Whatever is lost is made again, and nothing else.
        std::fs::remove_file(place.pki("scheduler.key"))?;
        assert_eq!(
            words(&look(&place, at(250))?),
            "make the certificate scheduler"
        );
        Ok(())
    }
}

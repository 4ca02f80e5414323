//! Authorities from PEM. Must not know whom they are for.

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// All certificates of a text; `whose` names it in errors.
///
/// # Errors
/// When there is none, or one is not usable.
pub fn of_pem(pem: &[u8], whose: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("{whose} is no PEM: {error}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("{whose} is not usable: {error}"))?;
    }
    match roots.is_empty() {
        true => Err(format!("{whose} holds no certificate")),
        false => Ok(roots),
    }
}

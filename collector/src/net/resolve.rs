//! Names to addresses, without a blocking thread: a dead name server must not use up a pool
//! that other targets need. Must not know what is connected to.

use std::net::IpAddr;
use std::sync::OnceLock;

use comind_model::reason::Reason;
use hickory_resolver::TokioResolver;

use crate::probe::failure::Failure;

/// The addresses of a host, from the hosts file or the system's name servers.
///
/// # Errors
/// `DnsFailure` when it has none.
pub async fn addresses(host: &str) -> Result<Vec<IpAddr>, Failure> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    // RFC 6761, section 6.3: localhost is loopback, whatever the name servers say.
    if host == "localhost" || host.ends_with(".localhost") {
        return Ok(vec![
            IpAddr::from([127, 0, 0, 1]),
            IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1u16]),
        ]);
    }
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(
            Reason::DnsFailure,
            format!("failed to resolve {host}: {error}"),
        )
    };
    let resolver = system().as_ref().map_err(|error| failed(error))?;
    let found = resolver
        .lookup_ip(host)
        .await
        .map_err(|error| failed(&error))?;
    Ok(found.iter().collect())
}

fn system() -> &'static Result<TokioResolver, String> {
    static SYSTEM: OnceLock<Result<TokioResolver, String>> = OnceLock::new();
    SYSTEM.get_or_init(|| {
        TokioResolver::builder_tokio()
            .and_then(|builder| builder.build())
            .map_err(|error| format!("failed to read the system's resolver settings: {error}"))
    })
}

//! The limit of open files: each target may hold three connections, each request through the
//! proxy two, and the usual soft limit
//! of 1,024 is for programs that use `select`.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Connections to one target: held, second opinion, deep look.
const PER_TARGET: u64 = 3;
/// A connection of the proxy: the client's, and one to an upstream.
const PER_PROXIED: u64 = 2;
/// Listeners, streams, files of our own.
const OWN: u64 = 256;

/// Raises the soft limit to the hard one, and says so where that is too little.
pub fn raise(targets: usize, proxied: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!("failed to raise the limit of open files: {error}");
    }
    let wanted = targets as u64 * PER_TARGET + proxied as u64 * PER_PROXIED + OWN;
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if most < wanted {
        tracing::warn!(
            "{targets} targets and {proxied} connections of the proxy may need {wanted} open files, the limit is \
             {most}: raise it (ulimit -n, LimitNOFILE=)"
        );
    }
}

//! Whether names that lead to this machine itself are resolved here.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join;

use crate::cluster::host::command::run;
use crate::doctor::check::Check;
use crate::doctor::finding::{Finding, Level};

const NAME: &str = "dns";

pub(super) const CHECK: Check = Check {
    name: NAME,
    look: |_| look().map(Ok).boxed(),
    mend: None,
};

/// Who does not answer within this does not count.
const LIMIT: Duration = Duration::from_secs(2);

const NIP: &str = "x.127.0.0.1.nip.io";
const LOCAL: &str = "x.localhost";

async fn look() -> Vec<Finding> {
    let (nip, local) = join(resolve(NIP), resolve(LOCAL)).await;
    vec![judge_nip(&nip), judge_local(&local)]
}

/// As programs here resolve it. Asked by another program because that one can be ended: the C
/// library's own question outlives every deadline, and this program could not end before it.
async fn resolve(name: &str) -> Vec<IpAddr> {
    let asked = run("getent", ["ahostsv4", name]);
    match tokio::time::timeout(LIMIT, asked).await {
        Ok(Ok(text)) => addresses(&text),
        // Not found, or nobody answers: both mean that the name is of no use here.
        _ => Vec::new(),
    }
}

fn addresses(text: &str) -> Vec<IpAddr> {
    let first = |line: &str| line.split_whitespace().next()?.parse().ok();
    text.lines().filter_map(first).collect()
}

fn here(found: &[IpAddr]) -> bool {
    found.contains(&Ipv4Addr::LOCALHOST.into())
}

fn judge_nip(found: &[IpAddr]) -> Finding {
    if here(found) {
        return Finding::ok(NAME, format!("{NIP} leads here"));
    }
    let says = match found.first() {
        Some(other) => format!("{NIP} leads to {other}, and not to 127.0.0.1"),
        None => format!("{NIP} leads nowhere (no way out, or answers with 127.0.0.1 are refused)"),
    };
    Finding::new(NAME, Level::Note, says, "use NAME.localhost")
}

fn judge_local(found: &[IpAddr]) -> Finding {
    if here(found) {
        return Finding::ok(NAME, format!("{LOCAL} leads here"));
    }
    Finding::new(
        NAME,
        Level::Note,
        format!("{LOCAL} leads nowhere for programs that ask the C library"),
        "browsers and curl know it by themselves; for others: apt-get install libnss-myhostname, \
         or a line in /etc/hosts",
    )
}

#[cfg(test)]
mod tests {
    use super::{addresses, judge_local, judge_nip};
    use crate::doctor::finding::Level;

    #[test]
    fn only_what_leads_here_is_well() {
        let here = addresses("127.0.0.1       STREAM x.localhost\n127.0.0.1       DGRAM\n");
        assert_eq!(here.len(), 2);
        let elsewhere = addresses("192.0.2.7 STREAM x\n");
        for judge in [judge_nip, judge_local] {
            assert_eq!(judge(&here).level, Level::Ok);
            assert_eq!(judge(&elsewhere).level, Level::Note);
            assert_eq!(judge(&[]).level, Level::Note);
        }
        assert!(judge_nip(&elsewhere).says.contains("leads to 192.0.2.7"));
    }

    #[test]
    fn what_is_no_address_is_none() {
        assert!(addresses("\nwarning: x\n").is_empty());
    }
}

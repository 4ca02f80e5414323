//! Whether this machine passes packets on, as the cluster's way out wants it.

use std::path::Path;

use anyhow::Result;
use futures_util::FutureExt as _;

use crate::doctor::check::Check;
use crate::doctor::finding::{Finding, Level};
use crate::store;

const NAME: &str = "forwarding";

pub(super) const CHECK: Check = Check {
    name: NAME,
    look: |_| std::future::ready(look()).boxed(),
    mend: None,
};

fn look() -> Result<Vec<Finding>> {
    let text = store::read(Path::new("/proc/sys/net/ipv4/ip_forward"))?;
    Ok(vec![judge(&text.unwrap_or_default())])
}

fn judge(text: &str) -> Finding {
    if text.trim() == "1" {
        return Finding::ok(NAME, "this machine passes packets on");
    }
    Finding::new(
        NAME,
        Level::Note,
        "this machine does not pass packets on (net.ipv4.ip_forward)",
        "nothing has to be done: `comind-ops bootstrap` turns it on",
    )
}

#[cfg(test)]
mod tests {
    use super::judge;
    use crate::doctor::finding::Level;

    #[test]
    fn off_is_a_note() {
        assert_eq!(judge("1\n").level, Level::Ok);
        assert_eq!(judge("0\n").level, Level::Note);
        assert_eq!(judge("").level, Level::Note);
    }
}

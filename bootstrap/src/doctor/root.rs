//! Whether we are root, as a cluster of plain processes wants it.

use std::future::ready;

use futures_util::FutureExt as _;

use crate::doctor::check::Check;
use crate::doctor::finding::{Finding, Level};
use crate::home::is_root;

const NAME: &str = "root";

pub(super) const CHECK: Check = Check {
    name: NAME,
    look: |_| ready(Ok(vec![judge(is_root())])).boxed(),
    mend: None,
};

fn judge(root: bool) -> Finding {
    if root {
        return Finding::ok(NAME, "we are root");
    }
    Finding::new(
        NAME,
        Level::Problem,
        "we are not root, and a cluster of plain processes needs that: it makes networks and mounts",
        "run it as root (sudo); the services alone (`comind-ops up`) do without",
    )
}

#[cfg(test)]
mod tests {
    use super::judge;
    use crate::doctor::finding::Level;

    #[test]
    fn the_cluster_needs_root() {
        assert_eq!(judge(true).level, Level::Ok);
        assert_eq!(judge(false).level, Level::Problem);
    }
}

//! Whether control groups are there, with what the kubelet needs, and let themselves be changed.

use std::path::{Path, PathBuf};

use futures_util::FutureExt as _;
use rustix::fs::{Access, access};

use crate::doctor::check::Check;
use crate::doctor::finding::{Finding, Level};

const NAME: &str = "cgroups";

pub(super) const CHECK: Check = Check {
    name: NAME,
    look: |_| std::future::ready(Ok(vec![judge(&look())])).boxed(),
    mend: None,
};

const ROOT: &str = "/sys/fs/cgroup";

/// The kubelet does not start without them.
const NEEDED: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

#[derive(Debug, Default)]
struct Seen {
    /// One hierarchy for all, or one each.
    unified: bool,
    controllers: Vec<String>,
    /// Where no group can be made.
    refused: Vec<String>,
}

fn look() -> Seen {
    let root = Path::new(ROOT);
    if let Ok(text) = std::fs::read_to_string(root.join("cgroup.controllers")) {
        return Seen {
            unified: true,
            controllers: text.split_whitespace().map(str::to_owned).collect(),
            refused: refused(&[root.to_owned()]),
        };
    }
    let all = hierarchies(root);
    Seen {
        unified: false,
        controllers: all.iter().flat_map(|path| controllers(path)).collect(),
        refused: refused(&all),
    }
}

fn hierarchies(root: &Path) -> Vec<PathBuf> {
    let all = std::fs::read_dir(root).into_iter().flatten().flatten();
    all.map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

/// A hierarchy is called by its controllers, such as `cpu,cpuacct`.
fn controllers(hierarchy: &Path) -> Vec<String> {
    let name = hierarchy.file_name().unwrap_or_default().to_string_lossy();
    name.split(',').map(str::to_owned).collect()
}

fn refused(all: &[PathBuf]) -> Vec<String> {
    all.iter()
        .filter(|path| access(path.as_path(), Access::WRITE_OK).is_err())
        .map(|path| path.display().to_string())
        .collect()
}

fn judge(seen: &Seen) -> Finding {
    let problem = |says: String, fix: &str| Finding::new(NAME, Level::Problem, says, fix);
    if seen.controllers.is_empty() {
        return problem(
            format!("there are no control groups in {ROOT}"),
            "mount them: mount -t cgroup2 none /sys/fs/cgroup; in a container: start it with \
             --privileged --cgroupns=host",
        );
    }
    let there = |name: &&str| seen.controllers.iter().any(|one| one == name);
    let missing: Vec<&str> = NEEDED.into_iter().filter(|name| !there(name)).collect();
    if !missing.is_empty() {
        return problem(
            format!("control groups cannot limit {}", missing.join(", ")),
            "turn that on in the kernel's command line, such as cgroup_enable=memory",
        );
    }
    if !seen.refused.is_empty() {
        return problem(
            format!("no group can be made in {}", seen.refused.join(", ")),
            "run it as root; in a container: start it with --privileged --cgroupns=host",
        );
    }
    let version = if seen.unified { "v2" } else { "v1" };
    Finding::ok(NAME, format!("control groups {version} can be used"))
}

#[cfg(test)]
mod tests {
    use super::{Seen, controllers, judge};
    use crate::doctor::finding::Level;
    use std::path::Path;

    fn seen(controllers: &str) -> Seen {
        Seen {
            unified: true,
            controllers: controllers.split_whitespace().map(str::to_owned).collect(),
            refused: Vec::new(),
        }
    }

    #[test]
    fn all_that_the_kubelet_needs_has_to_be_there_and_writable() {
        let mut whole = seen("cpuset cpu io memory pids");
        assert_eq!(judge(&whole).says, "control groups v2 can be used");
        whole.refused.push("/sys/fs/cgroup".to_owned());
        let finding = judge(&whole);
        assert_eq!(finding.level, Level::Problem);
        assert!(finding.says.ends_with("in /sys/fs/cgroup"), "{finding:?}");
    }

    #[test]
    fn what_lacks_is_named() {
        let finding = judge(&seen("cpuset cpu io"));
        assert_eq!(finding.level, Level::Problem);
        assert!(finding.says.ends_with("memory, pids"), "{finding:?}");
        assert_eq!(judge(&Seen::default()).level, Level::Problem);
    }

    #[test]
    fn a_hierarchy_may_be_that_of_several() {
        let of = controllers(Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(of, ["cpu", "cpuacct"]);
    }
}

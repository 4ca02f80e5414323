//! Where our own files live, and what lies where in there.
//!
//! Knows paths only; must not know what is written into them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// What decides where the home is: parts of the environment, handed in so that the rule is pure.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// `COMIND_HOME` or `--home`.
    pub asked: Option<PathBuf>,
    /// `XDG_STATE_HOME`.
    pub xdg_state_home: Option<PathBuf>,
    /// `HOME`.
    pub user_home: Option<PathBuf>,
    /// Whether we run as root.
    pub root: bool,
}

/// Whether we run as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The directory that holds everything we write.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Home(PathBuf);

impl Home {
    /// Chooses the place: what was asked for; for root `/var/lib/comind-ops`, because servers that
    /// run as another user cannot enter `/root`; for others the XDG state directory.
    ///
    /// # Errors
    /// When nothing says where, or the asked place is not an absolute path.
    pub fn choose(from: &Surroundings) -> Result<Self> {
        let path = if let Some(asked) = &from.asked {
            asked.clone()
        } else if from.root {
            PathBuf::from("/var/lib/comind-ops")
        } else if let Some(state) = &from.xdg_state_home {
            state.join("comind-ops")
        } else if let Some(home) = &from.user_home {
            home.join(".local/state/comind-ops")
        } else {
            bail!("no place for our files: set COMIND_HOME to a directory");
        };
        if path.is_absolute() {
            Ok(Self(path))
        } else {
            let path = std::path::absolute(&path)
                .with_context(|| format!("cannot make {} absolute", path.display()))?;
            Ok(Self(path))
        }
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The settings of the services as they were last set up.
    pub fn settings(&self) -> PathBuf {
        self.0.join("services.yaml")
    }

    /// Which runtime the services were set up with.
    pub fn runtime(&self) -> PathBuf {
        self.0.join("runtime.json")
    }

    /// The collector's configuration that `up` writes.
    pub fn serve_config(&self) -> PathBuf {
        self.0.join("serve.yaml")
    }

    /// Held by whoever changes something here.
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// What is known of one supervised process: unit, pid files, state.
    pub fn run(&self, name: &str) -> PathBuf {
        self.0.join("run").join(name)
    }

    /// What a server keeps.
    pub fn data(&self, name: &str) -> PathBuf {
        self.0.join("data").join(name)
    }

    /// A server's output.
    pub fn log(&self, name: &str) -> PathBuf {
        self.0.join("logs").join(format!("{name}.log"))
    }

    /// Makes the directories. Others may pass through (a server may run as another user), not list.
    ///
    /// # Errors
    /// When a directory cannot be made.
    pub fn create(&self) -> Result<()> {
        use std::os::unix::fs::DirBuilderExt as _;
        for path in [
            self.0.clone(),
            self.0.join("run"),
            self.0.join("data"),
            self.0.join("logs"),
        ] {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o711)
                .create(&path)
                .with_context(|| {
                    format!(
                        "cannot make {}; choose another place with COMIND_HOME",
                        path.display()
                    )
                })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Home, Surroundings};

    fn chosen(from: &Surroundings) -> String {
        Home::choose(from)
            .map(|home| home.path().display().to_string())
            .unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn what_was_asked_for_wins() {
        let from = Surroundings {
            asked: Some("/tmp/x".into()),
            root: true,
            ..Surroundings::default()
        };
        assert_eq!(chosen(&from), "/tmp/x");
    }

    #[test]
    fn root_gets_a_place_that_others_can_enter() {
        let from = Surroundings {
            root: true,
            user_home: Some("/root".into()),
            ..Surroundings::default()
        };
        assert_eq!(chosen(&from), "/var/lib/comind-ops");
    }

    #[test]
    fn others_get_their_state_directory() {
        let mut from = Surroundings {
            user_home: Some("/home/a".into()),
            ..Surroundings::default()
        };
        assert_eq!(chosen(&from), "/home/a/.local/state/comind-ops");
        from.xdg_state_home = Some("/state".into());
        assert_eq!(chosen(&from), "/state/comind-ops");
    }

    #[test]
    fn nothing_known_is_an_error_with_the_way_out() {
        assert!(chosen(&Surroundings::default()).contains("COMIND_HOME"));
    }
}

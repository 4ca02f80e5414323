//! Where programs are: among our own tools, in the distribution's places, in PATH.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Where to look.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    /// Where `make setup` puts tools.
    pub tools: Option<PathBuf>,
    /// The value of PATH.
    pub path: OsString,
}

impl Programs {
    /// From the environment: `COMIND_TOOLS`, or the cache directory; and PATH.
    pub fn from_env() -> Self {
        let dir = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let tools = dir("COMIND_TOOLS").map(PathBuf::from).or_else(|| {
            let cache = dir("XDG_CACHE_HOME")
                .map(PathBuf::from)
                .or_else(|| dir("HOME").map(|home| Path::new(&home).join(".cache")))?;
            Some(cache.join("comind-ops/tools"))
        });
        Self {
            tools,
            path: dir("PATH").unwrap_or_default(),
        }
    }

    /// The program of that name.
    ///
    /// # Errors
    /// With `install` as the way out when it is nowhere.
    pub fn find(&self, name: &str, install: &str) -> Result<PathBuf> {
        let tools = self.tools.iter().map(|tools| tools.join("bin"));
        let usual = ["/usr/local/bin", "/usr/bin", "/usr/sbin"].map(PathBuf::from);
        let found = tools
            .chain(std::env::split_paths(&self.path))
            .chain(usual)
            .map(|dir| dir.join(name))
            .find(|path| executable(path));
        match found {
            Some(path) => Ok(path),
            None => bail!("{name} is not installed; {install}"),
        }
    }

    /// A file among our own tools.
    ///
    /// # Errors
    /// With `install` as the way out when it is not there.
    pub fn file(&self, name: &str, install: &str) -> Result<PathBuf> {
        match self.tools.as_ref().map(|tools| tools.join(name)) {
            Some(path) if path.is_file() => Ok(path),
            _ => bail!("{name} is not installed; {install}"),
        }
    }

    /// The directory with PostgreSQL's server programs; the newest where there are several.
    ///
    /// # Errors
    /// With the way out when there is none.
    pub fn postgresql(&self) -> Result<PathBuf> {
        let debian = std::fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten();
        let newest = debian
            .flatten()
            .filter(|entry| executable(&entry.path().join("bin/postgres")))
            .filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry)))
            .max_by_key(|(major, _)| *major);
        if let Some((_, entry)) = newest {
            return Ok(entry.path().join("bin"));
        }
        let postgres = self.find(
            "postgres",
            "run `make setup`, or: apt-get install postgresql",
        )?;
        Ok(postgres.parent().map(Path::to_owned).unwrap_or_default())
    }

    /// The directory with ElasticMQ's jars.
    ///
    /// # Errors
    /// With the way out when there is none.
    pub fn elasticmq(&self) -> Result<PathBuf> {
        let lib = self.tools.as_ref().map(|tools| tools.join("elasticmq/lib"));
        match lib {
            Some(lib) if lib.is_dir() => Ok(lib),
            Some(lib) => bail!(
                "ElasticMQ is not installed in {}; run `make setup`",
                lib.display()
            ),
            None => bail!("ElasticMQ is nowhere; set COMIND_TOOLS and run `make setup`"),
        }
    }
}

fn executable(path: &Path) -> bool {
    std::fs::metadata(path)
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::Programs;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn our_tools_come_first_and_a_missing_one_says_what_to_do() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let bin = dir.path().join("bin");
        std::fs::create_dir(&bin)?;
        std::fs::write(bin.join("sh"), "")?;
        let programs = Programs {
            tools: Some(dir.path().to_owned()),
            path: "/bin".into(),
        };
        assert_eq!(programs.find("sh", "x")?, std::path::Path::new("/bin/sh"));
        std::fs::set_permissions(bin.join("sh"), std::fs::Permissions::from_mode(0o755))?;
        assert_eq!(programs.find("sh", "x")?, bin.join("sh"));
        let error = programs
            .find("no-such", "install it so")
            .expect_err("there is none");
        assert_eq!(error.to_string(), "no-such is not installed; install it so");
        assert!(programs.elasticmq().is_err());
        Ok(())
    }
}

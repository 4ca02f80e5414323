//! Terraform's program: run in a folder, listened to until it ends.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::event::{Level, Report};
use crate::terraform::says::{Counts, Said, said};

/// A cluster is made in about a minute, on a slow machine in some.
const LIMIT: Duration = Duration::from_secs(1800);
/// So long it waits for another that is at work.
const LOCK: &str = "-lock-timeout=60s";
/// More than any run says; what is said then is not heard.
const MOST: u64 = 64 << 20;
/// More than anybody reads of what it says outside of JSON.
const MOST_ERRORS: u64 = 64 << 10;
/// `plan -detailed-exitcode`: there is something to do.
const CHANGES: i32 = 2;

/// How it is run.
pub(super) struct Terraform {
    pub(super) program: PathBuf,
    /// Its folder: module, variables, state.
    pub(super) dir: PathBuf,
    /// Our own program, for the module.
    pub(super) own: PathBuf,
}

/// What a run came to.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// What is or would be changed.
    pub(super) counts: Counts,
    errors: Vec<String>,
    /// The last failure that our own program told.
    failed: Option<String>,
}

impl Ended {
    /// Takes in a line, and passes on what is to be shown.
    fn hears(&mut self, line: &str, report: &dyn Report) {
        match said(line) {
            Said::Event(event) if event.level == Level::Failed => {
                self.failed = Some(event.message);
            }
            Said::Event(event) => report.report(event),
            Said::Counts(counts) => self.counts = counts,
            Said::Error(words) => self.errors.push(words),
            Said::Nothing => {}
        }
    }

    /// Why it failed: our own words if there are any, since Terraform only says that there were some.
    fn why(&self, errors: &str) -> String {
        match (&self.failed, self.errors.is_empty()) {
            (Some(failed), _) => failed.clone(),
            (None, false) => self.errors.join("; "),
            (None, true) => errors.trim().to_owned(),
        }
    }
}

impl Terraform {
    /// Runs a command that speaks JSON lines.
    pub(super) async fn run(&self, args: &[&str], report: &dyn Report) -> Result<Ended> {
        let what = args.first().copied().unwrap_or_default();
        let mut command = self.command(args);
        command.args(["-json", "-input=false"]);
        if what != "init" {
            command.arg(LOCK);
        }
        let mut child = command.spawn().context("cannot start terraform")?;
        let mut ended = Ended::default();
        let hear = listen(&mut child, |line| ended.hears(line, report));
        let (code, errors) = tokio::time::timeout(LIMIT, hear).await.with_context(|| {
            format!("terraform {what} did not end within {} s", LIMIT.as_secs())
        })??;
        match code {
            Some(0) => Ok(ended),
            Some(CHANGES) if what == "plan" => Ok(ended),
            _ => bail!("terraform {what} failed: {}", ended.why(&errors)),
        }
    }

    /// Runs a command that has one answer.
    pub(super) async fn answer(&self, args: &[&str]) -> Result<String> {
        let what = args.first().copied().unwrap_or_default();
        let mut child = self
            .command(args)
            .spawn()
            .context("cannot start terraform")?;
        let mut answer = String::new();
        let hear = listen(&mut child, |line| {
            answer.push_str(line);
            answer.push('\n');
        });
        let (code, errors) = tokio::time::timeout(LIMIT, hear)
            .await
            .with_context(|| format!("terraform {what} gives no answer"))??;
        if code != Some(0) {
            bail!("terraform {what} failed: {}", errors.trim());
        }
        Ok(answer)
    }

    /// The program with nothing of its user's settings, which are for other modules.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TF_") {
                command.env_remove(&name);
            }
        }
        command
            .args(args)
            .current_dir(&self.dir)
            .env("TF_CLI_CONFIG_FILE", "/dev/null")
            .env("TF_IN_AUTOMATION", "1")
            .env("CHECKPOINT_DISABLE", "1")
            .env("COMIND_OPS", &self.own)
            .env("COMIND_OPS_SAYS", "--json")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}

/// Hears a program out; gives its exit code and what it said beside.
async fn listen(child: &mut Child, mut heard: impl FnMut(&str)) -> Result<(Option<i32>, String)> {
    let out = child.stdout.take().context("its output was asked for")?;
    let err = child.stderr.take().context("its errors were asked for")?;
    let lines = async {
        let mut lines = BufReader::new(out.take(MOST)).split(b'\n');
        while let Some(line) = lines.next_segment().await? {
            heard(&String::from_utf8_lossy(&line));
        }
        Ok::<_, std::io::Error>(())
    };
    let (lines, errors) = tokio::join!(lines, beginning(err));
    lines.context("what terraform says cannot be read")?;
    let status = child.wait().await.context("terraform's end is not known")?;
    Ok((status.code(), errors))
}

/// The beginning of a stream; the rest is taken from it too, or its writer would wait.
async fn beginning(mut from: impl AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    // What cannot be read is not there.
    let _ = (&mut from).take(MOST_ERRORS).read_to_end(&mut kept).await;
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Mutex;

    use super::*;
    use crate::event::Event;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Report for Heard {
        fn report(&self, event: Event) {
            self.0.lock().expect("one thread").push(event.message);
        }
    }

    /// Something that says lines as Terraform does.
    fn saying(dir: &std::path::Path, script: &str) -> Result<Terraform> {
        let program = dir.join("says");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n"))?;
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
        Ok(Terraform {
            program,
            dir: dir.to_owned(),
            own: "/bin/false".into(),
        })
    }

    #[tokio::test]
    async fn our_own_failure_is_the_reason_and_is_told_once() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let ours = r#"{\"level\":\"failed\",\"message\":\"port 6443 is taken\"}"#;
        let script = format!(
            "cat <<'E'\n{{\"type\":\"provision_progress\",\"hook\":{{\"output\":\"{ours}\"}}}}\n{{\"type\":\"diagnostic\",\"diagnostic\":{{\"severity\":\"error\",\"summary\":\"local-exec provisioner error\"}}}}\nE\nexit 1"
        );
        let heard = Heard::default();
        let ended = saying(dir.path(), &script)?.run(&["apply"], &heard).await;
        let error = ended.expect_err("it failed").to_string();
        assert_eq!(error, "terraform apply failed: port 6443 is taken");
        assert!(heard.0.lock().expect("one thread").is_empty());
        Ok(())
    }

    #[tokio::test]
    async fn a_plan_with_changes_is_no_failure_and_settings_of_others_are_gone() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let script = r#"echo "$TF_CLI_CONFIG_FILE $COMIND_OPS"; echo '{"type":"change_summary","changes":{"add":1}}'; echo odd >&2; exit 2"#;
        let terraform = saying(dir.path(), script)?;
        let heard = Heard::default();
        let ended = terraform.run(&["plan"], &heard).await?;
        assert_eq!(ended.counts.add, 1);
        assert_eq!(
            *heard.0.lock().expect("one thread"),
            ["/dev/null /bin/false"]
        );
        let error = terraform
            .run(&["apply"], &heard)
            .await
            .expect_err("2 is a failure");
        assert_eq!(error.to_string(), "terraform apply failed: odd");
        Ok(())
    }
}

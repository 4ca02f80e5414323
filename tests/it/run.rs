//! `tests/run`: why tests failed stands at the end of what they print.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Result, ensure};
use tokio::process::Command;

use crate::ops::{Done, finish};

const PRINTED: &str = "
running 3 tests
test page::fine ... ok
test page::opens ... FAILED
test clock::strikes ... FAILED

failures:

---- page::opens stdout ----
Error: gave up waiting for the page

Caused by:
    refused

Stack backtrace:
   0: anyhow::error::new
             at /registry/anyhow/src/lib.rs:10:14
   1: {async_fn#0}
             at ./tests/it/page.rs:12:5

---- clock::strikes stdout ----
one
two
three
four
five, of the middle
six
seven
eight
nine
ten
eleven
twelve
thirteen
fourteen
fifteen
sixteen
seventeen
eighteen
thread 'clock::strikes' panicked at tests/it/clock.rs:7:9:


failures:
    page::opens
    clock::strikes

test result: FAILED. 1 passed; 2 failed
";

const REASONS: &str = "
Why tests failed:

page::opens
    Error: gave up waiting for the page
    Caused by:
        refused
    ./tests/it/page.rs:12:5

clock::strikes
    one
    two
    three
    four
    […]
    six
    seven
    eight
    nine
    ten
    eleven
    twelve
    thirteen
    fourteen
    fifteen
    sixteen
    seventeen
    eighteen
    thread 'clock::strikes' panicked at tests/it/clock.rs:7:9:
";

/// `tests/run` with a stand-in for Cargo that prints this and ends so.
async fn run(printed: &str, code: i32) -> Result<Done> {
    let dir = tempfile::tempdir()?;
    let cargo = dir.path().join("cargo");
    let script = format!(
        "#!/bin/sh\n[ \"$*\" = 'test --workspace' ] || exit 9\ncat <<'END'\n{printed}END\nexit {code}\n"
    );
    std::fs::write(&cargo, script)?;
    std::fs::set_permissions(&cargo, std::fs::Permissions::from_mode(0o755))?;
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run");
    let mut command = Command::new(program);
    command.arg("--workspace").env("CARGO", &cargo);
    finish(command).await
}

#[tokio::test]
async fn reasons_of_failures_come_last_and_shortened() -> Result<()> {
    let failed = run(PRINTED, 101).await?;
    ensure!(failed.code == 101, "{}", failed.said());
    let (printed, reasons) = failed.out.split_at(PRINTED.len());
    ensure!(printed == PRINTED, "{printed}");
    ensure!(reasons == REASONS, "{reasons}");
    Ok(())
}

#[tokio::test]
async fn of_many_failures_the_last_are_only_named() -> Result<()> {
    let one = |n: usize| format!("---- many::number_{n} stdout ----\nError: number {n}\n\n");
    let printed: String = (0..14).map(one).collect();
    let failed = run(&format!("failures:\n\n{printed}\nfailures:\n"), 101).await?;
    let (_, reasons) = failed
        .out
        .split_at(failed.out.find("Why tests failed").unwrap_or(0));
    ensure!(reasons.contains("Error: number 11"), "{reasons}");
    ensure!(reasons.contains("many::number_13"), "{reasons}");
    ensure!(!reasons.contains("Error: number 12"), "{reasons}");
    Ok(())
}

#[tokio::test]
async fn when_all_is_well_nothing_is_added() -> Result<()> {
    let well = run("test result: ok. 1 passed\n", 0).await?;
    ensure!(well.code == 0, "{}", well.said());
    ensure!(well.out == "test result: ok. 1 passed\n", "{}", well.out);
    Ok(())
}

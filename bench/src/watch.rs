//! How soon a change in the Kubernetes API is an event of ours: 1,000 applications of Argo CD in a
//! real kube-apiserver, beside a bare watch of the same API; then the API server is killed and
//! started again, and what was changed meanwhile has to be known.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use comind_peers::kube::KubeApi;
use comind_peers::wait::wait_for;
use tokio::time::timeout;

use crate::figures::{self, Samples, cell, ratio, say};
use crate::subject::{Subject, told};

const APPLICATIONS: usize = 1000;
const CHANGES: usize = 300;
const RESTARTS: usize = 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// The generator splitmix64 (Steele, Lea, Flood 2014).
fn dice(seed: &mut u64, limit: usize) -> usize {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *seed;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) % limit as u64) as usize
}

fn name(place: usize) -> String {
    format!("app-{place}")
}

/// Runs it and prints.
pub(crate) async fn run() -> Result<()> {
    let mut api = KubeApi::start().await?;
    api.define_argocd().await?;
    api.make_namespace("argocd").await?;
    let item = format!(
        "{{ name: argocd, kind: argocd, kubeconfig: {}, interval: 1s, timeout: 1s, require: [\"*\"] }}",
        api.kubeconfig().display()
    );
    let subject = Subject::start(std::slice::from_ref(&item)).await?;
    let empty = resident(&subject)?;
    say(&format!("makes {APPLICATIONS} applications"));
    for place in 0..APPLICATIONS {
        api.make_application(&name(place), "{}").await?;
        api.set_application(&name(place), "Synced", "Healthy")
            .await?;
    }
    until_all(&subject, &HashMap::new()).await?;
    let full = resident(&subject)?;
    let (ours, theirs) = changes(&api, &subject).await?;
    let missed = restarts(&mut api, &subject).await?;
    figures::print(
        "From the answer to a change of an application until it is told, in ms: our event, beside a bare watch",
        &[
            "n",
            "ours p50",
            "p99",
            "max",
            "watch p50",
            "p99",
            "max",
            "ours/watch p50",
        ],
        &[vec![
            ours.len().to_string(),
            cell(ours.p50()),
            cell(ours.p99()),
            cell(ours.max()),
            cell(theirs.p50()),
            cell(theirs.p99()),
            cell(theirs.max()),
            ratio(ours.p50(), theirs.p50()),
        ]],
    );
    say(&format!(
        "memory: {empty:.1} MiB without applications, {full:.1} MiB with {APPLICATIONS}, {:.1} MiB after all",
        resident(&subject)?
    ));
    say(&format!(
        "{RESTARTS} kills of the API server: {missed} final states missed"
    ));
    ensure!(missed == 0, "final states were missed");
    Ok(())
}

/// Our delay and that of a bare watch, each from the moment at which the change is sent.
async fn changes(api: &KubeApi, subject: &Subject) -> Result<(Samples, Samples)> {
    say(&format!("{CHANGES} changes"));
    let mut events = subject.listen().await?;
    let mut bare = api.watch_applications().await?;
    let (mut ours, mut theirs) = (Samples::default(), Samples::default());
    let mut seed = 7;
    let mut degraded = vec![false; APPLICATIONS];
    for _ in 0..CHANGES {
        let place = dice(&mut seed, APPLICATIONS);
        degraded[place] = !degraded[place];
        let (health, to) = match degraded[place] {
            true => ("Degraded", "down"),
            false => ("Healthy", "up"),
        };
        let name = name(place);
        let target = format!("argocd/{name}");
        let sent = Instant::now();
        let change = api.set_application(&name, "Synced", health);
        let seen = async {
            let seen = timeout(PATIENCE, bare.changed(&name)).await;
            seen.context("the bare watch said nothing")?
        };
        let ((), our, their) = tokio::try_join!(change, told(&mut events, &target, to), seen)?;
        ours.push_ms(our - sent);
        theirs.push_ms(their - sent);
    }
    for place in (0..APPLICATIONS).filter(|place| degraded[*place]) {
        api.set_application(&name(place), "Synced", "Healthy")
            .await?;
    }
    until_all(subject, &HashMap::new()).await?;
    Ok((ours, theirs))
}

/// Kills the API server at random moments while statuses change; how many final states are
/// wrong in the end.
async fn restarts(api: &mut KubeApi, subject: &Subject) -> Result<usize> {
    let mut seed = 11;
    let mut final_states: HashMap<String, &str> = HashMap::new();
    for round in 0..RESTARTS {
        for _ in 0..=dice(&mut seed, 20) {
            let place = dice(&mut seed, APPLICATIONS);
            let (health, shown) = [("Degraded", "down"), ("Healthy", "up")][dice(&mut seed, 2)];
            api.set_application(&name(place), "Synced", health).await?;
            final_states.insert(format!("argocd/{}", name(place)), shown);
        }
        api.kill()?;
        let any = format!("argocd/{}", name(dice(&mut seed, APPLICATIONS)));
        subject.until(&any, "unknown").await?;
        api.restart().await?;
        if round % 5 == 4 {
            say(&format!("{} kills", round + 1));
        }
    }
    Ok(until_all(subject, &final_states).await.map_or(1, |()| 0))
}

/// Waits until every application is as it should be: up, unless `states` says otherwise.
async fn until_all(subject: &Subject, states: &HashMap<String, &str>) -> Result<()> {
    wait_for("all applications", PATIENCE, async || {
        let state = subject.state().await?;
        let targets = state["targets"].as_array().context("no targets")?;
        let parts: Vec<_> = targets
            .iter()
            .filter(|target| target["parent"] == "argocd")
            .collect();
        ensure!(parts.len() == APPLICATIONS, "{} are there", parts.len());
        for part in parts {
            let name = part["name"].as_str().unwrap_or_default();
            let wanted = states.get(name).copied().unwrap_or("up");
            if part["health"] != wanted {
                bail!("{name} is {}, not {wanted}", part["health"]);
            }
        }
        Ok(())
    })
    .await
}

/// Resident memory in MiB.
fn resident(subject: &Subject) -> Result<f64> {
    let process = procfs::process::Process::new(i32::try_from(subject.pid())?)?;
    let kib = process.status()?.vmrss.context("no VmRSS in /proc")?;
    Ok(kib as f64 / 1024.0)
}

//! Two replicas on a real kube-apiserver: one of them tells, and if it goes the other does.
//!
//! `COMIND_LEASE_KILLS` says how often the leader is killed (3).

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use comind_peers::kube::KubeApi;
use comind_peers::redis::Redis;
use comind_peers::wait::wait_for;
use rustix::process::Signal;

use crate::receiver::Receiver;
use crate::serve::{LATER, SOON, Serve, value};

/// The lease lasts 6 s; then somebody has to look at it, and a machine may be slow.
const TAKEN: Duration = Duration::from_secs(20);

fn config(receiver: &Receiver, redis: &Redis) -> String {
    format!(
        "api: {{ listen: \"LISTEN\" }}\ndata_dir: DATA\ndefaults: {{ interval: 500ms, timeout: 1s }}\n\
         notify: {{ webhooks: [\"http://{}/\"] }}\ntargets:\n  \
         - {{ name: cache, kind: redis, required: true, url: \"{}\" }}\n",
        receiver.addr(),
        redis.url()
    )
}

async fn leads(serve: &Serve) -> Result<bool> {
    let text = serve.get("/metrics").await?;
    Ok(value(&text, "comind_leader", &[]).context("no comind_leader")? > 0.0)
}

async fn until_leads(serve: &Serve) -> Result<()> {
    let waited = wait_for("it to lead", TAKEN, async || {
        ensure!(leads(serve).await?, "it does not");
        Ok(())
    });
    waited.await.map_err(|error| serve.blame(error))
}

/// Two replicas, of which the first leads.
async fn pair(api: &KubeApi, config: &str) -> Result<[Serve; 2]> {
    let first = Serve::start_leased(config, api.kubeconfig()).await?;
    until_leads(&first).await?;
    let second = Serve::start_leased(config, api.kubeconfig()).await?;
    for serve in [&first, &second] {
        serve.until_up("cache").await?;
    }
    ensure!(!leads(&second).await?, "both lead");
    Ok([first, second])
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tells_and_hands_over_when_it_ends_or_hangs() -> Result<()> {
    let api = KubeApi::start().await?;
    let (receiver, redis) = (Receiver::start().await?, Redis::start().await?);
    let [mut first, second] = pair(&api, &config(&receiver, &redis)).await?;
    // Told to end, it hands over at once, not when the lease runs out.
    first.stop()?;
    let released = wait_for("the other to lead", Duration::from_secs(5), async || {
        ensure!(leads(&second).await?, "it does not");
        Ok(())
    });
    released.await.map_err(|error| second.blame(error))?;

    // Suspended, it loses the lease, and says so itself when it goes on.
    first.start_again().await?;
    first.until_up("cache").await?;
    second.signal(Signal::STOP)?;
    until_leads(&first).await?;
    second.signal(Signal::CONT)?;
    wait_for("the suspended one to notice", SOON, async || {
        ensure!(!leads(&second).await?, "it still leads");
        Ok(())
    })
    .await?;
    ensure!(leads(&first).await?, "nobody leads");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_api_server_nobody_tells_and_with_it_somebody_does() -> Result<()> {
    let mut api = KubeApi::start().await?;
    let (receiver, redis) = (Receiver::start().await?, Redis::start().await?);
    let serve = Serve::start_leased(&config(&receiver, &redis), api.kubeconfig()).await?;
    until_leads(&serve).await?;
    api.kill()?;
    let given_up = wait_for("it to give up", TAKEN, async || {
        ensure!(!leads(&serve).await?, "it still leads");
        Ok(())
    });
    given_up.await.map_err(|error| serve.blame(error))?;
    api.restart().await?;
    until_leads(&serve).await
}

/// The leader is killed in the middle of an outage, again and again: each outage begins once and
/// ends once for whoever listens, whichever replica tells.
#[tokio::test(flavor = "multi_thread")]
async fn every_outage_is_told_once_while_leaders_are_killed() -> Result<()> {
    let kills = std::env::var("COMIND_LEASE_KILLS")
        .ok()
        .and_then(|text| text.parse().ok());
    let kills: usize = kills.unwrap_or(3);
    let api = KubeApi::start().await?;
    let (receiver, mut redis) = (Receiver::start().await?, Redis::start().await?);
    let mut replicas = pair(&api, &config(&receiver, &redis)).await?;
    let mut leader = 0;
    for round in 0..kills {
        redis.kill()?;
        receiver.until(2 * round + 1, LATER).await?;
        // What was told stands in the lease a moment later.
        let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/comind-ops";
        wait_for("the lease to say what was told", SOON, async || {
            let lease = api.request(http::Method::GET, path, "").await?;
            ensure!(lease.contains("RequiredServiceDown"), "{lease}");
            Ok(())
        })
        .await?;
        replicas[leader].kill()?;
        // Half of the times it ends while nobody tells, half of the times under the new leader.
        if round % 2 == 0 {
            redis.restart().await?;
        }
        leader = 1 - leader;
        until_leads(&replicas[leader]).await?;
        if round % 2 == 1 {
            redis.restart().await?;
        }
        receiver.until(2 * round + 2, LATER).await?;
        replicas[1 - leader].start_again().await?;
        for replica in &replicas {
            replica.until_up("cache").await?;
        }
    }
    let mut told: HashMap<String, Vec<String>> = HashMap::new();
    for posted in receiver.posted() {
        let json = posted.json();
        let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        told.entry(word(&json["alert"]["id"]))
            .or_default()
            .push(word(&json["status"]));
    }
    ensure!(told.len() == kills, "{told:?}");
    ensure!(
        told.values().all(|of| of == &["firing", "resolved"]),
        "{told:?}"
    );
    Ok(())
}

//! `comind-ops access` while things break: a pod is deleted, the network is cut or resets, the API server
//! is killed, the machine sleeps, its clock is set. Each time WebSockets, streams of events and downloads to
//! each pod are under way, and 200 clients ask small things. `COMIND_CHAOS=full` makes the download 1 GB, and
//! waits for a download whose pod dies while nobody reads it.
//!
//! What holds each time: no small request fails; what breaks does so in a way that its client can tell; what
//! is not touched by the fault goes on; a download ends with the right bytes.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use comind_peers::port::Port;
use comind_peers::wait::wait_for;

use super::access::Access;
use super::cluster::Cluster;
use super::cut::{Cut, How};
use super::streams::{At, Crowd, Download, Stream};
use crate::clock::Clock;
use crate::serve::{LATER, SOON};

/// Clients that ask small things.
pub(super) const CLIENTS: usize = 200;
/// Longer than any sign of life is waited for: 5 s until a tunnel is asked, 15 s for its answer.
const AWAY: Duration = Duration::from_secs(22);

/// What a network may be away without anybody's noticing.
const SHORT: Duration = Duration::from_secs(2);

/// Whether what takes minutes is tested too.
fn full() -> bool {
    std::env::var("COMIND_CHAOS").as_deref() == Ok("full")
}

/// How large the download is.
fn size() -> u64 {
    match full() {
        true => 1024 * 1024 * 1024,
        false => 64 * 1024 * 1024,
    }
}

/// One of each kind of stream to each of the pods, and the crowd.
struct UnderWay {
    at: At,
    streams: Vec<Stream>,
    downloads: Vec<Download>,
    crowd: Crowd,
}

impl UnderWay {
    async fn begin(access: &Access, cluster: &Cluster) -> Result<Self> {
        let at = At(access.port.addr());
        let mut this = Self {
            at,
            streams: Vec::new(),
            downloads: Vec::new(),
            crowd: Crowd::start(at, CLIENTS),
        };
        this.crowd.a_round().await?;
        for pod in cluster.pods().await? {
            // Which pod is asked is drawn: again, where it was the other one.
            let what = format!("streams to {pod}");
            let websocket = wait_for(&what, LATER, async || {
                let one = Stream::websocket(at).await?;
                ensure!(one.pod == pod, "the other pod");
                Ok(one)
            });
            let websocket = websocket.await?;
            let events = wait_for(&what, LATER, async || {
                let one = Stream::events(at).await?;
                ensure!(one.pod == pod, "the other pod");
                Ok(one)
            });
            let events = events.await?;
            let download = wait_for(&what, LATER, async || {
                let one = Download::begin(at, size()).await?;
                ensure!(one.pod == pod, "the other pod");
                Ok(one)
            });
            let mut download = download.await?;
            download.in_the_midst().await?;
            this.downloads.push(download);
            this.streams.extend([websocket, events]);
        }
        this.all_go_on().await?;
        Ok(this)
    }

    async fn all_go_on(&mut self) -> Result<()> {
        for stream in &mut self.streams {
            stream.goes_on().await?;
        }
        Ok(())
    }

    async fn all_break(&mut self) -> Result<()> {
        for stream in self.streams.drain(..) {
            stream.breaks().await?;
        }
        Ok(())
    }

    /// Downloads and small requests come to their end. How often each download broke off, with its pod.
    async fn end(mut self) -> Result<Vec<(String, u32)>> {
        let mut broke = Vec::new();
        for download in self.downloads {
            let pod = download.pod.clone();
            broke.push((pod, download.end().await?));
        }
        self.crowd.a_round().await?;
        let asked = self.crowd.end().await?;
        ensure!(asked >= CLIENTS, "only {asked} small requests");
        // And from here on all is as before.
        Stream::websocket(self.at).await?.goes_on().await?;
        Ok(broke)
    }
}

pub(super) async fn nothing_is_lost(cluster: &Cluster) -> Result<()> {
    let nobody = Port::free()?;
    let access = Access::start(cluster, &nobody, &[], &[])?;
    access.until("web", &"tunnel".into()).await?;
    let done = a_pod_is_deleted(&access, cluster).await;
    done.context("a pod is deleted")?;
    let done = connections_are_reset(&access, cluster).await;
    done.context("connections are reset")?;
    let done = a_long_silence_awake_and_asleep(&access, cluster, &nobody).await;
    done.context("a long silence")?;
    let done = the_api_server_is_killed(&access, cluster).await;
    done.context("the API server is killed")?;
    let done = a_short_silence_and_a_clock_that_is_set(cluster, &nobody).await;
    done.context("a short silence, and a clock that is set")
}

/// Streams to another pod are not touched; those to it break; its download goes on elsewhere.
async fn a_pod_is_deleted(access: &Access, cluster: &Cluster) -> Result<()> {
    let mut under_way = UnderWay::begin(access, cluster).await?;
    let victim = cluster.pods().await?.swap_remove(0);
    if !full() {
        // Of a connection that rests in the kubelet nothing is heard when its pod dies: it is given up
        // after a minute of silence.
        under_way.downloads.retain(|one| one.pod != victim);
    }
    cluster
        .ask(&["delete", "pod", &victim, "--wait=false"])
        .await?;
    let mut others = Vec::new();
    for stream in under_way.streams.drain(..) {
        match stream.pod == victim {
            true => stream.breaks().await?,
            false => others.push(stream),
        }
    }
    under_way.streams = others;
    ensure!(!under_way.streams.is_empty());
    under_way.all_go_on().await?;
    cluster.rolled_out().await?;
    for (pod, broke) in under_way.end().await? {
        ensure!(
            (broke > 0) == (pod == victim),
            "the download from {pod} broke off {broke} times, and {victim} was deleted"
        );
    }
    Ok(())
}

/// All breaks at once on which something is said, and nothing but streams is lost. A download that rests
/// meanwhile need not notice.
async fn connections_are_reset(access: &Access, cluster: &Cluster) -> Result<()> {
    let mut under_way = UnderWay::begin(access, cluster).await?;
    let cut = Cut::make(cluster, How::Reset)?;
    under_way.all_break().await?;
    drop(cut);
    under_way.end().await.map(drop)
}

/// Who is awake learns that nobody is there any more. Who slept meanwhile, and whose network is back when
/// it wakes, goes on where it was.
async fn a_long_silence_awake_and_asleep(
    access: &Access,
    cluster: &Cluster,
    nobody: &Port,
) -> Result<()> {
    let sleeper = Access::start(cluster, nobody, &[], &[])?;
    sleeper.until("web", &"tunnel".into()).await?;
    let mut awake = UnderWay::begin(access, cluster).await?;
    let mut asleep = UnderWay::begin(&sleeper, cluster).await?;
    sleeper.process.stop_signal()?;
    let cut = Cut::make(cluster, How::Silent)?;
    // This is what is tested: that so much time has passed.
    tokio::time::sleep(AWAY).await;
    drop(cut);
    sleeper.process.continue_signal()?;
    awake.all_break().await?;
    awake.end().await?;
    asleep.all_go_on().await?;
    for (pod, broke) in asleep.end().await? {
        ensure!(broke == 0, "the download from {pod} broke off by sleep");
    }
    Ok(())
}

/// All tunnels lead through it, so all streams break, at once; requests wait for the next one.
async fn the_api_server_is_killed(access: &Access, cluster: &Cluster) -> Result<()> {
    let mut under_way = UnderWay::begin(access, cluster).await?;
    let before = cluster.kill_api_server().await?;
    under_way.all_break().await?;
    cluster.another_api_server(&before).await?;
    for (pod, broke) in under_way.end().await? {
        ensure!(broke > 0, "the download from {pod} did not break off");
    }
    Ok(())
}

/// Neither the network's short silence nor a wall clock that is set forward and back is noticed by what is
/// under way. The session's own time is over by whichever clock went further.
async fn a_short_silence_and_a_clock_that_is_set(cluster: &Cluster, nobody: &Port) -> Result<()> {
    let clock = Clock::new(cluster.ops.dir())?;
    let mut access = Access::start(cluster, nobody, &["--ttl", "8h"], &clock.env()?)?;
    access.until("web", &"tunnel".into()).await?;
    let mut under_way = UnderWay::begin(&access, cluster).await?;
    for to in ["+3h", "+0", "+7h"] {
        clock.set(to)?;
        under_way.all_go_on().await?;
        under_way.crowd.a_round().await?;
    }
    let cut = Cut::make(cluster, How::Silent)?;
    tokio::time::sleep(SHORT).await;
    drop(cut);
    under_way.all_go_on().await?;
    for (pod, broke) in under_way.end().await? {
        ensure!(broke == 0, "the download from {pod} broke off");
    }
    // A night's sleep: its time is over when it wakes.
    clock.set("+9h")?;
    let ended = wait_for("its end", SOON, async || {
        access.process.exited()?.context("it goes on")
    });
    let ended = ended.await?;
    let log = access.process.log_tail();
    ensure!(ended.success(), "{ended}: {log}");
    ensure!(log.contains("closed: its time is over"), "{log}");
    Ok(())
}

//! What is under way while something breaks: WebSockets, Server-Sent Events, a download, many small
//! requests. Each notes how far it came and how it ended, as its client saw it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

/// Whatever a fault does to a stream, its client knows after this long at the latest.
pub(super) const KNOWN: Duration = Duration::from_secs(90);
/// How often a WebSocket speaks.
const SPEAKS: Duration = Duration::from_millis(50);

/// Where is asked: `access`, at the host of `web`.
#[derive(Clone, Copy)]
pub(super) struct At(pub(super) SocketAddr);

impl At {
    fn host(self) -> String {
        format!("web.localhost:{}", self.0.port())
    }

    async fn get(self, path: &str, headers: &[(&str, &str)]) -> Result<Response<Incoming>> {
        let stream = TcpStream::connect(self.0).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut request = Request::get(path).header("host", self.host());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok(sender
            .send_request(request.body(Empty::<Bytes>::new())?)
            .await?)
    }
}

/// A stream that would never end by itself.
pub(super) struct Stream {
    what: &'static str,
    /// Who is at its other end.
    pub(super) pod: String,
    came: watch::Receiver<u64>,
    task: JoinHandle<Result<String>>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn pod(headers: &HeaderMap) -> Result<String> {
    let pod = headers.get("x-pod").context("nobody says who it is")?;
    Ok(pod.to_str()?.to_owned())
}

impl Stream {
    /// A WebSocket on which something is said all the time, and has to come back.
    pub(super) async fn websocket(at: At) -> Result<Self> {
        let stream = TcpStream::connect(at.0).await?;
        stream.set_nodelay(true)?;
        let (mut socket, answer) = client_async(format!("ws://{}/chat", at.host()), stream).await?;
        let (tell, came) = watch::channel(0);
        let task = tokio::spawn(async move {
            let mut turns = interval(SPEAKS);
            for number in 0_u64.. {
                turns.tick().await;
                let said = Message::text(number.to_string());
                if let Err(error) = socket.send(said.clone()).await {
                    return Ok(format!("cannot be written: {error}"));
                }
                match socket.next().await {
                    Some(Ok(heard)) if heard == said => tell.send_replace(number + 1),
                    Some(Ok(Message::Close(_))) => return Ok("closed".to_owned()),
                    Some(Ok(other)) => bail!("{other:?} in place of {said:?}"),
                    Some(Err(error)) => return Ok(format!("broke: {error}")),
                    None => return Ok("ended".to_owned()),
                };
            }
            bail!("numbers are used up")
        });
        Ok(Self {
            what: "WebSocket",
            pod: pod(answer.headers())?,
            came,
            task,
        })
    }

    /// Events with numbers, of which none may be missing.
    pub(super) async fn events(at: At) -> Result<Self> {
        let answer = at
            .get("/events", &[("accept", "text/event-stream")])
            .await?;
        let pod = pod(answer.headers())?;
        ensure!(answer.status() == 200, "{}", answer.status());
        let (tell, came) = watch::channel(0);
        let mut body = answer.into_body();
        let task = tokio::spawn(async move {
            let mut text = String::new();
            while let Some(frame) = body.frame().await {
                let frame = match frame {
                    Ok(frame) => frame,
                    Err(error) => return Ok(format!("broke: {error}")),
                };
                text.push_str(std::str::from_utf8(frame.data_ref().context("trailers")?)?);
                while let Some((event, rest)) = text.split_once("\n\n") {
                    let number = *tell.borrow();
                    ensure!(event == format!("data: {number}"), "{event} after {number}");
                    tell.send_replace(number + 1);
                    text = rest.to_owned();
                }
            }
            bail!("the events ended as if that were all")
        });
        Ok(Self {
            what: "stream of events",
            pod,
            came,
            task,
        })
    }

    /// It ends, soon enough, and so that its client can tell.
    pub(super) async fn breaks(mut self) -> Result<()> {
        let name = format!("{} to {}", self.what, self.pod);
        let ended = timeout(KNOWN, &mut self.task).await;
        let ended = ended.with_context(|| format!("the {name} hangs"))?;
        ended?.with_context(|| name).map(drop)
    }

    /// It is the same one still, and something comes on it.
    pub(super) async fn goes_on(&mut self) -> Result<()> {
        let name = format!("{} to {}", self.what, self.pod);
        let before = *self.came.borrow_and_update();
        let more = self.came.wait_for(|came| *came > before + 2);
        match timeout(KNOWN, more).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => bail!("the {name} has ended: {:?}", (&mut self.task).await?),
            Err(_) => bail!("nothing comes on the {name}"),
        }
    }
}

/// A download that goes on where it broke off, by Range.
pub(super) struct Download {
    /// Who was asked first.
    pub(super) pod: String,
    go_on: watch::Sender<bool>,
    waits: watch::Receiver<bool>,
    task: JoinHandle<Result<u32>>,
}

impl Drop for Download {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Download {
    /// Begins.
    pub(super) async fn begin(at: At, size: u64) -> Result<Self> {
        let first = at.get(&format!("/file?n={size}"), &[]).await?;
        ensure!(first.status() == 200, "{}", first.status());
        let pod = pod(first.headers())?;
        let (go_on, goes) = watch::channel(false);
        let (tell, waits) = watch::channel(false);
        let task = tokio::spawn(whole(at, size, first, goes, tell));
        Ok(Self {
            pod,
            go_on,
            waits,
            task,
        })
    }

    /// Until it has come to its midst, where it waits.
    pub(super) async fn in_the_midst(&mut self) -> Result<()> {
        let reached = timeout(KNOWN, self.waits.wait_for(|waits| *waits)).await;
        reached.context("the download does not get on")??;
        Ok(())
    }

    /// Lets it go on to its end. How often it broke off; an error where what came is not the file.
    pub(super) async fn end(mut self) -> Result<u32> {
        self.go_on.send_replace(true);
        let ended = timeout(4 * KNOWN, &mut self.task).await;
        ended.context("the download hangs")??
    }
}

async fn whole(
    at: At,
    size: u64,
    mut answer: Response<Incoming>,
    mut goes: watch::Receiver<bool>,
    waits: watch::Sender<bool>,
) -> Result<u32> {
    let (mut came, mut broke) = (0, 0);
    loop {
        let mut body = answer.into_body();
        loop {
            if came > size / 8 {
                waits.send_replace(true);
                goes.wait_for(|goes| *goes).await?;
            }
            let next = timeout(KNOWN, body.frame()).await;
            match next.with_context(|| format!("nothing more comes after {came} bytes"))? {
                Some(Ok(frame)) => {
                    let data = frame.data_ref().context("trailers")?;
                    ensure!(is_file(came, data), "wrong bytes after {came}");
                    came += data.len() as u64;
                }
                Some(Err(_)) => break,
                None if came == size => return Ok(broke),
                None => bail!("it ended after {came} bytes as if that were all"),
            }
        }
        broke += 1;
        let range = format!("bytes={came}-");
        answer = at
            .get(&format!("/file?n={size}"), &[("range", &range)])
            .await?;
        ensure!(answer.status() == 206, "{} for {range}", answer.status());
    }
}

/// Whether these bytes are the file's from there on: each line of 16 is the number of its first byte.
fn is_file(at: u64, data: &[u8]) -> bool {
    let inside = usize::try_from(at % 16).unwrap_or_default();
    let (mut line, mut rest, mut skip) = (at - at % 16, data, inside);
    while !rest.is_empty() {
        let wanted = format!("{line:016}");
        let wanted = &wanted.as_bytes()[skip..];
        let length = wanted.len().min(rest.len());
        if rest[..length] != wanted[..length] {
            return false;
        }
        (line, rest, skip) = (line + 16, &rest[length..], 0);
    }
    true
}

/// Small requests that may be repeated, from as many clients at once; none may fail.
pub(super) struct Crowd {
    stop: CancellationToken,
    clients: Vec<JoinHandle<Result<usize>>>,
    answered: watch::Receiver<usize>,
}

impl Crowd {
    pub(super) fn start(at: At, clients: usize) -> Self {
        let stop = CancellationToken::new();
        let (tell, answered) = watch::channel(0);
        let one = |_| tokio::spawn(keep_asking(at, stop.clone(), tell.clone()));
        Self {
            clients: (0..clients).map(one).collect(),
            stop,
            answered,
        }
    }

    /// Waits until so many more have been answered as there are clients.
    pub(super) async fn a_round(&mut self) -> Result<()> {
        let wanted = *self.answered.borrow() + self.clients.len();
        let come = self.answered.wait_for(|answered| *answered >= wanted);
        match timeout(2 * KNOWN, come).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(_)) => {}
            Err(_) => bail!("small requests are not answered"),
        }
        // All have ended, and each says why.
        for client in self.clients.drain(..) {
            client.await??;
        }
        bail!("nobody asks any more")
    }

    /// How many were answered; an error if one was not.
    pub(super) async fn end(self) -> Result<usize> {
        self.stop.cancel();
        let mut all = 0;
        for client in self.clients {
            all += client.await??;
        }
        Ok(all)
    }
}

/// Once a second: so that what is tested is not how fast this machine is.
async fn keep_asking(
    at: At,
    stop: CancellationToken,
    answered: watch::Sender<usize>,
) -> Result<usize> {
    let mut turns = interval(Duration::from_secs(1));
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = 0;
    while !stop.is_cancelled() {
        turns.tick().await;
        let asking = async {
            let answer = at.get("/think?ms=100", &[]).await?;
            let status = answer.status();
            let text = answer.into_body().collect().await?.to_bytes();
            let text = String::from_utf8_lossy(&text).into_owned();
            ensure!(status == 200 && text == "thought", "{status} {text}");
            Ok(())
        };
        let asked = timeout(KNOWN, asking).await.context("it hangs");
        asked
            .and_then(|asked| asked)
            .with_context(|| format!("small request {count}"))?;
        count += 1;
        answered.send_modify(|answered| *answered += 1);
    }
    Ok(count)
}

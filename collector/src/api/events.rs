//! `/api/v1/events`: a snapshot, then every transition as it happens. A reader that lags
//! too far gets a new snapshot instead of what it missed.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event as Sse, KeepAlive};
use axum::response::{IntoResponse, Response};
use comind_model::event::Event;
use comind_model::snapshot::Snapshot;
use futures_util::stream::{self, Stream};
use tokio::sync::{OwnedSemaphorePermit, broadcast};

use crate::api::problem::Problem;
use crate::api::{Api, resume, state};

/// A reader that lost the stream comes back after this long.
const RETRY: Duration = Duration::from_millis(500);
/// A comment this often tells both sides that the stream lives.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// The stream.
pub async fn events(State(api): State<Api>, headers: HeaderMap) -> Response {
    let Ok(permit) = api.streams.clone().try_acquire_owned() else {
        let error = format!(
            "{} event streams are open, no more are allowed",
            super::STREAMS
        );
        let advice = "close some, or read /api/v1/state";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, error, advice).into_response();
    };
    let last = headers
        .get("last-event-id")
        .and_then(|value| resume::parse(value.as_bytes()));
    let reader = Reader::new(api, last, permit);
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    axum::response::Sse::new(reader.stream())
        .keep_alive(keep_alive)
        .into_response()
}

struct Reader {
    api: Api,
    events: broadcast::Receiver<Arc<Event>>,
    /// What is to be sent before the next event is awaited.
    waiting: VecDeque<Sse>,
    /// The last transition that the reader knows of.
    seq: u64,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    fn new(api: Api, last: Option<u64>, permit: OwnedSemaphorePermit) -> Self {
        let (events, snapshot) = api.readers.subscribe();
        let waiting = match last.and_then(|last| resume::missed(&snapshot, last)) {
            Some(missed) => missed.iter().map(|event| transition(event)).collect(),
            None => VecDeque::from([whole(&snapshot)]),
        };
        Self {
            api,
            events,
            waiting,
            seq: snapshot.seq,
            _permit: permit,
        }
    }

    fn stream(self) -> impl Stream<Item = Result<Sse, Infallible>> {
        stream::unfold(self, |mut reader| async move {
            let next = reader.next().await?;
            Some((Ok(next), reader))
        })
    }

    async fn next(&mut self) -> Option<Sse> {
        loop {
            if let Some(sse) = self.waiting.pop_front() {
                return Some(sse);
            }
            let event = tokio::select! {
                () = self.api.stop.cancelled() => return None,
                event = self.events.recv() => event,
            };
            match event {
                // Already in the snapshot that it started with.
                Ok(event) if event.seq <= self.seq => {}
                Ok(event) => {
                    self.seq = event.seq;
                    return Some(transition(&event));
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    let snapshot = self.api.readers.snapshot();
                    self.seq = snapshot.seq;
                    return Some(whole(&snapshot));
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

fn whole(snapshot: &Snapshot) -> Sse {
    let sse = Sse::default()
        .event("snapshot")
        .id(snapshot.seq.to_string())
        .retry(RETRY);
    fill(sse, &state::Document::of(snapshot))
}

fn transition(event: &Event) -> Sse {
    fill(
        Sse::default().event("transition").id(event.seq.to_string()),
        event,
    )
}

fn fill(sse: Sse, data: &impl serde::Serialize) -> Sse {
    match serde_json::to_string(data) {
        Ok(json) => sse.data(json),
        Err(error) => sse.comment(format!("failed to write this event: {error}")),
    }
}

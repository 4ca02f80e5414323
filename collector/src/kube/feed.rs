//! What happens to the objects of one kind, as a feed that never goes stale unnoticed: a list,
//! then a watch with bookmarks, and the whole list again from time to time and whenever the
//! watch cannot go on. Must not know what the objects mean.

use std::fmt::Debug;
use std::time::Duration;

use futures_util::StreamExt;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use crate::kube::failure;
use crate::probe::failure::Failure;
use comind_model::reason::Reason;

/// Objects in one page of a list.
const PAGE: u32 = 250;
/// How long one page may take.
const LIST: Duration = Duration::from_secs(30);
/// How long the API server may take to begin a watch.
const BEGIN: Duration = Duration::from_secs(30);
/// The API server ends a watch after this long, in seconds; it must be under 295.
const WATCH_SECONDS: u32 = 290;
/// A server that ends every watch at once is asked no faster than this.
const HASTE: Duration = Duration::from_millis(200);

/// What a feed tells.
#[derive(Debug)]
pub enum Told<K> {
    /// From here to [`Told::Listed`] all objects that there are.
    Begin,
    /// There is such an object, new, changed or as before.
    There(K),
    /// The list is complete: what was not in it is gone.
    Listed,
    /// This object is gone.
    Gone(K),
    /// Nothing happened, and the watch lives.
    Alive,
    /// A watch broke off; the list is asked for again. Perhaps the API server is out.
    Broken,
    /// It cannot go on. The last word.
    Failed(Failure),
}

/// One kind of object in one place.
pub struct Feed<K> {
    /// Where it is asked.
    pub api: Api<K>,
    /// Its plural name, for messages.
    pub what: String,
    /// Only objects with these labels.
    pub selector: Option<String>,
    /// From one whole list to the next.
    pub relist: Duration,
}

/// Why a watch ended.
enum End {
    /// As the API server said it would, or it is time for a list.
    Usual,
    /// It broke off, or its version is forgotten.
    Broken,
    /// Nobody listens any more.
    Deaf,
    Failed(Failure),
}

impl<K> Feed<K>
where
    K: Clone + DeserializeOwned + Debug + Send + 'static + kube::Resource,
{
    /// Tells until it fails or until nobody listens.
    pub async fn run(self, tell: mpsc::Sender<Told<K>>) {
        loop {
            let listed = Instant::now();
            let version = match self.list(&tell).await {
                Ok(Some(version)) => version,
                Ok(None) => return,
                Err(failure) => {
                    let _ = tell.send(Told::Failed(failure)).await;
                    return;
                }
            };
            match self.watch(version, listed + self.relist, &tell).await {
                End::Usual => {}
                End::Broken => {
                    if tell.send(Told::Broken).await.is_err() {
                        return;
                    }
                    tokio::time::sleep_until(listed + HASTE).await;
                }
                End::Deaf => return,
                End::Failed(failure) => {
                    let _ = tell.send(Told::Failed(failure)).await;
                    return;
                }
            }
        }
    }

    /// All objects; the version of the list, or nothing when nobody listens.
    async fn list(&self, tell: &mpsc::Sender<Told<K>>) -> Result<Option<String>, Failure> {
        let tried = format!("list {}", self.what);
        let mut params = ListParams::default().limit(PAGE);
        params.label_selector.clone_from(&self.selector);
        if tell.send(Told::Begin).await.is_err() {
            return Ok(None);
        }
        loop {
            let page = match timeout(LIST, self.api.list(&params)).await {
                Ok(Ok(page)) => page,
                // The rest of a list was forgotten while we read it: begin anew, in one piece.
                Ok(Err(error)) if failure::is_gone(&error) && params.continue_token.is_some() => {
                    params = ListParams::default();
                    params.label_selector.clone_from(&self.selector);
                    continue;
                }
                Ok(Err(error)) => return Err(failure::of(&tried, &error)),
                Err(_) => {
                    let message = format!("failed to {tried}: no answer within {LIST:?}");
                    return Err(Failure::new(Reason::Timeout, message));
                }
            };
            for object in page.items {
                if tell.send(Told::There(object)).await.is_err() {
                    return Ok(None);
                }
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => {
                    let version = page.metadata.resource_version.unwrap_or_default();
                    let heard = tell.send(Told::Listed).await.is_ok();
                    return Ok(heard.then_some(version));
                }
            }
        }
    }

    /// Changes from `version` on, until `until` or until the watch cannot go on.
    async fn watch(
        &self,
        mut version: String,
        until: Instant,
        tell: &mpsc::Sender<Told<K>>,
    ) -> End {
        let tried = format!("watch {}", self.what);
        let mut params = WatchParams::default().timeout(WATCH_SECONDS);
        params.label_selector.clone_from(&self.selector);
        loop {
            let started = Instant::now();
            let begun = timeout(BEGIN, self.api.watch(&params, &version)).await;
            let mut changes = match begun {
                Ok(Ok(stream)) => stream.boxed(),
                Ok(Err(error)) if failure::is_gone(&error) => return End::Broken,
                // Refused and the like: the list that follows says why.
                Ok(Err(kube::Error::Api(status))) => {
                    return End::Failed(failure::of_status(&tried, status.code, &status.message));
                }
                Ok(Err(_)) | Err(_) => return End::Broken,
            };
            loop {
                let Ok(next) = timeout_at(until, changes.next()).await else {
                    return End::Usual;
                };
                let told = match next {
                    // The time of this watch is over: go on from where it was.
                    None => break,
                    Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                        version = object.meta().resource_version.clone().unwrap_or(version);
                        Told::There(object)
                    }
                    Some(Ok(WatchEvent::Deleted(object))) => {
                        version = object.meta().resource_version.clone().unwrap_or(version);
                        Told::Gone(object)
                    }
                    Some(Ok(WatchEvent::Bookmark(mark))) => {
                        version = mark.metadata.resource_version;
                        Told::Alive
                    }
                    Some(Ok(WatchEvent::Error(status))) if status.code == 410 => {
                        return End::Broken;
                    }
                    Some(Ok(WatchEvent::Error(status))) => {
                        return End::Failed(failure::of_status(
                            &tried,
                            status.code,
                            &status.message,
                        ));
                    }
                    Some(Err(_)) => return End::Broken,
                };
                if tell.send(told).await.is_err() {
                    return End::Deaf;
                }
            }
            tokio::time::sleep_until(started + HASTE).await;
        }
    }
}

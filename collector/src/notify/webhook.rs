//! A webhook: each firing and each resolution as a signed POST, in order, until it is accepted.
//! Must not know what a message says.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use ring::hmac;
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::notify::outbox::{MOST, Message, Outbox};
use crate::notify::post::Poster;
use crate::notify::status::Meter;
use crate::secret::Secret;
use crate::source::backoff::Backoff;

/// The header with the id of a message: the same whenever it is sent.
pub const ID: HeaderName = HeaderName::from_static("comind-event-id");
/// The header with time and signature: `t=SECONDS,v1=HEX`, where HEX is the HMAC-SHA256 of
/// `SECONDS.BODY`.
pub const SIGNATURE: HeaderName = HeaderName::from_static("comind-signature");

/// The longest wait after a failure.
const LONGEST: Duration = Duration::from_secs(60);
/// The file is looked at this often even if nobody rang.
const IDLE: Duration = Duration::from_secs(30);

/// One webhook and what waits for it.
pub struct Webhook {
    /// The way there.
    pub poster: Poster,
    /// What is signed with.
    pub secret: Option<Secret>,
    /// Where its messages wait.
    pub outbox: Outbox,
    /// Its name there.
    pub receiver: String,
    /// Rings when a message was put in.
    pub bell: Arc<Notify>,
    /// How it fares.
    pub meter: Arc<Meter>,
    /// Gives the time.
    pub clock: Clock,
}

impl Webhook {
    /// Sends until it is dropped.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(100), LONGEST);
        loop {
            let next = self.outbox.next(&self.receiver).await;
            let sent = match next {
                Ok(Some((message, waiting))) => {
                    self.meter.waiting.store(waiting, Ordering::Relaxed);
                    if waiting > MOST {
                        self.give_up(&message).await
                    } else {
                        self.send(&message).await
                    }
                }
                Ok(None) => {
                    self.meter.waiting.store(0, Ordering::Relaxed);
                    // A deadline, because a bell can be rung before somebody listens.
                    let _ = tokio::time::timeout(IDLE, self.bell.notified()).await;
                    continue;
                }
                Err(error) => Err(error),
            };
            match sent {
                Ok(()) => backoff.reset(),
                Err(error) => {
                    self.meter.refused(&error);
                    tokio::time::sleep(backoff.next_wait()).await;
                }
            }
        }
    }

    async fn send(&mut self, message: &Message) -> Result<(), String> {
        let now = self.clock.now();
        let mut headers = HeaderMap::new();
        if let Ok(id) = HeaderValue::from_str(&message.event_id) {
            headers.insert(ID, id);
        }
        if let Some(secret) = &self.secret {
            let seconds = now.as_micros() / 1_000_000;
            let signature = format!("t={seconds},v1={}", sign(secret, seconds, &message.body));
            if let Ok(value) = HeaderValue::from_str(&signature) {
                headers.insert(SIGNATURE, value);
            }
        }
        let body = Bytes::copy_from_slice(message.body.as_bytes());
        self.poster.post(body, &headers).await?;
        self.meter.accepted(now);
        // Should this fail, it is sent once more, with the same id.
        self.outbox.done(message.number).await
    }

    async fn give_up(&self, message: &Message) -> Result<(), String> {
        let total = self.meter.dropped.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::error!(
            receiver = self.receiver,
            total,
            "more than {MOST} messages wait: {} is given up",
            message.event_id
        );
        self.outbox.done(message.number).await
    }
}

/// The signature of a body at a time, in hexadecimal digits.
pub fn sign(secret: &Secret, seconds: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes());
    let tag = hmac::sign(&key, format!("{seconds}.{body}").as_bytes());
    tag.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with `printf '1795600000.{"a":1}' | openssl dgst -sha256 -hmac sesame`.
    #[test]
    fn the_signature_is_what_openssl_makes_of_it() {
        let made = sign(&Secret::new("sesame"), 1_795_600_000, "{\"a\":1}");
        assert_eq!(
            made,
            "f9701160b116e48e4839a0492b34b6005ee1c1d391bbadeab286f3e3ed5f4818"
        );
    }
}

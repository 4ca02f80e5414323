//! One way to wait: ask a question again and again until it is answered, the
//! deadline passes, or it can never be answered.
//!
//! Must not know what is waited for.

use std::fmt;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use tokio::time::{Instant, sleep, timeout_at};

/// The first pause between two looks; it grows by half with each look.
const FIRST_PAUSE: Duration = Duration::from_millis(4);
/// The longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_millis(60);

/// An error which no further waiting heals; `wait_for` returns it at once.
#[derive(Debug)]
pub struct Hopeless(pub String);

impl fmt::Display for Hopeless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Hopeless {}

/// Looks until `look` returns `Ok` and hands that value out.
///
/// Each `Err` is the present status. The last one is in the error when
/// `deadline` (counted from now) passes, and a [`Hopeless`] one ends the wait
/// at once. A look that hangs is cut off at the deadline.
pub async fn wait_for<T>(
    what: &str,
    deadline: Duration,
    mut look: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    let mut pause = FIRST_PAUSE;
    let mut last = anyhow!("the first look has not returned");
    loop {
        match timeout_at(end, look()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) if error.is::<Hopeless>() => {
                return Err(error.context(format!("gave up waiting for {what}")));
            }
            Ok(Err(error)) => last = error,
            Err(_) => {}
        }
        if Instant::now() + pause >= end {
            bail!("waited {deadline:?} for {what}; last status: {last:#}");
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn returns_the_value_once_it_is_there() -> Result<()> {
        let mut looks = 0;
        let value = wait_for("the third look", Duration::from_secs(5), async || {
            looks += 1;
            if looks < 3 {
                bail!("look {looks}");
            }
            Ok(looks)
        })
        .await?;
        assert_eq!(value, 3);
        Ok(())
    }

    #[tokio::test]
    async fn tells_the_last_status() {
        let error = wait_for("rain", Duration::from_millis(50), async || {
            bail!("sunny") as Result<()>
        })
        .await
        .map_err(|e| e.to_string());
        assert_eq!(
            error,
            Err("waited 50ms for rain; last status: sunny".to_owned())
        );
    }

    #[tokio::test]
    async fn a_hanging_look_is_cut_off() {
        let result = wait_for("never", Duration::from_millis(50), async || {
            std::future::pending::<Result<()>>().await
        })
        .await;
        assert!(result.is_err());
    }

    #[tokio::test]
    async fn hopeless_ends_at_once() {
        let begin = Instant::now();
        let result = wait_for("the dead", Duration::from_secs(60), async || {
            Err(Hopeless("exited".into()).into()) as Result<()>
        })
        .await;
        assert!(format!("{:#}", result.err().unwrap_or_else(|| anyhow!(""))).contains("exited"));
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}

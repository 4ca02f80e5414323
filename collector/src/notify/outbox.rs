//! What must survive a kill: the open alerts, and the messages that webhooks have not accepted
//! yet. Both change in one transaction, before anything is sent. Must not know HTTP.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use comind_model::alert::Open;
use rusqlite::{Connection, params};

use crate::sqlite;

const STEPS: &[&str] = &["
    create table alerts (target text primary key, open text not null) strict, without rowid;
    create table outbox (
        number integer primary key autoincrement,
        receiver text not null,
        event_id text not null,
        body text not null,
        unique (receiver, event_id)
    ) strict;
"];

/// So many messages may wait for one receiver; then the oldest is given up.
pub const MOST: u64 = 100_000;

/// A message that waits.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Its place.
    pub number: i64,
    /// The same whenever it is sent.
    pub event_id: String,
    /// What is sent.
    pub body: String,
}

/// A message to be kept until all of these have it.
#[derive(Clone, Debug)]
pub struct Letter {
    /// The same whenever it is sent.
    pub event_id: String,
    /// What is sent.
    pub body: String,
}

/// The file. Clones share one connection, which is used for a moment at a time.
#[derive(Clone)]
pub struct Outbox {
    connection: Arc<Mutex<Connection>>,
    not_kept: Option<Arc<str>>,
}

impl Outbox {
    /// Opens `notify.sqlite` in a folder. Where that cannot be, keeps all in memory and says why.
    pub fn open(folder: &Path) -> Self {
        let file = folder.join("notify.sqlite");
        let (connection, not_kept) = match sqlite::open(&file, STEPS) {
            Ok(opened) => {
                if let Some(aside) = &opened.set_aside {
                    tracing::error!(
                        "{}: {aside}; alerts that were open may be told again",
                        file.display()
                    );
                }
                (opened.connection, None)
            }
            Err(error) => {
                tracing::error!(
                    "{error}; open alerts and waiting messages are kept in memory and lost at a restart"
                );
                (in_memory(), Some(error.into()))
            }
        };
        Self {
            connection: Arc::new(Mutex::new(connection)),
            not_kept,
        }
    }

    /// Why nothing survives a restart, if so.
    pub fn not_kept(&self) -> Option<&Arc<str>> {
        self.not_kept.as_ref()
    }

    /// The alerts that were open when the program ended.
    pub async fn alerts(&self) -> Vec<Open> {
        let read = self.with(|connection| {
            let mut query = connection.prepare("select open from alerts")?;
            let rows = query.query_map([], |row| row.get::<_, String>(0))?;
            rows.collect::<Result<Vec<_>, _>>()
        });
        let texts = read.await.unwrap_or_else(|error| {
            tracing::error!("failed to read the open alerts: {error}");
            Vec::new()
        });
        let parsed = texts
            .iter()
            .filter_map(|text| serde_json::from_str(text).ok());
        parsed.collect()
    }

    /// Keeps changes of the open alerts (`None` is closed), and letters for these receivers.
    ///
    /// # Errors
    /// When the disk is full or the file is damaged.
    pub async fn keep(
        &self,
        changed: Vec<(Arc<str>, Option<String>)>,
        letters: Vec<Letter>,
        receivers: Vec<String>,
    ) -> Result<(), String> {
        self.with(move |connection| {
            let change = connection.transaction()?;
            for (target, open) in &changed {
                match open {
                    Some(open) => change.execute(
                        "insert or replace into alerts (target, open) values (?1, ?2)",
                        params![&**target, open],
                    )?,
                    None => change.execute("delete from alerts where target = ?1", [&**target])?,
                };
            }
            for letter in &letters {
                for receiver in &receivers {
                    change.execute(
                        "insert or ignore into outbox (receiver, event_id, body) values (?1, ?2, ?3)",
                        params![receiver, letter.event_id, letter.body],
                    )?;
                }
            }
            change.commit()
        })
        .await
    }

    /// The oldest message for a receiver, and how many wait.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn next(&self, receiver: &str) -> Result<Option<(Message, u64)>, String> {
        let receiver = receiver.to_owned();
        self.with(move |connection| {
            let waiting: i64 = connection.query_row(
                "select count(*) from outbox where receiver = ?1",
                [&receiver],
                |row| row.get(0),
            )?;
            let mut query = connection.prepare_cached(
                "select number, event_id, body from outbox where receiver = ?1 order by number limit 1",
            )?;
            let mut rows = query.query([&receiver])?;
            let Some(row) = rows.next()? else {
                return Ok(None);
            };
            let message = Message {
                number: row.get(0)?,
                event_id: row.get(1)?,
                body: row.get(2)?,
            };
            Ok(Some((message, u64::try_from(waiting).unwrap_or(0))))
        })
        .await
    }

    /// A message was accepted, or is given up.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn done(&self, number: i64) -> Result<(), String> {
        self.with(move |connection| {
            connection
                .execute("delete from outbox where number = ?1", [number])
                .map(drop)
        })
        .await
    }

    /// Forgets messages for receivers that the config no longer names; how many.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn forget_others(&self, receivers: Vec<String>) -> Result<usize, String> {
        self.with(move |connection| {
            let known = serde_json::to_string(&receivers).unwrap_or_default();
            connection.execute(
                "delete from outbox where receiver not in (select value from json_each(?1))",
                [known],
            )
        })
        .await
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, String> {
        let connection = self.connection.clone();
        let worked = tokio::task::spawn_blocking(move || {
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut connection)
        });
        match worked.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(format!("notify.sqlite: {error}")),
            Err(error) => Err(format!("notify.sqlite: {error}")),
        }
    }
}

#[expect(
    clippy::expect_used,
    reason = "an empty database in memory with our own schema can fail only for lack of memory"
)]
fn in_memory() -> Connection {
    let connection = Connection::open_in_memory().expect("memory for an empty database");
    connection
        .execute_batch(&STEPS.concat())
        .expect("our own schema is right");
    connection
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(id: &str) -> Letter {
        Letter {
            event_id: id.into(),
            body: format!("{{\"{id}\":1}}"),
        }
    }

    #[tokio::test]
    async fn letters_are_kept_in_order_once_a_receiver_until_they_are_done() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(folder.path());
        let both = || vec!["a".to_owned(), "b".to_owned()];
        for _ in 0..2 {
            let letters = vec![letter("1"), letter("2")];
            let alert = vec![("db".into(), Some("{}".to_owned()))];
            outbox.keep(alert, letters, both()).await.unwrap();
        }
        drop(outbox);
        let outbox = Outbox::open(folder.path());
        let (first, waiting) = outbox.next("a").await.unwrap().unwrap();
        assert_eq!((first.event_id.as_str(), waiting), ("1", 2));
        outbox.done(first.number).await.unwrap();
        let (second, waiting) = outbox.next("a").await.unwrap().unwrap();
        assert_eq!((second.event_id.as_str(), waiting), ("2", 1));
        assert_eq!(outbox.forget_others(vec!["a".into()]).await.unwrap(), 2);
        assert!(outbox.next("b").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_keeps_nothing_and_says_so() {
        let outbox = Outbox::open(Path::new("/proc/no-such-folder"));
        assert!(outbox.not_kept().is_some());
        let letters = vec![letter("1")];
        outbox
            .keep(vec![], letters, vec!["a".into()])
            .await
            .unwrap();
        assert!(outbox.next("a").await.unwrap().is_some());
    }
}

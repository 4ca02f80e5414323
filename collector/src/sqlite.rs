//! Opens our SQLite files: write-ahead log, one schema version after the other, and a file that
//! cannot be used is set aside instead of stopping the program.
//! Must not know what is kept in them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

/// How long a statement waits for another process that reads the file.
const BUSY: Duration = Duration::from_secs(2);

/// A database, ready for use, and what had to be set aside for it.
#[derive(Debug)]
pub struct Opened {
    /// The connection. Only its owner writes.
    pub connection: Connection,
    /// The damaged file that made way for a new one, and what was wrong with it.
    pub set_aside: Option<SetAside>,
}

/// A database that could not be used.
#[derive(Clone, Debug)]
pub struct SetAside {
    /// Where it is now.
    pub file: PathBuf,
    /// What was wrong with it.
    pub problem: String,
}

impl fmt::Display for SetAside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (problem, file) = (&self.problem, self.file.display());
        write!(
            f,
            "it was damaged ({problem}) and is now {file}; a new one was begun"
        )
    }
}

/// Opens the database in `file`, or makes it. `steps` are its schema versions: each is run once,
/// in order, and none is ever changed once it was released.
///
/// # Errors
/// When the folder cannot be written, the disk is full, or the file is of a later version than
/// `steps`. Damage is no error: the file is set aside under `file.damaged-NUMBER`.
pub fn open(file: &Path, steps: &[&str]) -> Result<Opened, String> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|error| format!("failed to make {}: {error}", folder.display()))?;
    }
    match connect(file, steps) {
        Ok(connection) => Ok(Opened {
            connection,
            set_aside: None,
        }),
        Err(Problem::Damaged(problem)) => {
            let aside = set_aside(file)
                .map_err(|error| format!("failed to set {} aside: {error}", file.display()))?;
            let connection = connect(file, steps).map_err(|error| error.told(file))?;
            Ok(Opened {
                connection,
                set_aside: Some(SetAside {
                    file: aside,
                    problem,
                }),
            })
        }
        Err(problem) => Err(problem.told(file)),
    }
}

/// Whether an error means that the file's contents cannot be trusted any more.
pub fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

enum Problem {
    Damaged(String),
    Other(String),
}

impl Problem {
    fn told(self, file: &Path) -> String {
        let (Self::Damaged(problem) | Self::Other(problem)) = self;
        format!("failed to open {}: {problem}", file.display())
    }
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Self {
        match is_damage(&error) {
            true => Self::Damaged(error.to_string()),
            false => Self::Other(error.to_string()),
        }
    }
}

fn connect(file: &Path, steps: &[&str]) -> Result<Connection, Problem> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // Survives a kill of the process; a power cut may cost the last moments, never the file.
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let sound: String = connection.query_row("pragma quick_check(1)", [], |row| row.get(0))?;
    if sound != "ok" {
        return Err(Problem::Damaged(sound));
    }
    migrate(&mut connection, steps)?;
    Ok(connection)
}

fn migrate(connection: &mut Connection, steps: &[&str]) -> Result<(), Problem> {
    let version: usize = connection
        .pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))
        .map(|version| usize::try_from(version).unwrap_or(usize::MAX))?;
    if version > steps.len() {
        return Err(Problem::Other(format!(
            "it is of version {version}, written by a later release; this one knows {}",
            steps.len()
        )));
    }
    for (place, step) in steps.iter().enumerate().skip(version) {
        let change = connection.transaction()?;
        change.execute_batch(step)?;
        change.pragma_update(None, "user_version", place as i64 + 1)?;
        change.commit()?;
    }
    Ok(())
}

fn set_aside(file: &Path) -> std::io::Result<PathBuf> {
    let beside = |suffix: &str| {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let free = (1..).map(|number| beside(&format!(".damaged-{number}")));
    let aside = free.take(1000).find(|path| !path.exists());
    let aside = aside.ok_or_else(|| std::io::Error::other("too many damaged files lie there"))?;
    std::fs::rename(file, &aside)?;
    // Without its database the log means nothing, and would be taken for the new one's.
    for suffix in ["-wal", "-shm"] {
        match std::fs::remove_file(beside(suffix)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: &[&str] = &[
        "create table a (x integer) strict",
        "alter table a add y text",
    ];

    #[test]
    fn each_step_is_run_once_and_data_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deep/er/db.sqlite");
        let first = open(&file, &STEPS[..1]).unwrap().connection;
        first.execute("insert into a values (7)", []).unwrap();
        drop(first);
        for _ in 0..2 {
            let opened = open(&file, STEPS).unwrap();
            assert!(opened.set_aside.is_none());
            let query = "select x, y from a";
            let row: (i64, Option<String>) = opened
                .connection
                .query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?)))
                .unwrap();
            assert_eq!(row, (7, None));
        }
        let error = open(&file, &STEPS[..1]).unwrap_err();
        assert!(error.contains("later release"), "{error}");
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("db.sqlite");
        for round in 1..3 {
            std::fs::write(&file, vec![b'x'; 8192]).unwrap();
            let opened = open(&file, STEPS).unwrap();
            let aside = opened.set_aside.expect("damage is noticed");
            assert!(aside.file.ends_with(format!("db.sqlite.damaged-{round}")));
            assert_eq!(std::fs::read(&aside.file).unwrap().len(), 8192);
            opened
                .connection
                .execute("insert into a values (1, 'y')", [])
                .unwrap();
        }
    }
}

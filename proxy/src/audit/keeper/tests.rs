use proptest::prelude::*;

use super::super::chain::Misfit;
use super::super::verify;
use super::*;

fn session(number: u64) -> Box<entry::Session> {
    Box::new(entry::Session {
        id: format!("{number:032x}").into(),
        user: "ada".into(),
        login: "staff".into(),
        route: "grafana".into(),
        host: "grafana.test".into(),
        client: [192, 0, 2, 1].into(),
        since: Timestamp::UNIX_EPOCH,
        until: Timestamp::UNIX_EPOCH,
    })
}

fn begins(number: u64) -> Entry {
    Entry::Begins(session(number))
}

fn written(folder: &Path, count: u64, largest: u64) {
    let (audit, thread) = Audit::start_with(folder, largest, FILES).unwrap();
    for number in 0..count {
        audit.put(Timestamp::UNIX_EPOCH, begins(number));
    }
    assert_eq!(audit.lost(), 0);
    drop(audit);
    thread.join().unwrap();
}

fn misfit(folder: &Path) -> Option<Misfit> {
    let found = verify::folder(folder).unwrap();
    found.misfit.map(|spot| spot.why)
}

#[test]
fn ten_thousand_sessions_fit_over_starts_and_files() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..4 {
        written(dir.path(), 2500, 300_000);
    }
    let files = folder::files(dir.path()).unwrap();
    assert!(files.len() >= 4, "{files:?}");
    let found = verify::folder(dir.path()).unwrap();
    assert_eq!(found.misfit, None);
    assert_eq!(found.first, 1);
    assert_eq!(found.last.number, 10_000 + files.len() as u64);
    // Of a log whose oldest files are gone the rest still fits; each file does by itself.
    fs::remove_file(&files[0]).unwrap();
    assert_eq!(misfit(dir.path()), None);
    for file in &files[1..] {
        assert_eq!(verify::file(file).unwrap().misfit, None);
    }
    fs::remove_file(&files[2]).unwrap();
    assert!(matches!(misfit(dir.path()), Some(Misfit::Number(_))));
}

#[test]
fn others_cannot_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("audit");
    written(&folder, 1, LARGEST);
    for entry in fs::read_dir(&folder).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let mode = fs::metadata(&folder).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_line_that_a_crash_cut_is_taken_off() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 3, LARGEST);
    let file = &folder::files(dir.path()).unwrap()[0];
    let mut text = fs::read(file).unwrap();
    text.extend_from_slice(b"{\"at\":\"20");
    fs::write(file, text).unwrap();
    fs::write(dir.path().join(folder::name(9)), "{").unwrap();
    assert_eq!(misfit(dir.path()), Some(Misfit::Torn));
    written(dir.path(), 1, LARGEST);
    assert_eq!(misfit(dir.path()), None);
}

#[test]
fn what_was_done_to_it_before_a_start_is_not_forgotten() {
    for harm in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path(), 5, LARGEST);
        let file = &folder::files(dir.path()).unwrap()[0];
        let text = fs::read_to_string(file).unwrap();
        match harm {
            0 => {
                let end = text.trim_end().rfind('\n').unwrap();
                fs::write(file, &text[..=end]).unwrap();
            }
            1 => fs::write(file, text.replacen("ada", "bob", 1)).unwrap(),
            2 => fs::write(file, "").unwrap(),
            _ => fs::remove_file(file).unwrap(),
        }
        written(dir.path(), 2, LARGEST);
        assert!(misfit(dir.path()).is_some(), "harm {harm}");
    }
}

#[test]
fn what_finds_no_room_is_counted_and_told() {
    let (sender, entries) = sync_channel(1);
    let lost = Arc::new(Lost::default());
    let audit = Audit {
        sender,
        lost: lost.clone(),
    };
    for number in 0..10 {
        audit.put(Timestamp::UNIX_EPOCH, begins(number));
    }
    assert_eq!(audit.lost(), 9);
    drop(audit);
    let dir = tempfile::tempdir().unwrap();
    let mut book = Book::open(dir.path(), LARGEST, FILES).unwrap();
    book.keep(&entries, &lost);
    let text = fs::read_to_string(&book.path).unwrap();
    assert!(text.contains("\"count\":9,\"event\":\"lost\""), "{text}");
    assert_eq!(misfit(dir.path()), None);
}

/// What may be done to a log.
#[derive(Clone, Debug)]
enum Harm {
    Byte { at: usize, to: u8 },
    Remove { line: usize },
    Swap { line: usize, with: usize },
    Repeat { line: usize },
    Cut { at: usize },
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(at, to)| Harm::Byte { at, to }),
        any::<usize>().prop_map(|line| Harm::Remove { line }),
        (any::<usize>(), any::<usize>()).prop_map(|(line, with)| Harm::Swap { line, with }),
        any::<usize>().prop_map(|line| Harm::Repeat { line }),
        any::<usize>().prop_map(|at| Harm::Cut { at }),
    ]
}

fn harmed(text: &[u8], harm: &Harm) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = text
        .split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    let count = lines.len();
    match harm {
        Harm::Byte { at, to } => {
            let mut text = text.to_vec();
            let at = at % text.len();
            text[at] = *to;
            return text;
        }
        Harm::Cut { at } => return text[..at % text.len()].to_vec(),
        Harm::Remove { line } => drop(lines.remove(line % count)),
        Harm::Swap { line, with } => lines.swap(line % count, with % count),
        Harm::Repeat { line } => {
            let line = line % count;
            lines.insert(line, lines[line].clone());
        }
    }
    lines.concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_done_to_it_is_found(harm in harm(), count in 1_u64..12, file in any::<usize>()) {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path(), count, 700);
        prop_assert_eq!(misfit(dir.path()), None);
        let files = folder::files(dir.path()).unwrap();
        let file = &files[file % files.len()];
        let text = fs::read(file).unwrap();
        let after = harmed(&text, &harm);
        prop_assume!(after != text);
        fs::write(file, after).unwrap();
        prop_assert!(misfit(dir.path()).is_some());
    }
}

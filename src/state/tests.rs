//! The promises of the state file, on real files: durability under SIGKILL, one transaction for many changes, one
//! process at a time, what happens after the disk has failed.

use io::{BufRead, BufReader, Write};
use std::ops::Bound;
use std::os::unix::process::ExitStatusExt;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};
use serde::{Deserialize, Serialize};

use super::*;

const NUMBERS: Table<u64> = Table::new("numbers");
const OTHERS: Table<String> = Table::new("others");

/// The state file's path, for the child of the kill test.
const CHILD_FILE: &str = "DOCKPLUG_TEST_STATE_FILE";
/// Which child it is.
const CHILD_ROUND: &str = "DOCKPLUG_TEST_STATE_ROUND";
const ACKNOWLEDGED: &str = "acknowledged ";

fn number(key: impl Into<String>, value: u64) -> Change {
    Change::new().put(NUMBERS, key, &value).unwrap()
}

fn temporary() -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made").join("state.redb");
    (directory, path)
}

#[tokio::test]
async fn what_was_committed_is_there_after_opening_again() {
    let (_directory, path) = temporary();
    let store = Store::open(&path).unwrap();
    assert_eq!(store.load(NUMBERS).unwrap(), []);
    let change = number("b", 2).put(NUMBERS, "a", &1).unwrap().put(OTHERS, "a", &"one".to_owned()).unwrap();
    store.commit(change).await.unwrap();
    store.commit(number("c", 3).delete(NUMBERS, "b").delete(NUMBERS, "missing")).await.unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(store);

    let store = Store::open(&path).unwrap();
    assert_eq!(store.load(NUMBERS).unwrap(), [("a".to_owned(), 1), ("c".to_owned(), 3)]);
    assert_eq!(store.load(OTHERS).unwrap(), [("a".to_owned(), "one".to_owned())]);
}

#[tokio::test]
async fn changes_take_effect_in_the_order_of_the_calls() {
    let (_directory, path) = temporary();
    let store = Store::open(&path).unwrap();
    let answers: Vec<_> = (0..1000).map(|value| store.commit(number("key", value))).collect();
    for answer in answers.into_iter().rev() {
        answer.await.unwrap();
    }
    assert_eq!(store.load(NUMBERS).unwrap(), [("key".to_owned(), 999)]);
}

#[test]
fn a_dropped_answer_does_not_take_the_change_back() {
    let (_directory, path) = temporary();
    let store = Store::open(&path).unwrap();
    drop(store.commit(number("key", 1)));
    drop(store);
    assert_eq!(Store::open(&path).unwrap().load(NUMBERS).unwrap(), [("key".to_owned(), 1)]);
}

#[test]
fn a_second_daemon_is_refused_and_told_why() {
    let (_directory, path) = temporary();
    let first = Store::open(&path).unwrap();
    let error = Store::open(&path).unwrap_err();
    let expected =
        format!("another dockplugd uses {}: stop it, or choose another --data-root", path.display());
    assert_eq!(error.to_string(), expected);
    drop(first);
    Store::open(&path).unwrap();
}

#[test]
fn a_file_that_is_given_up_in_time_is_waited_for() {
    let (_directory, path) = temporary();
    let first = Store::open(&path).unwrap();
    let opened = std::thread::scope(|scope| {
        let second = scope.spawn(|| Store::open(&path));
        drop(first);
        second.join().unwrap()
    });
    opened.unwrap();
}

#[test]
fn a_file_that_is_something_else_is_refused_and_left_alone() {
    let (_directory, path) = temporary();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let content = b"this is not a database".repeat(1000);
    std::fs::write(&path, &content).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(&error, Error::Open { path: told, .. } if *told == path), "{error:?}");
    assert_eq!(std::fs::read(&path).unwrap(), content);
}

#[tokio::test]
async fn a_record_of_another_type_is_named_and_not_repeated() {
    const SECRETS: Table<Vec<String>> = Table::new("numbers");
    let (_directory, path) = temporary();
    let store = Store::open(&path).unwrap();
    store.commit(Change::new().put(SECRETS, "the key", &vec!["hunter2".to_owned()]).unwrap()).await.unwrap();
    let error = crate::error::chain(&store.load(NUMBERS).unwrap_err());
    assert!(error.starts_with("the record \"the key\" in the table numbers of the state file"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn what_waits_shares_one_transaction() {
    let (_directory, path) = temporary();
    let store = Store::open(&path).unwrap();
    let mut changes: Vec<_> =
        (0..queue::GROUP_MAX).map(|key| store.commit(number(format!("{key:04}"), 0))).collect();
    let before = store.0.queue.syncs();
    store.commit_now(number("last", 0)).unwrap();
    assert_eq!(store.0.queue.syncs() - before, 2);
    let mut context = Context::from_waker(Waker::noop());
    let mut answers = changes.iter_mut().map(|change| Pin::new(change).poll(&mut context));
    assert!(answers.all(|answer| matches!(answer, Poll::Ready(Ok(())))));
    drop(changes);
    drop(store);
    assert_eq!(Store::open(&path).unwrap().load(NUMBERS).unwrap().len(), queue::GROUP_MAX + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_tasks_write_at_once() {
    const TASKS: u64 = 16;
    const EACH: u64 = 50;
    let (_directory, path) = temporary();
    let store = Store::open(&path).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let store = store.clone();
        tasks.spawn(async move {
            for value in 0..EACH {
                store.commit(number(format!("{task}/{value}"), value)).await.unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    drop(store);
    let loaded = Store::open(&path).unwrap().load(NUMBERS).unwrap();
    let mut expected: Vec<_> =
        (0..TASKS).flat_map(|task| (0..EACH).map(move |value| (format!("{task}/{value}"), value))).collect();
    expected.sort();
    assert_eq!(loaded, expected);
}

/// Starts the child, kills it after `enough` keys that it says are written, and returns all that it said.
fn kill_after(path: &Path, round: usize, enough: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "state::tests::child_that_is_killed",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD_FILE, path)
        .env(CHILD_ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    let mut acknowledged: Vec<String> = Vec::new();
    let mut take = |line: String| {
        // The test harness writes to the same line first.
        acknowledged.extend(line.split_once(ACKNOWLEDGED).map(|(_, key)| key.to_owned()));
        acknowledged.len()
    };
    for line in lines.by_ref() {
        if take(line) == enough {
            break;
        }
    }
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    lines.for_each(|line| {
        take(line);
    });
    assert!(acknowledged.len() >= enough);
    acknowledged
}

#[test]
fn what_was_acknowledged_survives_kills() {
    // Some kills fall into the first round of the journal, some into later ones.
    const ENOUGH: [usize; 5] = [1, 300, 3_000, 10, 2_500];
    let (_directory, path) = temporary();
    let mut acknowledged = Vec::new();
    for (round, enough) in ENOUGH.into_iter().enumerate() {
        acknowledged.extend(kill_after(&path, round, enough));
    }
    let store = Store::open(&path).unwrap();
    let records = store.load(NUMBERS).unwrap();
    let keys: std::collections::BTreeSet<_> = records.iter().map(|(key, _)| key.as_str()).collect();
    for key in &acknowledged {
        assert!(keys.contains(key.as_str()), "{key} was acknowledged and is lost");
    }
    let journal = std::fs::metadata(path.with_extension("journal")).unwrap();
    assert_eq!(journal.len(), u64::try_from(JOURNAL_BYTES).unwrap());
    assert_eq!(journal.permissions().mode() & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child process of what_was_acknowledged_survives_kills"]
async fn child_that_is_killed() {
    let store = Store::open(Path::new(&std::env::var_os(CHILD_FILE).unwrap())).unwrap();
    let round = std::env::var(CHILD_ROUND).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..4 {
        let (store, round) = (store.clone(), round.clone());
        tasks.spawn(async move {
            for value in 0.. {
                let key = format!("{round}/{task}/{value}");
                store.commit(number(key.as_str(), value)).await.unwrap();
                // One write a line, so that a line is whole or not there.
                io::stdout().write_all(format!("{ACKNOWLEDGED}{key}\n").as_bytes()).unwrap();
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

#[tokio::test]
async fn the_order_of_changes_is_kept_through_the_journal_and_past_it() {
    let (_directory, path) = temporary();
    let store = Store::open(&path).unwrap();
    let large = "x".repeat(JOURNAL_BYTES);
    for (key, value) in [("a", "1"), ("a", large.as_str()), ("b", "1"), ("a", "2"), ("b", &large)] {
        store.commit(Change::new().put(OTHERS, key, &value.to_owned()).unwrap()).await.unwrap();
    }
    store.commit(Change::new().delete(OTHERS, "a")).await.unwrap();
    assert_eq!(store.load(OTHERS).unwrap(), [("b".to_owned(), large)]);
}

/// A file whose disk can be made to fail.
#[derive(Debug)]
struct Failing(FileBackend, Arc<AtomicBool>);

impl StorageBackend for Failing {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.1.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<bool, BackendError> {
        self.0.try_lock_range(start, end)
    }
}

#[tokio::test]
async fn a_disk_that_fails_is_told_to_everyone_and_may_recover() {
    let (directory, _) = temporary();
    let path = directory.path().join("failing.redb");
    let fails = Arc::new(AtomicBool::new(false));
    let store = Store::start(Box::new({
        let fails = Arc::clone(&fails);
        move || {
            let file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).unwrap();
            let backend = Failing(FileBackend::new(file).unwrap(), Arc::clone(&fails));
            let open = |error: redb::Error| Error::Open { path: path.clone(), source: Arc::new(error) };
            let database =
                redb::Builder::new().create_with_backend(backend).map_err(|error| open(error.into()))?;
            let mark = writer::mark(&database).map_err(open)?;
            // Without room, so that everything goes to the database.
            let journal = Journal::open(&path.with_extension("journal"), 0, mark).unwrap();
            Ok(Opened { database, journal })
        }
    }))
    .unwrap();
    store.commit(number("before", 1)).await.unwrap();
    fails.store(true, Ordering::SeqCst);
    let answers: Vec<_> = (0..8).map(|key| store.commit(number(key.to_string(), 1))).collect();
    for answer in answers {
        let error = answer.await.unwrap_err();
        assert!(matches!(error, Error::Commit(_) | Error::Open { .. }), "{error:?}");
    }
    fails.store(false, Ordering::SeqCst);
    store.commit(number("later", 1)).await.unwrap();
    let keys: Vec<_> = store.load(NUMBERS).unwrap().into_iter().map(|(key, _)| key).collect();
    assert!(["before", "later"].iter().all(|key| keys.contains(&(*key).to_owned())), "{keys:?}");
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    name: String,
    labels: Option<std::collections::BTreeMap<String, String>>,
}

#[tokio::test]
async fn structures_keep_their_nulls() {
    const RECORDS: Table<Record> = Table::new("records");
    let (_directory, path) = temporary();
    let store = Store::open(&path).unwrap();
    let record = Record { name: "ü\u{0}\"".to_owned(), labels: None };
    store.commit(Change::new().put(RECORDS, "", &record).unwrap()).await.unwrap();
    assert_eq!(store.load(RECORDS).unwrap(), [(String::new(), record)]);
}

//! The room as a whole, with a real runtime, a real root file system and the built `dockplugd` as monitor.
//!
//! The monitor is a process of its own with signals and descriptors of its own, so it is the built program, not the
//! test binary: each run has cargo build it first (nothing to do when it is fresh).

mod ground;

use super::*;
use crate::error::chain;
use ground::{Ground, HOST_PIDS, OWN_PIDS, PATIENCE, fake_runtime};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// Names the directory for the test binary that is started as a daemon to be killed.
const DAEMON_DIR: &str = "DOCKPLUG_TEST_DAEMON_DIR";

fn alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

async fn ended(process: &Process) -> Exit {
    tokio::time::timeout(PATIENCE, process.wait()).await.expect("the container ends")
}

#[tokio::test]
async fn a_container_runs_writes_and_ends_with_its_code() {
    let ground = Ground::new();
    let before = jiff::Timestamp::now();
    let process = ground.start("echo out; echo bad >&2; echo half | busybox tr -d '\\n'; exit 3").await;
    assert!(process.pid() > 1 && process.started_at() >= before && process.id() == ground.id());
    let other = process.clone();
    let (exit, same) = tokio::join!(ended(&process), ended(&other));
    assert_eq!((exit.code, exit.oom, exit.lost), (3, false, false));
    assert_eq!((Some(&exit), Some(&exit)), (Some(&same), process.exit().as_ref()));
    assert!(exit.at >= process.started_at());
    let lines = process.log_tail(9);
    let of = |stream| {
        lines.iter().filter(|line| line.stream == stream).map(|line| line.log.as_ref()).collect::<String>()
    };
    assert_eq!((of(Stream::Stdout).as_str(), of(Stream::Stderr).as_str()), ("out\nhalf", "bad\n"));
    assert!(!ground.is_known());
    process.terminate().unwrap();
    process.kill().unwrap();
    let config = ground.exec().bundle().join("config.json").metadata().unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&config.permissions()) & 0o777, 0o600);
    ground.launcher().forget(&ground.id(), &ground.exec()).await.unwrap();
    assert!(!ground.exec().bundle().exists() && !ground.exec().monitor().exists());
    assert!(ground.launcher().attach(&ground.id(), &ground.exec()).await.unwrap().is_none());
}

#[tokio::test]
async fn the_words_of_the_runtime_reach_the_error_and_nothing_is_left() {
    let ground = Ground::new();
    for _ in 0..2 {
        let error = ground.start_spec(&ground.spec(&["/foo"], OWN_PIDS)).await.unwrap_err();
        let line = chain(&error);
        assert!(line.contains("exec: \"/foo\": stat /foo: no such file or directory"), "{line}");
        assert!(!ground.is_known());
    }
    assert!(ground.launcher().attach(&ground.id(), &ground.exec()).await.unwrap().is_none());
    // The same place starts well afterwards.
    assert_eq!(ended(&ground.start("exit 0").await).await.code, 0);
}

#[tokio::test]
async fn a_spec_that_is_no_container_is_refused_with_words() {
    let ground = Ground::new();
    let mut spec = ground.spec(&["/bin/busybox"], OWN_PIDS);
    spec.set_root(None);
    let error = ground.start_spec(&spec).await.unwrap_err();
    assert!(matches!(&error, Error::Refused { message, .. } if message.contains("root")), "{error}");
}

#[tokio::test]
async fn a_pid_one_that_cannot_hear_is_killed_and_one_that_can_has_its_say() {
    let ground = Ground::new();
    let deaf = ground.start("echo up; while :; do busybox sleep 1000; done").await;
    ground.wrote("up");
    deaf.terminate().unwrap();
    assert_eq!(ended(&deaf).await.code, 128 + 9);

    let polite = ground.start("trap 'echo bye; exit 5' TERM; echo ready; busybox sleep 1000 & wait").await;
    ground.wrote("ready");
    polite.terminate().unwrap();
    assert_eq!(ended(&polite).await.code, 5);
    ground.wrote("bye");

    // It hears, and says no: still there until it is killed.
    let stubborn =
        ground.start("trap 'echo no' TERM; echo there; while :; do busybox sleep 1000 & wait; done").await;
    ground.wrote("there");
    stubborn.terminate().unwrap();
    ground.wrote("no");
    assert!(stubborn.exit().is_none());
    stubborn.kill().unwrap();
    assert_eq!(ended(&stubborn).await.code, 128 + 9);
    assert!(!ground.is_known());
}

#[tokio::test]
async fn in_the_machines_pid_namespace_sigterm_works_and_a_kill_reaches_children_that_left() {
    let ground = Ground::new();
    let script = "busybox setsid busybox sleep 1000 & echo child $!; wait";
    let spec = ground.spec(&["/bin/busybox", "sh", "-c", script], HOST_PIDS);
    for (politely, code) in [(true, 128 + 15), (false, 128 + 9)] {
        let process = ground.start_spec(&spec).await.unwrap();
        ground.wrote("");
        let child =
            process.log_tail(1).pop().unwrap().log.trim().rsplit(' ').next().unwrap().parse().unwrap();
        assert!(alive(child));
        if politely { process.terminate() } else { process.kill() }.unwrap();
        assert_eq!(ended(&process).await.code, code);
        assert!(!alive(child) && !ground.is_known());
        std::fs::remove_dir_all(ground.log()).unwrap();
    }
}

#[tokio::test]
async fn a_container_starts_with_a_clean_slate() {
    let ground = Ground::new();
    let script = "busybox ls /proc/self/fd; busybox grep -e ^SigBlk -e ^SigIgn /proc/self/status; \
        busybox cat /proc/self/oom_score_adj; busybox env";
    assert_eq!(ended(&ground.start(script).await).await.code, 0);
    let text: Vec<_> =
        tail(&ground.log(), 99).into_iter().map(|line| line.log.trim().replace('\t', " ")).collect();
    assert!(text.contains(&"SigBlk: 0000000000000000".to_owned()), "{text:?}");
    // Not the signals from 32 on: glibc's posix_spawn ignores one of its own, which glibc sets anew where needed.
    let ignored = text.iter().find_map(|line| line.strip_prefix("SigIgn: ")).unwrap();
    assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & 0x7fff_ffff, 0, "{text:?}");
    assert!(!text.contains(&"4".to_owned()), "only 0, 1, 2 and the directory itself are open: {text:?}");
    assert!(!text.iter().any(|line| line.starts_with('-') || line.starts_with("CARGO")), "{text:?}");
}

#[tokio::test]
async fn a_flood_of_output_ends_within_the_bound_and_keeps_the_end() {
    let ground = Ground::new();
    let line = "0123456789".repeat(20);
    let flood = ground
        .start(&format!("busybox yes {line} | busybox head -c 52428800; echo; echo done; exit 4"))
        .await;
    assert_eq!(ended(&flood).await.code, 4);
    assert_eq!(flood.log_tail(1)[0].log, "done\n");
    let size: u64 =
        std::fs::read_dir(ground.log()).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(size > LOG_TOTAL_BYTES / 2 && size <= LOG_TOTAL_BYTES, "{size}");
}

#[tokio::test]
async fn a_log_that_cannot_be_written_does_not_hold_the_container() {
    let ground = Ground::new();
    std::fs::create_dir(ground.log()).unwrap();
    for name in ["current.log", "previous.log"] {
        std::os::unix::fs::symlink("/dev/full", ground.log().join(name)).unwrap();
    }
    let process = ground.start("busybox yes | busybox head -c 1048576; exit 6").await;
    assert_eq!(ended(&process).await.code, 6);
}

#[tokio::test]
async fn what_the_kernel_killed_for_memory_is_told() {
    let ground = Ground::new();
    let process = ground.start("exec busybox tail /dev/zero 2>&1 < /dev/null || exec busybox dd if=/dev/zero of=/dev/null bs=200M").await;
    let exit = ended(&process).await;
    assert!(exit.oom, "{exit:?} {:?}", process.log_tail(5));
}

#[tokio::test]
async fn twenty_containers_that_die_at_once_are_all_told() {
    let ground = Ground::new();
    for code in 0..20 {
        let process = ground.start(&format!("exit {code}")).await;
        assert_eq!(ended(&process).await.code, code);
    }
}

#[tokio::test]
async fn a_container_is_started_once() {
    let ground = Ground::new();
    let process = ground.start("busybox sleep 1000").await;
    let again = ground.start_spec(&ground.spec(&["/bin/busybox"], OWN_PIDS)).await.unwrap_err();
    assert!(matches!(again, Error::Running(_)), "{again}");
    let forget = ground.launcher().forget(&ground.id(), &ground.exec()).await.unwrap_err();
    assert!(matches!(forget, Error::Running(_)), "{forget}");
    process.kill().unwrap();
    ended(&process).await;
}

#[tokio::test]
async fn a_container_whose_monitor_is_killed_is_gone_and_told_as_lost() {
    let ground = Ground::new();
    let process = ground.start("busybox sleep 1000").await;
    let pid = process.pid();
    let monitor = nix::unistd::Pid::from_raw(ground.monitor_pid());
    nix::sys::signal::kill(monitor, nix::sys::signal::Signal::SIGKILL).unwrap();
    let exit = ended(&process).await;
    assert_eq!((exit.lost, exit.code), (true, UNKNOWN_CODE));
    assert!(!alive(pid) && !ground.is_known());
    let later = ground.launcher().attach(&ground.id(), &ground.exec()).await.unwrap().unwrap();
    assert_eq!((later.exit(), later.pid()), (Some(exit), pid));
}

async fn refusal(ground: &Ground, launcher: &Launcher) -> String {
    let spec = ground.spec(&["/bin/busybox"], OWN_PIDS);
    let start = Start { id: ground.id(), exec: ground.exec(), log: ground.log(), spec: &spec };
    match launcher.start(start).await {
        Err(Error::Refused { message, .. }) => message,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_runtime_that_fails_without_a_log_hangs_or_lies_is_told_apart() {
    let ground = Ground::new();
    let usual = record::Deadlines::default();
    let deaf = fake_runtime(&ground, "echo boom >&2; exit 1", usual);
    assert_eq!(refusal(&ground, &deaf).await, "boom");
    let silent = fake_runtime(&ground, "exit 9", usual);
    assert!(refusal(&ground, &silent).await.ends_with("fake ended with 9"));
    let liar = fake_runtime(&ground, "exit 0", usual);
    assert!(refusal(&ground, &liar).await.ends_with("fake left no pid"));
    let gone = fake_runtime(&ground, "exit 0", usual);
    std::fs::remove_file(ground.dir.join("fake")).unwrap();
    assert!(refusal(&ground, &gone).await.contains("fake: No such file or directory"));
}

#[tokio::test]
async fn a_runtime_that_hangs_is_killed_at_its_deadline() {
    let ground = Ground::new();
    let short = record::Deadlines { run: Duration::ZERO, delete: Duration::ZERO };
    let hanging = fake_runtime(&ground, "exec sleep 1000", short);
    assert!(refusal(&ground, &hanging).await.ends_with("did not start it within 0 s"));
    assert!(matches!(lock::take(&ground.desk()).unwrap(), lock::Holder::Us(_)));
}

/// Not a test: the body of the process that [`Daemon`] starts.
#[tokio::test]
#[ignore = "run by the tests below, as a daemon that is killed"]
async fn a_daemon() {
    let Some(dir) = std::env::var_os(DAEMON_DIR) else { return };
    let ground = Ground::existing(Path::new(&dir));
    ground.start("trap 'exit 7' TERM; echo up; busybox sleep 1000 & wait").await;
    writeln!(io::stdout(), "\nstarted").unwrap();
    std::future::pending::<()>().await;
}

/// Starts a container from another process, and kills that process with SIGKILL.
fn started_by_a_daemon_that_died(ground: &Ground) {
    // Descriptor 7 is what a careless parent leaves open in a daemon.
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "exec 7>&1; exec \"$@\"", "sh"]).arg(std::env::current_exe().unwrap());
    command
        .args(["--exact", "runtime::tests::a_daemon", "--ignored", "--nocapture"])
        .env(DAEMON_DIR, &ground.dir);
    let mut daemon = command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0).spawn().unwrap();
    let mut lines = BufReader::new(daemon.stdout.take().unwrap());
    assert!(lines.by_ref().lines().any(|line| line.unwrap() == "started"));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    // The pipe has no writer: nothing that lives on has inherited it.
    let pipe = lines.into_inner();
    let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::empty())];
    assert_eq!(poll(&mut fds, PollTimeout::try_from(PATIENCE).unwrap()).unwrap(), 1);
}

#[tokio::test]
async fn a_container_outlives_its_daemon_and_is_found_again() {
    let ground = Ground::new();
    started_by_a_daemon_that_died(&ground);
    let process = ground.launcher().attach(&ground.id(), &ground.exec()).await.unwrap().unwrap();
    assert!(alive(process.pid()) && process.exit().is_none());
    ground.wrote("up");
    process.terminate().unwrap();
    assert_eq!(ended(&process).await.code, 7);
    let later = ground.launcher().attach(&ground.id(), &ground.exec()).await.unwrap().unwrap();
    assert_eq!(later.exit(), process.exit());
}

#[tokio::test]
async fn a_monitor_that_died_while_no_daemon_lived_is_cleaned_up_after() {
    let ground = Ground::new();
    started_by_a_daemon_that_died(&ground);
    let pid = record::read::<record::Started>(&ground.desk().started()).unwrap().unwrap().pid;
    let monitor = spawn::open_pidfd(ground.monitor_pid()).unwrap();
    rustix::process::pidfd_send_signal(&monitor, rustix::process::Signal::KILL).unwrap();
    let lock = std::fs::File::open(ground.desk().lock()).unwrap();
    tokio::task::spawn_blocking(move || lock.lock()).await.unwrap().unwrap();
    let process = ground.launcher().attach(&ground.id(), &ground.exec()).await.unwrap().unwrap();
    assert!(process.exit().unwrap().lost && process.pid() == pid);
    assert!(!alive(pid) && !ground.is_known());
    assert_eq!(ended(&ground.start("exit 2").await).await.code, 2);
}

/// A launcher that takes the first of these that works.
fn choosing(ground: &Ground, candidates: &[(&str, Arc<dyn Runtime>)]) -> Launcher {
    let candidates = candidates
        .iter()
        .map(|(name, runtime)| Candidate { name: (*name).to_owned(), runtime: Arc::clone(runtime) });
    Launcher::choosing(ground::dockplugd().to_owned(), candidates.collect(), &ground.exec_root())
}

#[tokio::test]
async fn the_first_runtime_that_works_is_taken() {
    let ground = Ground::new();
    let broken = ground.script("broken", "echo 'no such cgroup' >&2; exit 1");
    let liar = ground.script("liar", "echo $$ > \"$1\"; exit 0");
    let works = testing::runtime(ground::dockplugd());
    let launcher = choosing(&ground, &[("broken", broken), ("liar", liar), ("works", works)]);
    assert_eq!(launcher.runtime(), "broken");
    // Both at once: one trial serves them.
    let (first, second) = tokio::join!(launcher.choose(), launcher.choose());
    first.and(second).unwrap();
    assert_eq!(launcher.runtime(), "works");
    assert!(!ground.exec_root().trials().exists());
    let spec = ground.spec(&["/bin/busybox", "sh", "-c", "exit 3"], OWN_PIDS);
    let start = Start { id: ground.id(), exec: ground.exec(), log: ground.log(), spec: &spec };
    assert_eq!(ended(&launcher.start(start).await.unwrap()).await.code, 3);
}

#[tokio::test]
async fn when_no_runtime_works_each_reason_is_told() {
    let ground = Ground::new();
    let broken = ground.script("broken", "echo 'no such cgroup' >&2; exit 1");
    let silent = ground.script("silent", "exit 5");
    let launcher = choosing(&ground, &[("broken", broken), ("silent", silent)]);
    let error = launcher.choose().await.unwrap_err().to_string();
    assert!(error.contains("broken: the OCI runtime could not start"), "{error}");
    assert!(error.contains("no such cgroup") && error.contains("silent ended with 5"), "{error}");
    let spec = ground.spec(&["/bin/busybox"], OWN_PIDS);
    let start = Start { id: ground.id(), exec: ground.exec(), log: ground.log(), spec: &spec };
    assert!(matches!(launcher.start(start).await, Err(Error::NoRuntime { .. })));
}

#[tokio::test]
async fn a_trial_that_was_cut_short_is_swept() {
    let ground = Ground::new();
    let old = ground.exec_root().trial("trial-1").path().join("root");
    std::fs::create_dir_all(&old).unwrap();
    let works = testing::runtime(ground::dockplugd());
    choosing(&ground, &[("works", works)]).choose().await.unwrap();
    assert!(!old.exists());
}

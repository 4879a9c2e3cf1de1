//! The server over real sockets.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use axum::Router;
use axum::extract::Path as UrlPath;
use axum::routing::{get, post};
use tokio::sync::{Semaphore, mpsc};

use super::*;
use crate::config::{Group, Host};
use crate::error::chain;

fn host(path: &Path) -> [Host; 1] {
    [Host::Unix(path.to_owned())]
}

async fn bind(path: &Path) -> Result<Listeners, String> {
    Listeners::bind(&host(path), &Group::Named("0".to_owned())).await.map_err(|error| chain(&error))
}

/// Sends `request` and reads until the server closes, on a thread of its own.
async fn talk(path: &Path, request: &'static str, shutdown: Option<Shutdown>) -> String {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut client = UnixStream::connect(path).unwrap();
        client.write_all(request.as_bytes()).unwrap();
        if let Some(how) = shutdown {
            client.shutdown(how).unwrap();
        }
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    })
    .await
    .unwrap()
}

const HELLO: &str = "GET /hello HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n";

fn start(listeners: Listeners, router: &Router) -> Server {
    Server::start(listeners, router, CancellationToken::new())
}

fn hello() -> Router {
    Router::new().route("/hello", get(|| async { "hello" }))
}

#[tokio::test]
async fn a_client_that_half_closes_gets_its_answer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("made/too/s.sock");
    let entered = Arc::new(Semaphore::new(0));
    let gate = entered.clone();
    let slow = get(move || async move {
        // Answers only after the client's half-close has surely been seen: the test sends it with the request.
        tokio::task::yield_now().await;
        gate.add_permits(1);
        "hello"
    });
    let server = start(bind(&path).await.unwrap(), &Router::new().route("/hello", slow));
    let answer = talk(&path, "GET /hello HTTP/1.1\r\nHost: d\r\n\r\n", Some(Shutdown::Write)).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("hello"), "{answer}");
    assert_eq!(entered.available_permits(), 1);
    assert!(server.drain(None).await);
}

#[tokio::test]
async fn the_socket_has_its_owner_and_mode_and_goes_with_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let listeners = bind(&path).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let server = start(listeners, &hello());
    assert!(server.drain(None).await);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_nobody_listens_on_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let server = start(bind(&path).await.unwrap(), &hello());
    assert!(talk(&path, HELLO, None).await.ends_with("hello"));
    assert!(server.drain(None).await);
}

#[tokio::test]
async fn a_live_socket_and_a_plain_file_stay_where_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("live.sock");
    let _other = UnixListener::bind(&path).unwrap();
    let error = bind(&path).await.unwrap_err();
    let pid = format!("(process {})", std::process::id());
    assert!(error.contains(&pid) && error.contains("-H unix://"), "{error}");
    assert!(path.exists());

    let plain = dir.path().join("plain");
    std::fs::write(&plain, "precious").unwrap();
    let error = bind(&plain).await.unwrap_err();
    assert!(error.ends_with("the file is there and is no socket"), "{error}");
    assert_eq!(std::fs::read(&plain).unwrap(), b"precious");
}

#[tokio::test]
async fn a_live_socket_with_a_full_backlog_is_live() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("full.sock");
    let socket = tokio::net::UnixSocket::new_stream().unwrap();
    socket.bind(&path).unwrap();
    let _full = socket.listen(0).unwrap();
    let mut waiting = Vec::new();
    while let Ok(client) = tokio::net::UnixStream::connect(&path).await {
        waiting.push(client);
    }
    let error = bind(&path).await.unwrap_err();
    assert!(error.contains("another process answers there"), "{error}");
}

#[tokio::test]
async fn a_group_that_is_not_there_is_an_error_only_when_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let hosts = host(&dir.path().join("s.sock"));
    let error = Listeners::bind(&hosts, &Group::Named("no-such-group".to_owned())).await.unwrap_err();
    assert!(error.to_string().starts_with("group no-such-group not found"), "{error}");
    Listeners::bind(&hosts, &Group::Default).await.unwrap();
}

#[tokio::test]
async fn draining_finishes_what_runs_and_accepts_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let (entered, mut entering) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    let slow = get(move || async move {
        entered.send(()).unwrap();
        let _permit = opened.acquire().await.unwrap();
        "finished"
    });
    let closing = CancellationToken::new();
    let router = Router::new().route("/slow", slow);
    let server = Server::start(bind(&path).await.unwrap(), &router, closing.clone());
    let client = {
        let path = path.clone();
        tokio::spawn(async move { talk(&path, "GET /slow HTTP/1.1\r\nHost: d\r\n\r\n", None).await })
    };
    entering.recv().await.unwrap();
    let drained = tokio::spawn(server.drain(None));
    closing.cancelled().await;
    gate.add_permits(1);
    // The connection was kept alive: only the drain closes it, after the answer.
    assert!(client.await.unwrap().ends_with("finished"));
    assert!(drained.await.unwrap());
    assert!(UnixStream::connect(&path).is_err());
}

#[tokio::test]
async fn draining_gives_up_at_its_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let (entered, mut entering) = mpsc::unbounded_channel();
    let never = get(move || async move {
        entered.send(()).unwrap();
        std::future::pending::<()>().await;
    });
    let server = start(bind(&path).await.unwrap(), &Router::new().route("/never", never));
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"GET /never HTTP/1.1\r\nHost: d\r\n\r\n").unwrap();
    entering.recv().await.unwrap();
    assert!(!server.drain(Some(Duration::ZERO)).await);
}

#[tokio::test]
async fn a_client_that_leaves_cancels_reading_and_not_changing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let (said, mut says) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let work = {
        let (said, gate) = (said.clone(), gate.clone());
        move |UrlPath(name): UrlPath<String>| async move {
            said.send(format!("{name} began")).unwrap();
            let _permit = gate.acquire().await.unwrap();
            said.send(format!("{name} ended")).unwrap();
        }
    };
    let router = Router::new().route("/{name}", post(work));
    let server = start(bind(&path).await.unwrap(), &router);
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"POST /change HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert_eq!(says.recv().await.unwrap(), "change began");
    drop(client);
    let drained = tokio::spawn(server.drain(None));
    gate.add_permits(1);
    assert_eq!(says.recv().await.unwrap(), "change ended");
    assert!(drained.await.unwrap(), "the drain waits for work whose client has left");
}

/// Tells when it is dropped.
struct Told(mpsc::UnboundedSender<&'static str>);

impl Drop for Told {
    fn drop(&mut self) {
        let _closed = self.0.send("dropped");
    }
}

#[tokio::test]
async fn an_endless_answer_ends_when_its_client_leaves_and_not_when_it_half_closes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let (said, mut says) = mpsc::unbounded_channel();
    let (lines, line) = tokio::sync::watch::channel(0_u32);
    let endless = get(move || async move {
        let told = Told(said.clone());
        let first = (line, told);
        Body::from_stream(futures_util::stream::unfold(first, |(mut line, told)| async move {
            line.changed().await.ok()?;
            let text = format!("{}\n", *line.borrow());
            Some((Ok::<_, Infallible>(text), (line, told)))
        }))
    });
    let server = start(bind(&path).await.unwrap(), &Router::new().route("/endless", endless));
    let mut client = tokio::net::UnixStream::connect(&path).await.unwrap();
    let request = b"GET /endless HTTP/1.1\r\nHost: d\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut client, request).await.unwrap();
    tokio::io::AsyncWriteExt::shutdown(&mut client).await.unwrap();
    let mut answer = Vec::new();
    for number in 7..9 {
        lines.send(number).unwrap();
        while !String::from_utf8_lossy(&answer).contains(&format!("\r\n{number}\n")) {
            let read = tokio::io::AsyncReadExt::read_buf(&mut client, &mut answer).await.unwrap();
            assert_ne!(read, 0, "cut off after a half-close");
        }
    }
    assert!(says.try_recv().is_err());
    drop(client);
    assert_eq!(says.recv().await, Some("dropped"));
    assert!(server.drain(None).await);
}

#[tokio::test]
async fn tcp_serves_too() {
    let listeners = Listeners::bind(&["tcp://127.0.0.1:0".parse().unwrap()], &Group::Default).await.unwrap();
    let address = listeners.addresses()[0].strip_prefix("tcp://").unwrap().to_owned();
    let server = start(listeners, &hello());
    let answer = tokio::task::spawn_blocking(move || {
        let mut client = std::net::TcpStream::connect(address).unwrap();
        client.write_all(HELLO.as_bytes()).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    });
    assert!(answer.await.unwrap().ends_with("hello"));
    assert!(server.drain(None).await);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let server = start(bind(&path).await.unwrap(), &hello());
    let answer = tokio::task::spawn_blocking(move || {
        let mut client = UnixStream::connect(path).unwrap();
        let mut head = format!("GET /hello HTTP/1.1\r\nHost: {}", "d".repeat(1024 * 1024));
        head.push_str("\r\n\r\n");
        let _closed_early = client.write_all(head.as_bytes());
        let mut answer = Vec::new();
        let _reset = client.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    });
    assert!(answer.await.unwrap().starts_with("HTTP/1.1 431 "));
    assert!(server.drain(None).await);
}

#[tokio::test]
async fn a_client_that_is_still_writing_gets_the_answer_to_a_body_nobody_reads() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let server =
        start(bind(&path).await.unwrap(), &Router::new().route("/ignore", post(|| async { "ignored" })));
    let answers = tokio::task::spawn_blocking(move || {
        let mut client = UnixStream::connect(path).unwrap();
        let head = b"POST /ignore HTTP/1.1\r\nHost: d\r\nContent-Length: 200000\r\n\r\n";
        let mut read = [0; 4096];
        // The answer to the first is there before its body is sent; the second goes over the same connection.
        for _ in 0..2 {
            client.write_all(head).unwrap();
            let length = client.read(&mut read).unwrap();
            assert!(String::from_utf8_lossy(&read[..length]).ends_with("ignored"));
            client.write_all(&vec![b'x'; 200_000]).unwrap();
        }
    });
    answers.await.unwrap();
    assert!(server.drain(None).await);
}

#[tokio::test]
async fn a_client_that_sends_nonsense_can_finish_and_read_what_we_think_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let read = post(|body: axum::body::Bytes| async move { body.len().to_string() });
    let server = start(bind(&path).await.unwrap(), &Router::new().route("/read", read));
    let answer = tokio::task::spawn_blocking(move || {
        let mut client = UnixStream::connect(path).unwrap();
        let head = b"POST /read HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxx";
        client.write_all(head).unwrap();
        // The second x is no end of a chunk: the server has ended before most of this is written.
        client.write_all(&vec![b'x'; 2_000_000]).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = answer.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert!(server.drain(None).await);
}

#[tokio::test]
async fn without_activation_fd_says_so() {
    let error = Listeners::bind(&[Host::Fd(None)], &Group::Default).await.unwrap_err();
    assert!(error.to_string().starts_with("no sockets found via socket activation"), "{error}");
}

/// The part of the next test that runs in a process of its own, as a service manager would start it.
#[tokio::test]
#[ignore = "started by fd_serves_the_sockets_it_was_given, with descriptors passed on"]
async fn fd_child() {
    let listeners = Listeners::bind(&[Host::Fd(None)], &Group::Default).await.unwrap();
    assert_eq!(listeners.addresses(), ["fd://"]);
    let server = start(listeners, &hello());
    // Ends with its standard input.
    let _end = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await;
    assert!(server.drain(None).await);
}

#[tokio::test]
async fn fd_serves_the_sockets_it_was_given() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let listener = UnixListener::bind(&path).unwrap();
    // The shell puts the listener at descriptor 3, and its own process id, which exec keeps, into LISTEN_PID.
    let script = r#"exec 3<&0 0<"$END"; LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@""#;
    let (child_end, our_end) = std::io::pipe().unwrap();
    let end = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&child_end));
    let mut child = Command::new("bash")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "server::tests::fd_child", "--ignored", "--quiet"])
        .env("END", end)
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    assert!(talk(&path, HELLO, None).await.ends_with("hello"));
    drop((child_end, our_end));
    assert!(child.wait().unwrap().success());
    assert!(path.exists(), "the socket is the service manager's");
}

//! A wire to a real registry that breaks where a test wants it to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Which way the bytes are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// From us to the registry.
    Up,
    /// From the registry to us.
    Down,
}

/// A wire that breaks a number of times, each time after so many bytes on one connection.
#[derive(Debug)]
pub(super) struct Cutter {
    /// `127.0.0.1:port`
    pub(super) host: String,
    left: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Cutter {
    pub(super) async fn start(registry: &str, way: Way, after_bytes: usize, times: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let left = Arc::new(AtomicUsize::new(times));
        let (registry, counter) = (registry.to_owned(), Arc::clone(&left));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&registry).await.unwrap();
                connections.spawn(join(client, server, way, after_bytes, Arc::clone(&counter)));
            }
        });
        Self { host, left, task }
    }

    /// How many times it is still to break.
    pub(super) fn left(&self) -> usize {
        self.left.load(Ordering::SeqCst)
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn join(
    mut client: TcpStream,
    mut server: TcpStream,
    way: Way,
    after_bytes: usize,
    left: Arc<AtomicUsize>,
) {
    let (client_in, client_out) = client.split();
    let (server_in, server_out) = server.split();
    let bound = |counted: Way| (counted == way).then_some((after_bytes, &*left));
    tokio::select! {
        () = carry(client_in, server_out, bound(Way::Up)) => {}
        () = carry(server_in, client_out, bound(Way::Down)) => {}
    }
}

/// Carries bytes until one side ends or the wire is to break.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    bound: Option<(usize, &AtomicUsize)>,
) {
    let mut buffer = vec![0; 16 * 1024];
    let mut carried = 0;
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        carried += count;
        if let Some((after, left)) = bound
            && carried > after
            && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
        {
            return;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

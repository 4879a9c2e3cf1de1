//! A network of its own: an address that is not 127.0.0.1, so that nobody makes exceptions for it, and yet reaches nobody.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, unshare};

use super::process;

/// Runs `story` in a new network namespace, with the one address it is told (of the range for benchmarks, RFC 2544).
///
/// Whatever it starts is in there as well.
pub(crate) fn alone(story: impl FnOnce(IpAddr) + Send) {
    thread::scope(|scope| {
        let told = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            // Certificates are kept by address: another run of these tests gets another one.
            let [.., high, low] = std::process::id().to_be_bytes();
            let address = IpAddr::V4(Ipv4Addr::new(198, 18, high, low));
            ip("link set lo up");
            ip(&format!("address add {address}/32 dev lo"));
            story(address);
        });
        if let Err(panic) = told.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn ip(arguments: &str) {
    let output = Command::new(process::program("ip")).args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

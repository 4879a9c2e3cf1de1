//! What it costs to go through dockplugd to an engine: podman asked straight, in place of dockerd, and through us.

use std::io::{Read, repeat};

use crate::Line;
use crate::figures::{get, milliseconds, seconds};
use crate::support::archive::{Entry, Tar, header};
use crate::support::engine_world::World;
use crate::support::http::Http;
use crate::support::process;

/// The size of what is sent and fetched, in bytes.
const LARGE_BYTES: u64 = 1 << 30;
/// A route that is forwarded as it is, and that podman answers at once: it has no such thing.
const SMALL: (&str, u16) = ("/exec/nosuch/json", 404);

/// Measures and reports every figure of this file.
pub(crate) fn all(report: &mut dyn FnMut(Line)) {
    let world = World::new().expect("the benchmark is of dockplugd");
    let sides = [Http::new(&world.engine.socket()), world.daemon.http()];
    let mut line = |figure, unit, samples| report(Line { figure, unit, samples, rate: false });

    let samples = alternate(&sides, 20, |http| {
        let (request, mut connection) = (get(SMALL.0), http.open().unwrap());
        let one = |_| {
            milliseconds(|| {
                assert_eq!(connection.exchange("GET", request.as_bytes()).unwrap().status, SMALL.1);
            })
        };
        (0..100).map(one).collect()
    });
    line("a small request, straight to podman and through us", "ms", samples);

    let daemon_before = process::peak_kib(world.daemon.pid());
    let samples = alternate(&sides, 3, |http| {
        let taken = seconds(|| import(http));
        assert_eq!(http.ask("DELETE", "/images/large").status, 200);
        vec![taken]
    });
    line("import of 1 GiB, straight to podman and through us", "s", samples);

    import(&sides[0]);
    let samples = alternate(&sides, 3, |http| vec![seconds(|| fetch(http))]);
    line("save of 1 GiB, straight from podman and through us", "s", samples);

    let mebibytes = |kib: u64| vec![f64::from(u32::try_from(kib).unwrap()) / 1024.0];
    let samples = [mebibytes(daemon_before), mebibytes(process::peak_kib(world.daemon.pid()))];
    line("our peak memory (RSS), before and after that", "MiB", samples);
}

fn alternate(sides: &[Http; 2], rounds: usize, mut sample: impl FnMut(&Http) -> Vec<f64>) -> [Vec<f64>; 2] {
    let mut samples = [vec![], vec![]];
    for round in 0..rounds {
        for side in [round % 2, 1 - round % 2] {
            samples[side].extend(sample(&sides[side]));
        }
    }
    samples
}

/// Makes an image of one large file, sent in chunks as the CLI does.
fn import(http: &Http) {
    let mut head = Tar::new().open_end();
    let mut file = header(&Entry::file("large", b""));
    set_size(&mut file, LARGE_BYTES);
    head.extend_from_slice(&file);
    // Its length is one of whole blocks; two empty ones are the end.
    let mut tar = head.as_slice().chain(repeat(b'x').take(LARGE_BYTES)).chain(repeat(0).take(1024));
    let answer =
        http.send_from("POST", "/images/create?fromSrc=-&repo=large", "application/x-tar", &mut tar, None);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Writes a size into a tar's header, and its checksum anew.
fn set_size(header: &mut [u8], size: u64) {
    header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn fetch(http: &Http) {
    let mut connection = http.open().unwrap();
    connection.write(get("/images/large/get").as_bytes()).unwrap();
    assert_eq!(connection.head().unwrap().0, 200);
    let mut bytes = 0;
    while let Some(chunk) = connection.chunk().unwrap() {
        bytes += u64::try_from(chunk.len()).unwrap();
    }
    assert!(bytes > LARGE_BYTES, "{bytes}");
}

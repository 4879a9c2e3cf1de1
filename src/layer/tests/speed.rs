//! How fast a context is taken apart, and how much memory that takes. Not asserted: run by hand, in release mode,
//! with `cargo test --release --lib layer::tests::speed -- --ignored --nocapture`.

use std::io::{self, Read, Write};
use std::time::Instant;

use super::{Place, Tar};
use crate::layer::{Limits, split_context, unpack};

/// Half noise, half words, as programs and texts are.
fn tree(megabytes: usize) -> Vec<u8> {
    let mut noise = 1_u64;
    let mut next = move || {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        noise
    };
    let words = ["volume", "plugin", "mount", "socket", "driver", "reference", "layer", "digest"];
    let mut tar = Tar::default().file("config.json", b"{}").directory("rootfs/");
    for number in 0..megabytes {
        let mut content = Vec::with_capacity(1 << 20);
        while content.len() < 1 << 20 {
            if number % 2 == 0 {
                content.extend_from_slice(&next().to_le_bytes());
            } else {
                let value = usize::try_from(next() % 4096).unwrap();
                write!(content, "{} {value} ", words[value % 8]).unwrap();
            }
        }
        tar = tar.file(&format!("rootfs/{number}"), &content);
    }
    tar.end()
}

fn peak_kilobytes() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().filter(|line| line.starts_with("VmHWM") || line.starts_with("VmRSS")).collect()
}

struct Blob(std::fs::File, crate::oci::Hasher);

impl Write for Blob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.update(bytes);
        self.0.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
#[ignore = "a measurement"]
fn split_and_unpack() {
    let outer = tempfile::tempdir().unwrap();
    let context = outer.path().join("context.tar");
    std::fs::write(&context, tree(128)).unwrap();
    let blob_path = outer.path().join("blob");
    for round in 0..4 {
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        println!("before: {}", peak_kilobytes());
        let place = Place::new();
        let start = Instant::now();
        let blob = Blob(std::fs::File::create(&blob_path).unwrap(), crate::oci::Hasher::new());
        let source = std::fs::File::open(&context).unwrap();
        split_context(source, &place.root(), blob, &Limits::default()).unwrap();
        println!("{round}: split 128 MB in {:?}, {}", start.elapsed(), peak_kilobytes());
        let place = Place::new();
        let start = Instant::now();
        unpack(std::fs::File::open(&blob_path).unwrap(), &place.root(), &Limits::default()).unwrap();
        let size = std::fs::metadata(&blob_path).unwrap().len() >> 20;
        println!("{round}: unpack {size} MB gz in {:?}, {}", start.elapsed(), peak_kilobytes());
    }
}

#[test]
#[ignore = "a measurement"]
fn memory_is_flat() {
    let place = Place::new();
    let header = Tar::default()
        .file("config.json", b"{}")
        .raw(b'0', b"rootfs/big", b"", b"", |header| header.set_size(1 << 30))
        .unended();
    let source = io::Cursor::new(header).chain(io::repeat(b'x').take(1 << 30));
    println!("before: {}", peak_kilobytes());
    let start = Instant::now();
    split_context(source, &place.root(), io::sink(), &Limits::default()).unwrap();
    println!("1 GB in {:?}: {}", start.elapsed(), peak_kilobytes());
}

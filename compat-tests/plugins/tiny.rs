//! A volume plugin of one file and no dependency, that behaves as badly as it is asked to.
//!
//! Built by the tests with `rustc -O -C target-feature=+crt-static tiny.rs`. It speaks docker.volumedriver/1.0 on
//! `/run/docker/plugins/tiny.sock`; a volume is a directory below its propagated mount `/volumes`. How it
//! behaves is told by words, in its arguments or in the variable `MODE`:
//!
//! | word | behaviour |
//! |---|---|
//! | (none) | a good plugin: ends at SIGTERM |
//! | `deaf` | no handler for SIGTERM: as process 1 of its namespace it cannot be terminated |
//! | `ignore-term` | SIGTERM set to be ignored |
//! | `catch-term` | SIGTERM is caught, and nothing is done about it |
//! | `exit=N` | prints two lines on stderr and exits with N |
//! | `silent` | runs and never listens |
//! | `late=FIFO` | listens only once somebody opens FIFO to write |
//! | `hang=CALL` | never answers CALL (`Mount`, `Create`, …; `all` for each of them) |
//! | `hold=CALL` | answers CALL only once somebody opens the FIFO `/record/go` to write |
//! | `refuse=CALL` | answers CALL with an error of its own, status 500 |
//! | `garbage=CALL` | answers CALL with bytes that are not HTTP |
//! | `nonsense=CALL` | answers CALL with status 200 and a body that is no JSON |
//! | `endless=CALL` | answers CALL with a body that never ends |
//! | `climb=PATH` | answers Mount, Path, Get and List with the mountpoint PATH |
//! | `link=PATH` | puts a symbolic link to PATH where its socket belongs |
//! | `die-on=CALL` | exits with 7 when CALL arrives |
//! | `daemonize` | goes on in a child, and its first process exits at once with 0 |
//! | `flood` | once it listens, writes lines without end on stdout |
//! | `fill` | before it listens, writes into `/fill` until there is no room, and how that ended into `/record/filled` |
//! | `vanish=CALL` | removes its socket when CALL arrives, and answers |
//! | `swap=PATH` | puts a symbolic link to PATH in the place of its socket when Create arrives, and answers |
//! | `eat=CALL` | uses 128 MiB of memory when CALL arrives, before it answers |
//! | `try` | makes some unusual system calls at its start, and writes the errno of each to `/record/tried` |
//! | `talk` | writes a line on stderr for each request |
//! | `remember` | keeps the names of its volumes in `/record/volumes`, as if they were on a server, and has them after a new start |
//! | `forgetful` | writes down no requests |
//! | `confess` | writes down too, as `REFUSED {…}`, each Mount that it refuses because it has no such volume |
//!
//! When it has a directory `/record`, it writes there what it sees of its world (`report`, at start) and each
//! request that arrives (`calls`: request line, headers, body). It knows nothing of who calls it.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

const SOCKET: &str = "/run/docker/plugins/tiny.sock";
const SIGTERM: i32 = 15;
const SIG_IGN: usize = 1;
/// How much `eat` uses.
const MEAL_BYTES: usize = 128 << 20;

unsafe extern "C" {
    fn signal(number: i32, handler: usize) -> usize;
    fn _exit(code: i32) -> !;
    fn fork() -> i32;
    fn socket(family: i32, kind: i32, protocol: i32) -> i32;
    fn umount2(target: *const u8, flags: i32) -> i32;
    fn unshare(flags: i32) -> i32;
    fn syscall(number: i64, ...) -> i64;
}

extern "C" fn end(_signal: i32) {
    // SAFETY: _exit may be called in a signal handler.
    unsafe { _exit(0) }
}

extern "C" fn carry_on(_signal: i32) {}

struct Mode(Vec<String>);

impl Mode {
    fn read() -> Self {
        let variable = std::env::var("MODE").unwrap_or_default();
        Self(std::env::args().skip(1).chain(variable.split_whitespace().map(String::from)).collect())
    }

    fn says(&self, word: &str) -> bool {
        self.0.iter().any(|w| w == word)
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.0.iter().find_map(|w| w.strip_prefix(key)?.strip_prefix('='))
    }

    fn concerns(&self, key: &str, call: &str) -> bool {
        self.value(key).is_some_and(|v| v == call || v == "all")
    }
}

fn main() -> io::Result<()> {
    let mode = Mode::read();
    // SAFETY: no other thread runs yet.
    if mode.says("daemonize") && unsafe { fork() } > 0 {
        // SAFETY: as for every process that wants to end.
        unsafe { _exit(0) }
    }
    let handler = match () {
        () if mode.says("deaf") => None,
        () if mode.says("ignore-term") => Some(SIG_IGN),
        () if mode.says("catch-term") => Some(carry_on as *const () as usize),
        () => Some(end as *const () as usize),
    };
    if let Some(handler) = handler {
        // SAFETY: both handlers are async-signal-safe, and no other thread runs yet.
        unsafe { signal(SIGTERM, handler) };
    }
    if Path::new("/record").is_dir() {
        fs::write("/record/report.new", report())?;
        fs::rename("/record/report.new", "/record/report")?;
    }
    if mode.says("try") {
        fs::write("/record/tried", tries())?;
    }
    if let Some(code) = mode.value("exit") {
        eprintln!("tiny: about to give up");
        eprintln!("tiny: cannot reach the storage at 192.0.2.1");
        std::process::exit(code.parse().unwrap_or(1));
    }
    if mode.says("silent") {
        wait_for_ever();
    }
    if let Some(file) = mode.value("late") {
        drop(fs::File::open(file)?); // waits until somebody opens the other end
    }
    if mode.says("fill") {
        let end = fill().map_err(|error| error.kind());
        fs::write("/record/filled", format!("{end:?}"))?;
    }
    if mode.says("remember") {
        for entry in fs::read_dir("/record/volumes").into_iter().flatten().flatten() {
            fs::create_dir_all(Path::new("/volumes").join(entry.file_name()))?;
        }
    }
    let _ = fs::remove_file(SOCKET);
    if let Some(target) = mode.value("link") {
        std::os::unix::fs::symlink(target, SOCKET)?;
        wait_for_ever();
    }
    let listener = UnixListener::bind(SOCKET)?;
    println!("tiny: listening");
    if mode.says("flood") {
        std::thread::spawn(|| loop {
            println!("tiny: {}", "so much to say ".repeat(100));
        });
    }
    let (mode, record) = (Arc::new(mode), Arc::new(Mutex::new(())));
    for stream in listener.incoming() {
        let (mode, record, stream) = (mode.clone(), record.clone(), stream?);
        std::thread::spawn(move || serve(stream, &mode, &record));
    }
    Ok(())
}

fn fill() -> io::Result<()> {
    let mut file = fs::File::create("/fill")?;
    loop {
        file.write_all(&[b'x'; 1 << 16])?;
    }
}

fn wait_for_ever() -> ! {
    loop {
        std::thread::park();
    }
}

fn serve(stream: UnixStream, mode: &Mode, record: &Mutex<()>) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(request) = read_request(&mut reader)? {
        if Path::new("/record").is_dir() && !mode.says("forgetful") {
            let _guard = record.lock();
            let mut file = fs::OpenOptions::new().append(true).create(true).open("/record/calls")?;
            file.write_all(format!("{}\n{}\n\n", request.head.trim_end(), request.body).as_bytes())?;
            let known = || Path::new(&format!("/volumes/{}", request.field("Name"))).is_dir();
            if mode.says("confess") && request.call() == "Mount" && !known() {
                file.write_all(format!("REFUSED {}\n\n", request.body.trim()).as_bytes())?;
            }
        }
        let call = request.call();
        if mode.says("talk") {
            eprintln!("tiny: {call} {}", request.field("Name"));
        }
        if mode.concerns("eat", call) {
            // Not zeros, which would cost nothing.
            std::hint::black_box(vec![1_u8; MEAL_BYTES]);
        }
        if mode.concerns("die-on", call) {
            eprintln!("tiny: {call} is too much for me");
            std::process::exit(7);
        }
        if mode.concerns("hang", call) {
            wait_for_ever();
        }
        if mode.concerns("hold", call) {
            drop(fs::File::open("/record/go")?); // waits until somebody opens the other end
        }
        if mode.concerns("vanish", call) {
            fs::remove_file(SOCKET)?;
        }
        if let Some(target) = mode.value("swap").filter(|_| call == "Create") {
            std::os::unix::fs::symlink(target, format!("{SOCKET}.new"))?;
            fs::rename(format!("{SOCKET}.new"), SOCKET)?;
        }
        if mode.says("remember") {
            let kept = Path::new("/record/volumes").join(request.field("Name"));
            match call {
                "Create" => fs::create_dir_all(kept)?,
                "Remove" => fs::remove_dir_all(kept)?,
                _ => {}
            }
        }
        answer(&stream, mode, &request)?;
    }
    Ok(())
}

fn answer(mut stream: &UnixStream, mode: &Mode, request: &Request) -> io::Result<()> {
    let call = request.call();
    if mode.concerns("garbage", call) {
        stream.write_all(b"\x00\x01SSH-2.0-\xff\xfe this is no HTTP\r\n")?;
        return stream.shutdown(std::net::Shutdown::Both);
    }
    if mode.concerns("endless", call) {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"Mountpoint\":\"")?;
        loop {
            stream.write_all(&[b'a'; 65536])?;
        }
    }
    let (status, body) = if mode.concerns("nonsense", call) {
        ("200 OK", "<html>not what you hoped for</html>".to_owned())
    } else if mode.concerns("refuse", call) {
        ("500 Internal Server Error", format!("{{\"Err\":\"tiny refuses {call}\"}}"))
    } else {
        work(mode, call, &request.field("Name"))
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/vnd.docker.plugins.v1.1+json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

fn work(mode: &Mode, call: &str, name: &str) -> (&'static str, String) {
    let directory = format!("/volumes/{name}");
    let mountpoint = mode.value("climb").unwrap_or(&directory);
    let volume =
        format!("{{\"Name\":\"{name}\",\"Mountpoint\":\"{mountpoint}\",\"Status\":{{\"kept\":\"here\"}}}}");
    let known = Path::new(&directory).is_dir();
    let fine = |body: String| ("200 OK", body);
    match call {
        "Activate" => fine("{\"Implements\":[\"VolumeDriver\"]}".into()),
        "Capabilities" => fine("{\"Capabilities\":{\"Scope\":\"local\"}}".into()),
        "Create" => match fs::create_dir_all(&directory) {
            Ok(()) => fine("{}".into()),
            Err(e) => ("500 Internal Server Error", format!("{{\"Err\":\"{e}\"}}")),
        },
        "List" => {
            let entries = fs::read_dir("/volumes").into_iter().flatten().flatten();
            let each = entries.map(|e| {
                let name = e.file_name().to_string_lossy().into_owned();
                let mountpoint = mode.value("climb").map_or_else(|| format!("/volumes/{name}"), String::from);
                format!("{{\"Name\":\"{name}\",\"Mountpoint\":\"{mountpoint}\"}}")
            });
            fine(format!("{{\"Volumes\":[{}]}}", each.collect::<Vec<_>>().join(",")))
        }
        "Get" | "Path" | "Mount" | "Unmount" | "Remove" if !known => {
            ("404 Not Found", format!("{{\"Err\":\"tiny has no volume {name}\"}}"))
        }
        "Get" => fine(format!("{{\"Volume\":{volume}}}")),
        "Path" | "Mount" => fine(format!("{{\"Mountpoint\":\"{mountpoint}\"}}")),
        "Unmount" => fine("{}".into()),
        "Remove" => match fs::remove_dir_all(&directory) {
            Ok(()) => fine("{}".into()),
            Err(e) => ("500 Internal Server Error", format!("{{\"Err\":\"{e}\"}}")),
        },
        _ => ("404 Not Found", "{\"Err\":\"no such call\"}".into()),
    }
}

struct Request {
    head: String,
    body: String,
}

impl Request {
    /// `Mount` of `POST /VolumeDriver.Mount HTTP/1.1`.
    fn call(&self) -> &str {
        let path = self.head.split(' ').nth(1).unwrap_or_default();
        path.rsplit('.').next().unwrap_or_default()
    }

    fn field(&self, name: &str) -> String {
        let value = self.body.split_once(&format!("\"{name}\":\"")).map_or("", |(_, rest)| rest);
        value.split('"').next().unwrap_or_default().to_owned()
    }
}

fn read_request(reader: &mut BufReader<UnixStream>) -> io::Result<Option<Request>> {
    let mut head = String::new();
    loop {
        let before = head.len();
        if reader.read_line(&mut head)? == 0 {
            return Ok(None);
        }
        if head[before..].trim().is_empty() {
            break;
        }
    }
    let header = |name: &str| {
        let matching = |line: &&str| line.to_ascii_lowercase().starts_with(&format!("{name}:"));
        head.lines().find(matching).and_then(|line| line.split_once(':')).map(|(_, v)| v.trim().to_owned())
    };
    let mut body = vec![];
    if header("transfer-encoding").as_deref() == Some("chunked") {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size)?;
            let size = usize::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk)?;
            if size == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..size]);
        }
    } else {
        body = vec![0; header("content-length").and_then(|v| v.parse().ok()).unwrap_or(0)];
        reader.read_exact(&mut body)?;
    }
    Ok(Some(Request { head, body: String::from_utf8_lossy(&body).into_owned() }))
}

/// Calls that no plugin needs and the kernel lets anybody make, with their errno, or 0.
fn tries() -> String {
    const SOCK_SEQPACKET: i32 = 5;
    const CLONE3: i64 = 435;
    const KEYCTL: i64 = if cfg!(target_arch = "x86_64") { 250 } else { 219 };
    let errno =
        |result: i64| if result < 0 { io::Error::last_os_error().raw_os_error().unwrap_or(-1) } else { 0 };
    // SAFETY: no pointer is given but to a constant string with its NUL, and none of them changes memory.
    let tried = unsafe {
        [
            ("umount2", errno(umount2(c"/nowhere".as_ptr().cast(), 0).into())),
            // The id of the session keyring, which is not made.
            ("keyctl", errno(syscall(KEYCTL, 0_i64, -3_i64, 0_i64))),
            // Without arguments, which the kernel finds too short.
            ("clone3", errno(syscall(CLONE3, 0_i64, 0_i64))),
            ("socket AF_ALG", errno(socket(38, SOCK_SEQPACKET, 0).into())),
            ("socket AF_UNIX", errno(socket(1, SOCK_SEQPACKET, 0).into())),
            // CLONE_FILES
            ("unshare", errno(unshare(0x400).into())),
        ]
    };
    tried.map(|(call, errno)| format!("{call}: {errno}\n")).concat()
}

/// What this process sees of its world, a section a source.
fn report() -> String {
    let mut text = String::new();
    let mut section =
        |title: &str, content: String| text.push_str(&format!("== {title}\n{}\n", content.trim_end()));
    section("arguments", std::env::args().collect::<Vec<_>>().join("\n"));
    section("environment", std::env::vars().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join("\n"));
    section("directory", std::env::current_dir().map_or_else(|e| e.to_string(), |d| d.display().to_string()));
    for file in ["status", "mountinfo", "limits", "cgroup", "uid_map", "oom_score_adj", "attr/current"] {
        let content = fs::read_to_string(format!("/proc/self/{file}"));
        section(&format!("/proc/self/{file}"), content.unwrap_or_else(|e| e.to_string()));
    }
    for directory in ["ns", "fd"] {
        let entries = fs::read_dir(format!("/proc/self/{directory}")).into_iter().flatten().flatten();
        let shown = |e: fs::DirEntry| {
            let target = fs::read_link(e.path()).map_or_else(|e| e.to_string(), |t| t.display().to_string());
            format!("{} -> {target}", e.file_name().to_string_lossy())
        };
        section(&format!("/proc/self/{directory}"), entries.map(shown).collect::<Vec<_>>().join("\n"));
    }
    section("hostname", fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|e| e.to_string()));
    for directory in ["/", "/dev", "/etc", "/run/docker/plugins"] {
        let mut names: Vec<_> =
            fs::read_dir(directory).into_iter().flatten().flatten().map(|e| e.file_name()).collect();
        names.sort();
        section(directory, names.iter().map(|n| n.to_string_lossy()).collect::<Vec<_>>().join(" "));
    }
    text
}

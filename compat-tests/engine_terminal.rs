//! What is typed goes to a container and what it writes comes back, on a terminal and through pipes, to the very end.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use crate::support::engine_world::{RUN, World, command};
use crate::support::terminal::Terminal;
use crate::support::until;

/// Runs the shell on it until it says that its window has this size.
fn has_size(terminal: &mut Terminal, size: &str) {
    until("the window has its size", || {
        // What is typed is shown too, so it must not be what is looked for.
        terminal.type_in("echo size=$(/bin/busybox stty size)\n");
        terminal.screen().contains(&format!("size={size}\r\n")).then_some(())
    });
}

#[test]
fn a_terminal_has_its_echo_its_size_and_its_exit_code() {
    let Some(world) = World::new() else { return };
    let docker = world.docker();
    let mut run = vec!["run", "-it", "--name", "term"];
    run.extend(RUN);
    run.extend(["-v", "data:/data", "box", "/bin/busybox", "sh"]);
    let mut terminal = Terminal::open(&docker.command(&run), 77, 33);
    terminal.shows("#");
    has_size(&mut terminal, "33 77");
    assert!(terminal.screen().contains("echo size=$("), "what is typed is echoed: {}", terminal.screen());
    terminal.resize(101, 44);
    has_size(&mut terminal, "44 101");

    let mut exec = Terminal::open(&docker.command(&["exec", "-it", "term", "/bin/busybox", "sh"]), 66, 22);
    exec.shows("#");
    has_size(&mut exec, "22 66");
    exec.type_in("/bin/busybox tty; exit 4\n");
    assert_eq!(exec.end(), Some(4));
    assert!(exec.screen().contains("/dev/pts/"), "{}", exec.screen());

    terminal.type_in("exit 9\n");
    assert_eq!(terminal.end(), Some(9));
    docker.ok(&["rm", "term"]);
    assert_eq!(docker.ok(&["volume", "rm", "data"]), "data");
}

#[test]
fn an_input_ends_where_the_client_ends_it() {
    let Some(world) = World::new() else { return };
    let docker = world.docker();
    let large = "0123456789abcdef\n".repeat(1 << 16);
    for input in ["hi\n", &large] {
        let said = docker.feed(&command("run", &["-i", "--rm"], "exec /bin/busybox cat"), input.as_bytes());
        assert_eq!((said.code, said.out.as_str()), (Some(0), input.trim_end()), "{}", said.err);
    }
    docker.ok(&command("run", &["-d", "--name", "long"], "exec /bin/busybox sleep 1000"));
    let said = docker.feed(&["exec", "-i", "long", "/bin/busybox", "wc", "-c"], large.as_bytes());
    assert_eq!((said.code, said.out), (Some(0), large.len().to_string()), "{}", said.err);
    let said = docker.run(&["exec", "long", "/bin/busybox", "sh", "-c", "echo out; echo err >&2; exit 5"]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(5), "out", "err"));
    // What it goes on to say after its input has ended is heard too.
    let said = docker.feed(
        &command("run", &["-i", "--rm"], "/bin/busybox cat; echo after; echo err >&2; exit 6"),
        b"before\n",
    );
    // podman 4.3 may tell 0 of what it has removed.
    assert!(said.code == Some(6) || world.engine.is_podman(), "{said:?}");
    assert_eq!((said.out.as_str(), said.err.as_str()), ("before\nafter", "err"));
}

#[test]
fn what_is_followed_ends_with_its_container() {
    let Some(world) = World::new() else { return };
    let docker = world.docker();
    let script = "while [ ! -e /go ]; do echo waiting; /bin/busybox usleep 50000; done; echo done; exit 3";
    docker.ok(&command("run", &["-d", "--name", "one"], script));
    let piped = |arguments: &[&str]| {
        let mut command = docker.command(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
    };
    let mut waiting = piped(&["wait", "one"]);
    let mut followers = [piped(&["logs", "-f", "one"]), piped(&["attach", "--no-stdin", "one"])];
    let mut outputs = followers.each_mut().map(|child| BufReader::new(child.stdout.take().unwrap()));
    for output in &mut outputs {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "waiting\n");
    }
    docker.ok(&["exec", "one", "/bin/busybox", "touch", "/go"]);
    for ((mut child, mut output), code) in followers.into_iter().zip(outputs).zip([0, 3]) {
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert!(rest.ends_with("\ndone\n") || rest == "done\n", "{rest:?}");
        assert_eq!(child.wait().unwrap().code(), Some(code), "{rest:?}");
    }
    let mut said = String::new();
    waiting.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((waiting.wait().unwrap().code(), said.as_str()), (Some(0), "3\n"));
    assert_eq!(docker.ok(&["logs", "--tail", "1", "one"]), "done");
}

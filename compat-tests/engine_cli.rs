//! The stock CLI says the same straight to the engine and through dockplugd, command by command.
//!
//! Each command is done to a container of the same kind, first straight, then through us; what must differ between two
//! containers (ids, names) is made the same. Which commands an engine cannot do is said beside them, and has to be true.

use std::sync::LazyLock;

use regex::Regex;

use crate::support::cli::{Docker, Said};
use crate::support::engine_world::{World, command};

/// Who can do it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Can {
    /// Every engine.
    All,
    /// Every engine says no.
    None,
    /// Not podman 4.3: it runs the container's own `ps`, reads a body that the CLI does not send, or has no such route.
    NotPodman,
}

/// Commands by the words between spaces; `N` is the container.
const COMMANDS: [(Can, &str); 33] = [
    (Can::All, "start N"),
    (Can::None, "start nosuch"),
    (Can::All, "ps --filter name=N --format {{.Names}}·{{.Image}}·{{.Command}}·{{.State}}"),
    (Can::All, "ps -a --filter status=exited --format {{.Names}}"),
    (Can::All, "ps -q --filter label=mark=1"),
    (Can::All, "ps -aq --filter ancestor=box --filter label=mark=2"),
    (Can::NotPodman, "top N -o pid,comm"),
    (Can::All, "stats --no-stream --format {{.PIDs}} N"),
    (Can::All, "exec N /bin/busybox echo in·it"),
    (Can::None, "exec N /bin/busybox false"),
    (Can::All, "exec -e A=b -w /bin N /bin/busybox sh -c echo·$A·$PWD"),
    (Can::All, "port N"),
    (Can::All, "diff N"),
    (Can::All, "exec -d N /bin/busybox touch /touched"),
    (Can::All, "pause N"),
    (Can::All, "ps --filter status=paused --format {{.Names}}"),
    (Can::All, "unpause N"),
    (Can::NotPodman, "update --memory 100m --memory-swap 200m N"),
    (Can::All, "inspect -f {{.State.Status}}·{{.Path}}·{{.Args}}·{{.Config.Labels.mark}} N"),
    (Can::All, "rename N renamed"),
    (Can::None, "inspect N"),
    (Can::All, "rename renamed N"),
    (Can::All, "logs N"),
    (Can::None, "rm N"),
    (Can::All, "kill -s TERM N"),
    (Can::All, "wait N"),
    (Can::All, "restart -t 0 N"),
    (Can::All, "stop -t 0 N"),
    (Can::All, "network ls --format {{.Name}}"),
    (Can::All, "image inspect -f {{.Os}}·{{.RepoTags}} box"),
    (Can::All, "history -q box"),
    (Can::All, "container prune -f"),
    (Can::None, "rm nosuch"),
];

/// What one CLI says to all of them.
fn said(docker: &Docker, name: &str) -> Vec<Said> {
    let trap = "trap 'echo ended; exit 3' TERM; echo begun; /bin/busybox sleep 1000 & wait";
    let flags = ["--name", name, "--label", "mark=1", "--stop-signal", "TERM"];
    docker.ok(&command("create", &flags, trap));
    let one = |(_, text): &(Can, &str)| {
        let words: Vec<String> = text
            .split(' ')
            .map(|word| word.replace('·', " "))
            .map(|word| if word == "N" || word == "name=N" { word.replace('N', name) } else { word })
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let said = docker.run(&words);
        Said { code: said.code, out: same(&said.out, name), err: same(&said.err, name) }
    };
    COMMANDS.iter().map(one).collect()
}

/// Without what differs between two containers, in an order that does not.
fn same(text: &str, name: &str) -> String {
    static MADE_UP: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^\d+\s+|\b[0-9a-f]{12,64}\b|Total reclaimed space.*|\b\d+(\.\d+)?k?B\b").unwrap()
    });
    let mut lines: Vec<String> =
        text.lines().map(|line| MADE_UP.replace_all(line, "<>").replace(name, "NAME")).collect();
    lines.sort_unstable();
    lines.join("\n")
}

#[test]
fn commands_say_what_they_say_straight_at_the_engine() {
    let Some(world) = World::new() else { return };
    let straight = said(&world.straight(), "straight");
    let through = said(&world.docker(), "through");
    for (((can, text), straight), through) in COMMANDS.iter().zip(&straight).zip(&through) {
        assert_eq!(through, straight, "docker {text}");
        let works = match can {
            Can::All => true,
            Can::None => false,
            Can::NotPodman => !world.engine.is_podman(),
        };
        assert_eq!(through.code == Some(0), works, "docker {text}: {through:?}");
    }
}

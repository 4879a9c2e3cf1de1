"""The programs that the suites talk to: a daemon and a registry, each with directories and addresses of its own.

They live in one directory below the system's temporary one. `Place.clear` ends what was started there, by process id,
takes away what is mounted there and removes it. What the suites ask of them is not known here.
"""

import ctypes
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import threading

# prctl(2)
PR_SET_CHILD_SUBREAPER = 36
# A program that has not said within this time where it listens is broken, seconds.
LISTENS_WITHIN = 60
# A program that has not ended this long after SIGTERM is killed, seconds.
ENDS_WITHIN = 30
# A proxy that nobody runs: the port is reserved for throwing away what comes.
CLOSED = "http://127.0.0.1:9"


def here():
    """This process's variables without proxies: everything that is asked for is on this machine."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


class Place:
    """A directory, and everything that happens in it."""

    def __init__(self):
        # Whatever they leave running becomes a child of this process, and so is known to be of this run.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="dockplug-clients."))
        self._children = []

    def start(self, name, command, listening, variables=None):
        """Starts a program; returns what the pattern `listening` found in its output, which goes to NAME.log."""
        child = Child(command, self.path / f"{name}.log", {**here(), **(variables or {})})
        self._children.append(child)
        return child, child.listens(name, listening)

    def clear(self):
        """Leaves nothing behind: the youngest program ends first."""
        while self._children:
            self._children.pop().end()
        self._end_those_who_are_left()
        for mount in self._mounts():
            subprocess.run(["umount", "-l", mount], check=False)
        if self._mounts():
            raise RuntimeError(f"still mounted: {self._mounts()}; nothing below {self.path} is removed")
        shutil.rmtree(self.path)

    @staticmethod
    def _end_those_who_are_left():
        """What the programs left running, monitors of plugins and plugins, when they could not end it themselves."""
        while left := [pid for task in pathlib.Path("/proc/self/task").iterdir() for pid in _children(task)]:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    def _mounts(self):
        """Mount points below this directory, the deepest first."""
        lines = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
        below = [line.split(" ")[4] for line in lines]
        return sorted((m for m in below if m.startswith(f"{self.path}/")), key=len, reverse=True)


def _children(task):
    return [int(pid) for pid in (task / "children").read_text().split()]


class Child:
    """A program that runs, with its output in a file."""

    def __init__(self, command, log, environment):
        self._log = log
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=environment,
            # Ctrl-C is for `run`, which then ends its programs in order.
            start_new_session=True,
        )
        self._said = threading.Condition()
        self._lines, self._ended = [], False
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        with open(self._log, "w", encoding="utf-8") as log:
            for line in self._process.stdout:
                log.write(line)
                log.flush()
                with self._said:
                    self._lines.append(line)
                    self._said.notify_all()
        with self._said:
            self._ended = True
            self._said.notify_all()

    def listens(self, name, pattern):
        """Waits until a line matches, and returns its first group."""
        def found():
            return next(filter(None, (re.search(pattern, line) for line in self._lines)), None)
        with self._said:
            self._said.wait_for(lambda: self._ended or found(), timeout=LISTENS_WITHIN)
            if match := found():
                return match.group(1)
            raise RuntimeError(f"{name} does not listen; it said:\n{''.join(self._lines)}")

    def last_words(self):
        """The end of what it has said."""
        with self._said:
            return "".join(self._lines[-20:])

    def end(self):
        """SIGTERM, and SIGKILL if it does not listen to that."""
        self._process.terminate()
        try:
            self._process.wait(ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Registry:
    """A registry for everybody on a port of 127.0.0.1."""

    def __init__(self, place):
        config = place.path / "registry.yml"
        config.write_text(
            "version: 0.1\nlog: {accesslog: {disabled: true}}\n"
            f"storage: {{filesystem: {{rootdirectory: {place.path / 'registry'}}}}}\n"
            "http: {addr: '127.0.0.1:0', secret: compat}\n"
        )
        command = ["docker-registry", "serve", str(config)]
        self.child, self.address = place.start("registry", command, r"listening on (127\.0\.0\.1:\d+)")


class Daemon:
    """The daemon on a unix socket and on a port of 127.0.0.1; plugins end with it.

    COMPAT_DAEMON=dockerd starts a real one instead, to see whether a suite expects what Docker does.
    """

    def __init__(self, place, name, mirror=None):
        home = place.path / name
        home.mkdir()
        (home / "daemon.json").write_text("{}")
        self.socket = f"unix://{home}/docker.sock"
        command = [self.program(), "-H", self.socket, "-H", "tcp://127.0.0.1:0", "--pidfile", f"{home}/pid"]
        command += ["--data-root", f"{home}/data", "--exec-root", f"{home}/exec"]
        command += ["--config-file", f"{home}/daemon.json", "--live-restore=false"]
        if mirror:
            command += ["--registry-mirror", f"http://{mirror}"]
        if os.environ.get("COMPAT_DAEMON") == "dockerd":
            command += ["--bridge=none", "--iptables=false", "--ip6tables=false", "--tls=false"]
        else:
            # Neither the engine nor the plugins that the machine has.
            command += ["--engine", "none", "--legacy-plugins-dir", f"{home}/legacy"]
        listening = r"API listen on (?:address=tcp://)?(127\.0\.0\.1:\d+)"
        # Nothing leaves this machine: whatever is asked of another one meets a closed port.
        closed = {"HTTP_PROXY": CLOSED, "HTTPS_PROXY": CLOSED, "NO_PROXY": "127.0.0.1"}
        self.child, self.address = place.start(name, command, listening, closed)

    @staticmethod
    def program():
        """dockerd if it was asked for, DOCKPLUGD, or the newer one of the two that cargo has built."""
        if os.environ.get("COMPAT_DAEMON") == "dockerd":
            return "dockerd"
        if named := os.environ.get("DOCKPLUGD"):
            return str(pathlib.Path(named).absolute())
        target = pathlib.Path(__file__).parents[3] / "target"
        built = [p for p in (target / "debug/dockplugd", target / "release/dockplugd") if p.exists()]
        if not built:
            raise RuntimeError("there is no dockplugd: build it (cargo build) or name it in DOCKPLUGD")
        return str(max(built, key=lambda p: p.stat().st_mtime))

    def end(self):
        """Ends it, and its plugins with it."""
        self.child.end()

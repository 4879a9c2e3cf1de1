"""The suites: what each needs, how it is run, and of which version it is.

A suite is a function that takes a `Stage` and returns the version of the client that it has tried. It writes its report
as JUnit XML; whether a case failed is read from there.
"""

import dataclasses
import pathlib
import shutil
import subprocess
import tarfile

from . import junit, tools
from .programs import here

# A suite that runs longer hangs, seconds; `--long` takes four minutes.
ENDS_WITHIN = 1200


@dataclasses.dataclass
class Stage:
    """What a suite finds: addresses, a plugin to make, where its report goes."""

    suite: str
    daemon: object
    registry: object
    context: pathlib.Path
    report: pathlib.Path
    # (version, each test's program by its name), when it is bollard's turn
    bollard: tuple | None
    long: bool
    # Whether all programs have ended with 0
    good: bool = True

    def run(self, command, cwd=None, capture=False, **variables):
        """Runs a client's program; when it fails, the report must say why."""
        tar = self.context.with_suffix(".tar")
        if not tar.exists():
            with tarfile.open(tar, "w") as archive:
                archive.add(self.context, ".")
        home = self.context.with_suffix(".home")
        home.mkdir(exist_ok=True)
        environment = {
            **here(),
            "DOCKER_HOST": self.daemon.socket,
            # Neither contexts nor passwords of whoever runs this.
            "DOCKER_CONFIG": str(home),
            "CLIENTS_TCP": f"tcp://{self.daemon.address}",
            "CLIENTS_REGISTRY": self.registry.address,
            "CLIENTS_CONTEXT": str(self.context),
            "CLIENTS_CONTEXT_TAR": str(tar),
            **variables,
        }
        out = subprocess.PIPE if capture else None
        done = subprocess.run(command, cwd=cwd, env=environment, stdout=out, text=True, timeout=ENDS_WITHIN)
        self.good = self.good and done.returncode == 0
        return done.stdout


def pytest(stage, tests, cwd, options=()):
    """pytest, with its report."""
    command = [str(tools.python() / "pytest"), "-q", f"--junitxml={stage.report}"]
    # In the target directory, so that nothing is written beside the sources.
    command += ["-o", f"cache_dir={tools.TARGET}/pytest"]
    # pytest-asyncio warns when nobody says what it takes by itself, which is what the tests of others rely on.
    command += ["-W", "ignore::pytest.PytestDeprecationWarning", *options, *tests]
    stage.run(command, cwd=cwd, PYTHONDONTWRITEBYTECODE="1")


def own_pytest(package, file):
    """A suite that is one program of ours beside this directory."""
    def suite(stage):
        own = tools.CLIENTS / "python"
        pytest(stage, [file], own, ["-c", "/dev/null", "--rootdir", str(own), "-o", "asyncio_mode=auto"])
        return tools.pinned(package)
    return suite


def aiodocker_upstream(stage):
    """aiodocker's own tests; its options for coverage are left away."""
    sources = tools.aiodocker_sources()
    pytest(stage, ["tests/test_volumes.py", "tests/test_system.py"], sources, ["-o", "addopts="])
    return tools.pinned("aiodocker")


def dockerode(stage):
    """Our program on node's own test runner."""
    to = tools.node()
    shutil.copy(tools.CLIENTS / "dockerode/dockerode.test.js", to)
    reporters = ["--test-reporter=spec", "--test-reporter-destination=stdout"]
    reporters += ["--test-reporter=junit", f"--test-reporter-destination={stage.report}"]
    stage.run(["node", "--test", *reporters, "dockerode.test.js"], cwd=to)
    return tools.node_version()


def bollard(stage):
    """Our program in bollard/."""
    return libtest(stage, ["life"], [])


def bollard_upstream(stage):
    """The crate's own tests, one at a time: some of them count all volumes."""
    address = f"tcp://{stage.daemon.address}"
    return libtest(stage, ["plugin_test", "volume_test"], ["--test-threads=1"], DOCKER_HOST=address)


def libtest(stage, tests, options, **variables):
    """Tests of the crate in bollard/, and what they tell of themselves."""
    version, programs = stage.bollard
    said = ""
    for test in tests:
        said += stage.run([programs[test], *options], cwd=tools.TARGET, capture=True, **variables)
        if "test result: " not in said:
            raise RuntimeError(f"{test} broke off:\n{said}")
    print(said, end="", flush=True)
    junit.from_libtest(stage.report, stage.suite, said)
    return version


def schemathesis(stage):
    """Requests made of the specification, over TCP: many of them with --long."""
    own = tools.CLIENTS / "schemathesis"
    examples = "400" if stage.long else "25"
    command = [str(tools.python() / "schemathesis"), "--config-file", str(own / "schemathesis.toml"), "run"]
    command += [str(tools.ROOT / "api-spec/openapi.yaml"), "--url", f"http://{stage.daemon.address}"]
    command += ["--max-examples", examples, "--report", "junit", "--report-junit-path", str(stage.report)]
    # Other requests each time only when there is time for many; nothing is remembered from one run to the next.
    command += ["--generation-database", "none", *([] if stage.long else ["--seed", "1"])]
    stage.run(command, cwd=tools.TARGET, PYTHONPATH=str(own), SCHEMATHESIS_HOOKS="hooks")
    return tools.pinned("schemathesis")


# In the order in which they run.
SUITES = {
    "docker-py": own_pytest("docker", "test_docker_py.py"),
    "aiodocker": own_pytest("aiodocker", "test_aiodocker.py"),
    "aiodocker-upstream": aiodocker_upstream,
    "python-on-whales": own_pytest("python-on-whales", "test_python_on_whales.py"),
    "dockerode": dockerode,
    "bollard": bollard,
    "bollard-upstream": bollard_upstream,
    "schemathesis": schemathesis,
}

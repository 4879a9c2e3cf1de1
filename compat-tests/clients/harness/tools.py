"""Brings the clients, each pinned by checksum, below target/clients: a virtual environment, node's modules, a crate.

Where they come from is the configuration of pip, npm and cargo. What is there already is not fetched again.
"""

import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess

ROOT = pathlib.Path(__file__).parents[3]
CLIENTS = ROOT / "compat-tests/clients"
TARGET = ROOT / "target/clients"


def fresh(stamp, *sources):
    """Whether what `stamp` stands for was made of these very files; else the text to write there when it is."""
    text = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    made = stamp.exists() and stamp.read_text() == text
    return None if made else text


def python():
    """The `bin` directory of a virtual environment with requirements.txt."""
    venv, requirements = TARGET / "venv", CLIENTS / "requirements.txt"
    if text := fresh(venv / "made-of", requirements):
        shutil.rmtree(venv, ignore_errors=True)
        subprocess.run(["python3", "-m", "venv", str(venv)], check=True)
        subprocess.run(
            [str(venv / "bin/pip"), "install", "--quiet", "--require-hashes", "--no-deps", "-r", str(requirements)],
            check=True,
        )
        (venv / "made-of").write_text(text)
    return venv / "bin"


def pinned(package):
    """The version that requirements.txt pins."""
    lines = (CLIENTS / "requirements.txt").read_text().splitlines()
    return next(line.split()[0].split("==")[1] for line in lines if line.startswith(f"{package}=="))


def aiodocker_sources():
    """aiodocker's sdist, unpacked: its tests are not in what pip installs."""
    version, to = pinned("aiodocker"), TARGET / "aiodocker"
    requirements = CLIENTS / "requirements.txt"
    if text := fresh(to / "made-of", requirements):
        shutil.rmtree(to, ignore_errors=True)
        to.mkdir(parents=True)
        alone = to / "requirements.txt"
        alone.write_text(_entry(requirements.read_text(), "aiodocker"))
        pip = python() / "pip"
        # Metadata is asked of the build tools of the environment, which are pinned, not of newer ones.
        subprocess.run(
            [str(pip), "download", "--quiet", "--require-hashes", "--no-deps", "--no-build-isolation",
             "--no-binary", "aiodocker", "-d", str(to), "-r", str(alone)],
            check=True, env={**os.environ, "PATH": f"{pip.parent}:{os.environ['PATH']}"},
        )
        shutil.unpack_archive(to / f"aiodocker-{version}.tar.gz", to)
        (to / "made-of").write_text(text)
    return to / f"aiodocker-{version}"


def _entry(requirements, package):
    """What requirements.txt says of one package, with its checksums."""
    return re.search(rf"^{package}==.*\\\n(    --hash=.*\n)+", requirements, re.MULTILINE)[0]


def node():
    """A directory with dockerode and its modules, and our program beside them."""
    sources, to = CLIENTS / "dockerode", TARGET / "dockerode"
    if text := fresh(to / "made-of", sources / "package-lock.json"):
        shutil.rmtree(to, ignore_errors=True)
        to.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(sources / name, to)
        # Nothing of theirs is run while it is installed: the one module that wants to is optional.
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(command, cwd=to, check=True)
        (to / "made-of").write_text(text)
    return to


def node_version():
    """The version of dockerode that package-lock.json pins."""
    lock = json.loads((CLIENTS / "dockerode/package-lock.json").read_text())
    return lock["packages"]["node_modules/dockerode"]["version"]


def bollard():
    """Builds the crate in bollard/; answers its version, and each test's program by its name.

    Cargo has checked the sources against Cargo.lock; the tests that they bring are linked to where our manifest names
    them.
    """
    manifest = ["--locked", "--manifest-path", str(CLIENTS / "bollard/Cargo.toml")]
    environment = {**os.environ, "CARGO_TARGET_DIR": str(TARGET / "bollard")}
    said = _said(["cargo", "metadata", "--format-version", "1", *manifest], environment)
    package = next(p for p in json.loads(said)["packages"] if p["name"] == "bollard")
    link = TARGET / "bollard-upstream"
    link.unlink(missing_ok=True)
    link.symlink_to(pathlib.Path(package["manifest_path"]).parent)
    build = ["cargo", "test", "--quiet", "--no-run", "--message-format=json", *manifest]
    built = [json.loads(line) for line in _said(build, environment).splitlines()]
    programs = {m["target"]["name"]: m["executable"] for m in built if m.get("executable")}
    return package["version"], programs


def _said(command, environment):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout


def tiny():
    """The tiny plugin's program: static, so that its root file system needs nothing else."""
    source, to = ROOT / "compat-tests/plugins/tiny.rs", TARGET / "tiny"
    if text := fresh(TARGET / "tiny.made-of", source):
        command = ["rustc", "--edition", "2024", "-O", "-C", "strip=symbols", "-C", "target-feature=+crt-static"]
        subprocess.run([*command, "-o", str(to), str(source)], check=True)
        (TARGET / "tiny.made-of").write_text(text)
    return to


# What each suite needs; all of it is here after it was called once.
NEEDS = {
    "docker-py": [python],
    "aiodocker": [python],
    "aiodocker-upstream": [python, aiodocker_sources],
    "python-on-whales": [python],
    "dockerode": [node],
    "bollard": [bollard],
    "bollard-upstream": [bollard],
    "schemathesis": [python],
}


def prepare(suites):
    """Brings and builds what these suites need, which takes no rights; returns bollard's tests if they are among it."""
    TARGET.mkdir(parents=True, exist_ok=True)
    tiny()
    needs = {need: None for suite in suites for need in NEEDS[suite]}
    return {need.__name__: need() for need in needs}.get("bollard")

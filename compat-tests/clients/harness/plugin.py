"""The tiny plugin (`compat-tests/plugins/tiny.rs`) as contexts, and in the registry for those who install.

Everything here goes through the stock docker CLI.
"""

import json
import os
import shutil
import subprocess

DIRECTORIES = ["dev", "etc", "proc", "run/docker/plugins", "sys", "tmp", "volumes"]
# What is in the registry besides: the plugin that bollard's own tests install from the public registry.
PUBLIC = "vieux/sshfs:latest"


def write_context(program, to, mark):
    """A directory as `docker plugin create` takes it; each mark makes other content."""
    for directory in DIRECTORIES:
        (to / "rootfs" / directory).mkdir(parents=True)
    shutil.copy(program, to / "rootfs/tiny")
    (to / "rootfs/etc/mark").write_text(mark)
    config = {
        "description": f"tiny {mark}",
        "documentation": "none",
        "interface": {"socket": "tiny.sock", "types": ["docker.volumedriver/1.0"]},
        "entrypoint": ["/tiny"],
        "workdir": "/",
        "args": {"name": "args", "value": [], "settable": ["value"]},
        "env": [
            {"name": "MODE", "value": "", "settable": ["value"]},
            {"name": "DEBUG", "value": "0", "settable": ["value"]},
            {"name": "FIXED", "value": "1"},
        ],
        "mounts": [],
        "network": {"type": "host"},
        "linux": {"capabilities": ["CAP_SYS_ADMIN"], "devices": []},
        "propagatedMount": "/volumes",
    }
    (to / "config.json").write_text(json.dumps(config))


class Contexts:
    """Contexts that differ, and what is pushed of them."""

    def __init__(self, program, place):
        self._program, self._place, self._count = program, place, 0

    def new(self):
        """Another context: dockerd refuses content that it has already."""
        self._count += 1
        to = self._place.path / f"context-{self._count}"
        write_context(self._program, to, f"{os.getpid()}.{self._count}")
        return to

    def publish(self, daemon, registry):
        """Puts `plugins/tiny:1`, `plugins/tiny:2` and PUBLIC into the registry."""
        for name in ("plugins/tiny:1", "plugins/tiny:2", PUBLIC):
            full = f"{registry.address}/{name}"
            for words in (["create", full, str(self.new())], ["push", full], ["rm", full]):
                subprocess.run(
                    ["docker", "-H", daemon.socket, "plugin", *words], check=True, stdout=subprocess.DEVNULL
                )

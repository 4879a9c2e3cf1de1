"""What the programs in Python share: a context of their own, names that nobody else uses, and where the registry is."""

import os
import pathlib
import shutil
import uuid

import pytest

CONTEXT = pathlib.Path(os.environ["CLIENTS_CONTEXT"])


@pytest.fixture
def context(tmp_path):
    """A directory that makes a plugin; no two have the same content."""
    to = tmp_path / "context"
    shutil.copytree(CONTEXT, to, symlinks=True)
    (to / "rootfs/etc/mark").write_text(uuid.uuid4().hex)
    return to


@pytest.fixture
def name():
    """A name without tag."""
    return f"a{uuid.uuid4().hex[:12]}"


@pytest.fixture
def registry():
    """HOST:PORT of the registry, which has plugins/tiny:1 and plugins/tiny:2."""
    return os.environ["CLIENTS_REGISTRY"]

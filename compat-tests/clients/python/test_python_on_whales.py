"""python-on-whales, which drives the docker CLI: plugin and volume commands, and what it reads from their output."""

import datetime

import pytest
from python_on_whales import DockerException, docker
from python_on_whales.exceptions import NoSuchVolume


@pytest.fixture(autouse=True)
def cleared():
    yield
    docker.volume.remove(docker.volume.list())
    for plugin in docker.plugin.list():
        plugin.remove(force=True)


@pytest.mark.parametrize("compress", [False, True])
def test_a_plugin_lives(context, name, compress):
    plugin = docker.plugin.create(name, context, compress=compress)
    assert (plugin.name, plugin.enabled) == (f"{name}:latest", False)
    assert plugin.settings.env == ["MODE=", "DEBUG=0", "FIXED=1"]
    plugin.set({"DEBUG": "1"})
    plugin.enable(timeout=30)
    plugin.reload()
    assert (plugin.enabled, "DEBUG=1" in plugin.settings.env) == (True, True)
    assert docker.plugin.list() == [plugin]
    plugin.disable()
    plugin.remove()
    assert docker.plugin.list() == []


def test_a_plugin_is_installed_upgraded_and_pushed(registry, name):
    plugin = docker.plugin.install(f"{registry}/plugins/tiny:1", {"DEBUG": "1"}, alias=name)
    assert (plugin.enabled, plugin.plugin_reference) == (True, f"{registry}/plugins/tiny:1")
    plugin.disable(force=True)
    docker.plugin.upgrade(plugin, f"{registry}/plugins/tiny:2", skip_remote_check=True)
    plugin.reload()
    assert plugin.plugin_reference == f"{registry}/plugins/tiny:2"
    assert "DEBUG=1" in plugin.settings.env
    full = f"{registry}/pushed/{name}:latest"
    pushed = docker.plugin.install(f"{registry}/plugins/tiny:1", alias=full, disable=True)
    docker.plugin.push(full)  # its own push names the id, which the CLI refuses
    pushed.remove()
    assert docker.plugin.install(full).enabled


def test_a_volume_lives(name):
    volume = docker.volume.create(name, labels={"a": "b"})
    assert (volume.name, volume.driver, volume.labels, volume.scope) == (name, "local", {"a": "b"}, "local")
    assert volume.mountpoint.parts[-2:] == (name, "_data")
    assert volume.exists()
    assert docker.volume.list(filters=[("label", "a=b")]) == [volume]
    assert docker.volume.list(filters=[("label", "a=c")]) == []
    volume.remove()
    assert not docker.volume.exists(name)


def test_a_volume_of_a_plugin_lives(context, name):
    plugin = docker.plugin.create(name, context)
    plugin.enable()
    volume = docker.volume.create("data", driver=name, options={"size": "1"})
    assert (volume.driver, volume.options, volume.status) == (f"{name}:latest", {"size": "1"}, {"kept": "here"})
    volume.remove()
    plugin.remove(force=True)


def test_volumes_are_pruned():
    kept = docker.volume.create("kept", labels={"keep": "yes"})
    docker.volume.create("named")
    docker.volume.prune(all=True, filters=[("label!", "keep=yes")])
    assert docker.volume.list() == [kept]


def test_events_are_read(name):
    docker.volume.create(name).remove()
    events = docker.system.events(since=datetime.timedelta(hours=1), filters={"volume": name})
    first, second = next(events), next(events)
    assert (first.action, second.action, first.actor.id) == ("create", "destroy", name)
    events.close()


def test_errors_are_its_exceptions(context, name):
    with pytest.raises(NoSuchVolume):
        docker.volume.inspect("no-such-volume")
    with pytest.raises(DockerException, match="no-such-plugin"):
        docker.plugin.inspect("no-such-plugin")
    with pytest.raises(DockerException, match="includes invalid characters"):
        docker.volume.create("a b")
    docker.plugin.create(name, context)
    with pytest.raises(DockerException, match="already exists"):
        docker.plugin.create(name, context)
    docker.plugin.enable(name)
    with pytest.raises(DockerException, match="is enabled"):
        docker.plugin.remove(name)


def test_the_daemon_tells_of_itself():
    assert "local" in docker.info().plugins.volume
    assert docker.version().server.api_version

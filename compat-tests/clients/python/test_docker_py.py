"""docker-py: plugins and volumes through its models and through its low-level API, and its exception classes."""

import itertools
import os

import docker
import pytest
from docker.errors import APIError, NotFound

DOCKERD = os.environ.get("COMPAT_DAEMON") == "dockerd"


@pytest.fixture
def client():
    client = docker.from_env()
    yield client
    for plugin in client.plugins.list():
        plugin.remove(force=True)
    for volume in client.volumes.list():
        volume.remove(force=True)
    client.close()


@pytest.fixture
def running(client, context, name):
    """An enabled plugin of the test's own."""
    plugin = client.plugins.create(name, str(context))
    plugin.enable(timeout=30)
    return plugin


def refused(status, said):
    """An APIError with this status whose explanation has these words, in any case."""
    def fits(error):
        return error.status_code == status and said in error.explanation.lower()
    return pytest.raises(APIError, check=fits)


def test_the_version_is_negotiated_and_the_daemon_tells_of_itself(client):
    assert client.ping() is True
    assert client.version()["ApiVersion"] == client.api.api_version
    assert "local" in client.info()["Plugins"]["Volume"]


@pytest.mark.parametrize("gzip", [False, True])
def test_a_plugin_is_created_of_a_directory(client, context, name, gzip):
    if gzip and DOCKERD:
        pytest.skip("dockerd takes plain archives only")
    plugin = client.plugins.create(name, str(context), gzip=gzip)
    assert plugin.name == f"{name}:latest"
    assert plugin.enabled is False
    assert plugin.settings["Env"] == ["MODE=", "DEBUG=0", "FIXED=1"]
    assert plugin.attrs["Config"]["Interface"]["Types"] == ["docker.volumedriver/1.0"]
    assert [p.id for p in client.plugins.list()] == [plugin.id]


def test_a_plugin_is_enabled_disabled_and_removed(client, running):
    assert running.enabled is True
    if not DOCKERD:  # which lists those that have been used
        assert running.name in client.info()["Plugins"]["Volume"]
    running.disable()
    assert running.enabled is False
    running.remove()
    with pytest.raises(NotFound):
        running.reload()
    assert client.plugins.list() == []


def test_settings_are_changed_while_a_plugin_is_disabled(client, context, name):
    plugin = client.plugins.create(name, str(context))
    plugin.configure({"DEBUG": "1"})
    assert "DEBUG=1" in plugin.settings["Env"]
    assert client.api.configure_plugin(name, ["DEBUG=2"]) is True
    assert "DEBUG=2" in client.api.inspect_plugin(name)["Settings"]["Env"]
    with refused(500 if DOCKERD else 400, '"fixed" is not settable'):
        plugin.configure({"FIXED": "2"})


def test_a_plugin_is_installed_with_what_it_asks_for(client, registry, name):
    remote = f"{registry}/plugins/tiny:1"
    asked = client.api.plugin_privileges(remote)
    assert [(p["Name"], p["Value"]) for p in asked] == [
        ("network", ["host"]), ("capabilities", ["CAP_SYS_ADMIN"]),
    ]
    plugin = client.plugins.install(remote, name)
    assert (plugin.name, plugin.enabled) == (f"{name}:latest", False)
    assert plugin.attrs["PluginReference"] == remote
    plugin.enable(timeout=30)
    assert plugin.enabled


def test_the_progress_of_a_pull_is_told_line_by_line(client, registry, name):
    remote = f"{registry}/plugins/tiny:1"
    lines = list(client.api.pull_plugin(remote, client.api.plugin_privileges(remote), name))
    assert any(line.get("status", "").startswith("Digest: sha256:") for line in lines)
    assert not [line for line in lines if "error" in line]


def test_nothing_is_installed_without_consent(client, registry, name):
    lines = list(client.api.pull_plugin(f"{registry}/plugins/tiny:1", [], name))
    assert "incorrect privileges" in lines[-1]["error"]
    assert client.plugins.list() == []


def test_a_plugin_is_pushed_and_installed_again(client, context, registry, name):
    full = f"{registry}/pushed/{name}:latest"
    plugin = client.plugins.create(full, str(context))
    # Its own push is a POST to `…/pull`, which nobody has.
    with refused(404, "page not found"):
        plugin.push()
    lines = list(client.api._stream_helper(client.api._post(client.api._url("/plugins/{0}/push", full)), decode=True))
    assert not [line for line in lines if "error" in line]
    plugin.remove()
    assert client.plugins.install(full).name == full


def test_a_disabled_plugin_is_upgraded(client, registry, name):
    plugin = client.plugins.install(f"{registry}/plugins/tiny:1", name)
    before = plugin.attrs["Config"]["Description"]
    list(plugin.upgrade(f"{registry}/plugins/tiny:2"))
    assert plugin.attrs["Config"]["Description"] != before
    assert plugin.attrs["PluginReference"] == f"{registry}/plugins/tiny:2"
    plugin.enable(timeout=30)
    remote = f"{registry}/plugins/tiny:1"
    with refused(409, "must be disabled"):
        list(client.api.upgrade_plugin(name, remote, client.api.plugin_privileges(remote)))


def test_errors_of_plugins_are_its_exceptions(client, context, registry, running):
    with pytest.raises(NotFound, match="no-such-plugin"):
        client.plugins.get("no-such-plugin")
    with pytest.raises(NotFound):
        client.api.remove_plugin("no-such-plugin")
    with pytest.raises(NotFound):
        client.api.enable_plugin("no-such-plugin")
    with refused(409, "already exists"):
        client.api.create_plugin(running.name, str(context))
    with refused(409, "is enabled"):
        running.remove()
    with refused(409, "already enabled"):
        client.api.enable_plugin(running.name)
    with refused(400, "invalid reference format"):
        client.api.create_plugin("a b", str(context))
    running.disable()
    with refused(409, "already disabled"):
        client.api.disable_plugin(running.name)
    with pytest.raises(APIError):
        client.plugins.install(f"{registry}/plugins/absent:1")


def test_a_volume_lives(client, name):
    volume = client.volumes.create(name, driver="local", labels={"a": "b"})
    assert volume.attrs["Labels"] == {"a": "b"}
    assert volume.attrs["Mountpoint"].endswith(f"/{name}/_data")
    assert client.volumes.get(name).id == volume.id
    assert client.api.inspect_volume(name)["Driver"] == "local"
    volume.remove()
    with pytest.raises(NotFound, match=name):
        volume.reload()


def test_a_volume_of_a_plugin_lives(client, running, name):
    volume = client.volumes.create("data", driver=running.name, driver_opts={"size": "1"})
    assert volume.attrs["Driver"] == running.name
    volume.reload()
    assert volume.attrs["Status"] == {"kept": "here"}
    with refused(409, "in use"):
        running.disable()
    volume.remove()
    assert client.volumes.list() == []


def test_volumes_are_filtered(client):
    for volume, labels in {"red": {"colour": "red"}, "blue": {"colour": "blue"}, "plain": {}}.items():
        client.volumes.create(volume, labels=labels)

    def names(**filters):
        return sorted(volume.name for volume in client.volumes.list(filters=filters))

    assert names() == ["blue", "plain", "red"]
    assert names(label="colour") == ["blue", "red"]
    assert names(label="colour=red") == ["red"]
    assert names(name="l") == ["blue", "plain"]
    assert names(driver="local", dangling=True) == ["blue", "plain", "red"]
    assert names(dangling=False) == []
    with refused(400, "invalid filter"):
        names(colour="red")


def test_volumes_are_pruned(client):
    kept = client.volumes.create("kept", labels={"keep": "yes"})
    client.volumes.create("named")
    client.volumes.create()
    if not DOCKERD:  # 20.10 has no `all`: named ones go as well
        assert len(client.volumes.prune()["VolumesDeleted"]) == 1
        pruned = client.volumes.prune(filters={"all": True, "label!": ["keep=yes"]})
        assert pruned == {"VolumesDeleted": ["named"], "SpaceReclaimed": 0}
    else:
        client.volumes.prune(filters={"label!": ["keep=yes"]})
    assert client.volumes.list() == [kept]
    assert client.volumes.prune(filters={"label": ["no-such-label"]})["VolumesDeleted"] in ([], None)


def test_errors_of_volumes_are_its_exceptions(client, name):
    client.volumes.create(name)
    with pytest.raises(NotFound):
        client.volumes.get("no-such-volume")
    with pytest.raises(NotFound):
        client.api.remove_volume("no-such-volume")
    # It forgets to send `force`, which would make this fine.
    with pytest.raises(NotFound):
        client.api.remove_volume("no-such-volume", force=True)
    with refused(400, "includes invalid characters"):
        client.volumes.create("a b")
    with refused(400, "invalid option"):
        client.volumes.create("other", driver_opts={"nonsense": "1"})


def test_events_come_as_things_happen(client, context, name):
    events = client.events(decode=True, filters={"type": ["plugin", "volume"]})
    plugin = client.plugins.create(name, str(context))
    plugin.enable(timeout=30)
    volume = client.volumes.create("seen", driver=plugin.name)
    volume.remove()
    plugin.disable()
    plugin.remove()
    dockerd_knows = {"create", "enable", "disable", "remove", "destroy"}
    known = (e for e in events if e["Action"] in dockerd_knows)
    seen = [(e["Type"], e["Action"]) for e in itertools.islice(known, 6)]
    events.close()
    assert seen == [
        ("plugin", "create"), ("plugin", "enable"), ("volume", "create"), ("volume", "destroy"),
        ("plugin", "disable"), ("plugin", "remove"),
    ]


def test_past_events_are_told_again(client, name):
    events = client.events(decode=True, since=0, filters={"volume": name})
    client.api.create_volume(name)
    client.api.remove_volume(name)
    last = list(itertools.islice(events, 2))[1]["timeNano"]
    events.close()
    until = f"{last // 10**9}.{last % 10**9:09}"
    past = list(client.events(decode=True, since=0, until=until, filters={"volume": name}))
    assert [event["Action"] for event in past] == ["create", "destroy"]
    assert past[0]["Actor"] == {"ID": name, "Attributes": {"driver": "local"}}


def test_df_knows_the_volumes(client, name):
    client.volumes.create(name)
    volumes = client.df()["Volumes"]
    assert [v["Name"] for v in volumes] == [name]
    assert volumes[0]["UsageData"] == {"RefCount": 0, "Size": 0}


@pytest.mark.skipif(DOCKERD, reason="dockerd runs containers")
def test_what_is_not_here_says_so(client):
    with refused(501, "container"):
        client.containers.list()

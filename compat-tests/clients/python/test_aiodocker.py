"""aiodocker: volumes, events and errors through its classes, plugins through the requests that it builds on."""

import asyncio
import io
import json
import tarfile

import aiodocker
import pytest
import pytest_asyncio
from aiodocker.exceptions import DockerError


@pytest_asyncio.fixture
async def docker():
    docker = aiodocker.Docker()
    yield docker
    for plugin in await docker._query_json("plugins"):
        await done(docker, f"plugins/{plugin['Name']}", "DELETE", params={"force": "1"})
    for volume in (await docker.volumes.list())["Volumes"]:
        await (await docker.volumes.get(volume["Name"])).delete(force=True)
    await docker.close()


async def done(docker, path, method="POST", **rest):
    """A request of whose answer only the status counts."""
    async with docker._query(path, method, **rest) as response:
        await response.read()
        return response.status


async def pulled(docker, path, **params):
    """The lines of a pull or an upgrade with all that is asked for."""
    privileges = await docker._query_json("plugins/privileges", params={"remote": params["remote"]})
    body = json.dumps(privileges).encode()
    headers = {"Content-Type": "application/json"}
    async with docker._query(path, "POST", params=params, data=body, headers=headers) as response:
        return [json.loads(line) for line in (await response.text()).splitlines()]


def archive(context):
    """The context as a tar."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as to:
        to.add(context, ".")
    return tar.getvalue()


async def create(docker, name, context):
    """Makes a plugin."""
    headers = {"Content-Type": "application/x-tar"}
    return await done(docker, "plugins/create", params={"name": name}, data=archive(context), headers=headers)


async def test_the_version_is_negotiated(docker):
    assert docker.api_version == "auto"
    version = await docker.version()
    assert docker.api_version.removeprefix("v") == version["ApiVersion"]


async def test_a_plugin_is_created_enabled_and_removed(docker, context, name):
    assert await create(docker, name, context) == 204
    assert await done(docker, f"plugins/{name}/enable", params={"timeout": "30"}) == 200
    (plugin,) = await docker._query_json("plugins")
    assert (plugin["Name"], plugin["Enabled"]) == (f"{name}:latest", True)
    assert await done(docker, f"plugins/{name}/disable") == 200
    assert await done(docker, f"plugins/{name}", "DELETE") == 200
    assert await docker._query_json("plugins") == []


async def test_a_plugin_is_installed_set_and_upgraded(docker, registry, name):
    lines = await pulled(docker, "plugins/pull", remote=f"{registry}/plugins/tiny:1", name=name)
    assert not [line for line in lines if "error" in line]
    body = json.dumps(["DEBUG=1"]).encode()
    headers = {"Content-Type": "application/json"}
    assert await done(docker, f"plugins/{name}/set", data=body, headers=headers) == 204
    lines = await pulled(docker, f"plugins/{name}/upgrade", remote=f"{registry}/plugins/tiny:2")
    assert not [line for line in lines if "error" in line]
    plugin = await docker._query_json(f"plugins/{name}/json")
    assert plugin["PluginReference"] == f"{registry}/plugins/tiny:2"


async def test_a_volume_of_a_plugin_lives(docker, context, name):
    await create(docker, name, context)
    await done(docker, f"plugins/{name}/enable", params={"timeout": "30"})
    volume = await docker.volumes.create({"Name": "data", "Driver": name, "DriverOpts": {"size": "1"}})
    shown = await volume.show()
    assert (shown["Driver"], shown["Status"]) == (f"{name}:latest", {"kept": "here"})
    listed = await docker.volumes.list(filters={"driver": f"{name}:latest"})
    assert [v["Name"] for v in listed["Volumes"]] == ["data"]
    await volume.delete()
    assert (await docker.volumes.list())["Volumes"] == []


async def test_many_clients_at_once_create_and_remove(docker):
    names = [f"at-once-{n}" for n in range(50)]
    volumes = await asyncio.gather(*(docker.volumes.create({"Name": n}) for n in names))
    assert sorted(v["Name"] for v in (await docker.volumes.list())["Volumes"]) == sorted(names)
    await asyncio.gather(*(volume.delete() for volume in volumes))
    assert (await docker.volumes.list())["Volumes"] == []


async def test_events_reach_every_subscriber(docker, name):
    first = docker.events.subscribe(filters='{"type": ["volume"]}', since="0")
    second = docker.events.subscribe()
    await (await docker.volumes.create({"Name": name})).delete()

    async def own(subscriber):
        """What is told of this volume: kept events of other tests come before."""
        actions = []
        while len(actions) < 2:
            event = await subscriber.get()
            if event["Actor"]["ID"] == name:
                actions.append(event["Action"])
        return actions

    assert await own(first) == ["create", "destroy"]
    assert await own(second) == ["create", "destroy"]
    await docker.events.stop()


@pytest.mark.parametrize(("path", "method", "status", "said"), [
    ("plugins/no-such-plugin/json", "GET", 404, "no-such-plugin"),
    ("plugins/no-such-plugin/enable?timeout=0", "POST", 404, "no-such-plugin"),
    ("plugins/create?name=a:b:c", "POST", 400, "invalid reference format"),
    ("volumes/no-such-volume", "GET", 404, "no such volume"),
    ("volumes/no-such-volume", "DELETE", 404, "no such volume"),
    ("volumes?filters=nonsense", "GET", 400, "invalid"),
])
async def test_errors_carry_status_and_words(docker, path, method, status, said):
    with pytest.raises(DockerError) as error:
        await done(docker, path, method)
    assert (error.value.status, said in error.value.message) == (status, True)


async def test_a_name_that_is_taken_is_a_conflict(docker, context, name):
    await create(docker, name, context)
    (context / "rootfs/etc/mark").write_text("other")
    with pytest.raises(DockerError, match="already exists") as error:
        await create(docker, name, context)
    assert error.value.status == 409

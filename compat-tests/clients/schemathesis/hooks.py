"""What schemathesis cannot know of the daemon: which plugins and volumes there are, and what never ends.

Half of the requests about a plugin or a volume are about one that exists: it is made again when an earlier request has
removed it. Nothing here judges an answer.
"""

import functools
import http.client
import json
import os
import pathlib
import zlib

import schemathesis
from schemathesis.transport.serialization import serialize_binary

ADDRESS = os.environ["CLIENTS_TCP"].removeprefix("tcp://")
REGISTRY = os.environ["CLIENTS_REGISTRY"]
CONTEXT = pathlib.Path(os.environ["CLIENTS_CONTEXT_TAR"]).read_bytes()
PLUGINS = ["fuzz-a", f"{REGISTRY}/fuzz/b:latest"]
VOLUMES = ["fuzz-1", "fuzz-2"]
STREAMS = ["SystemEvents", "PluginPull", "PluginPush", "PluginUpgrade", "PluginLoad"]
REMOTES = [f"{REGISTRY}/plugins/tiny:1", f"{REGISTRY}/plugins/tiny:2", f"{REGISTRY}/plugins/absent:1"]
# What the tiny plugin asks for.
GRANTED = [{"Name": "network", "Value": ["host"]}, {"Name": "capabilities", "Value": ["CAP_SYS_ADMIN"]}]


def ask(method, path, body=b"", kind="application/json"):
    """A request of our own; its status and what it answers."""
    connection = http.client.HTTPConnection(ADDRESS)
    connection.request(method, path, body, {"Content-Type": kind})
    answer = connection.getresponse()
    said = answer.status, answer.read()
    connection.close()
    return said


def plugin(name):
    """Makes a plugin unless it exists."""
    if ask("GET", f"/plugins/{name}/json")[0] == 404:
        status, said = ask("POST", f"/plugins/create?name={name}", CONTEXT, "application/x-tar")
        if status != 204:
            raise RuntimeError(f"creating {name}: {status} {said}")
    return name


@functools.cache
def saved():
    """A plugin as `GET /plugins/{name}/get` gives it."""
    return ask("GET", f"/plugins/{plugin(PLUGINS[0])}/get")[1]


def volume(name):
    """Makes a volume unless it exists."""
    status, said = ask("POST", "/volumes/create", json.dumps({"Name": name}))
    if status != 201:
        raise RuntimeError(f"creating {name}: {status} {said}")
    return name


def chosen(case, number):
    """The same number below `number` for the same request, whatever ran before."""
    words = f"{case.method} {case.formatted_path} {case.query} {case.headers} {case.body}"
    return zlib.crc32(words.encode(errors="replace")) % number


@schemathesis.hook
def before_call(context, case, kwargs):
    """Names what exists in half of the requests, and bounds what would go on for ever."""
    path = case.operation.path
    named = isinstance(case.path_parameters, dict) and "name" in case.path_parameters
    if named and chosen(case, 2):
        if path.startswith("/plugins/"):
            name = plugin(PLUGINS[chosen(case, 4) // 2])
            if path.endswith("/disable"):
                ask("POST", f"/plugins/{name}/enable?timeout=0")
            case.path_parameters["name"] = name
        else:
            case.path_parameters["name"] = volume(VOLUMES[chosen(case, 4) // 2])
    if "remote" in (case.query or {}) and chosen(case, 2):
        case.query["remote"] = REMOTES[chosen(case, 6) // 2]
        if case.method == "POST" and chosen(case, 4) > 1:
            case.body = GRANTED
    takes_archive = ("/plugins/create", "/plugins/load", "/plugins/privileges")
    if path in takes_archive and case.method == "POST" and chosen(case, 2):
        case.body = CONTEXT if path == "/plugins/create" else saved()
        if path == "/plugins/load" and chosen(case, 4) > 1:
            case.query["privileges"] = json.dumps(GRANTED)
    if path == "/auth" and isinstance(case.body, dict) and chosen(case, 2):
        case.body["serveraddress"] = REGISTRY
    if path == "/events":
        # Without an end it goes on for ever.
        case.query["until"] = "1"
    if path.endswith("/logs"):
        case.query.pop("follow", None)


@schemathesis.hook
def after_call(context, case, response):
    """Shows a stream of JSON objects, which OpenAPI has no word for, as its last one; an empty stream as `{}`.

    A stream with a line that is no JSON stays as it is, and fails.
    """
    if case.operation.definition.raw.get("operationId") in STREAMS and response.status_code == 200:
        lines = response.content.splitlines()
        try:
            for line in lines:
                json.loads(line)
        except ValueError:
            return
        response.content = lines[-1] if lines else b"{}"


@schemathesis.serializer("application/x-tar")
def tar(context, value):
    """Bytes as they are: most of them are no archive."""
    return serialize_binary(value)

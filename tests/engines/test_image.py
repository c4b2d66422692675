"""The image on a real engine: `make image-test` builds it and runs this."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engines.containers import Container, docker
from tests.engines.waiting import until

IMAGE = os.environ.get("IMAGE_UNDER_TEST", "")
BASE = os.environ.get("IMAGE_BASE", "")
pytestmark = [
    pytest.mark.skipif(not IMAGE, reason="needs a Docker engine: make image-test"),
    pytest.mark.timeout(600),
]

UPSTREAM = ("--upstream", "http://127.0.0.1:8081")
LOCKED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
Start = Callable[..., Container]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a container: the engine's options, then `then` for the image's own command."""
    made: list[str] = []

    def begin(*options: str, then: tuple[str, ...] = ("serve", *UPSTREAM)) -> Container:
        name = f"graph-sidecar-test-{uuid.uuid4().hex[:12]}"
        made.append(name)
        network = () if "--network" in options else ("--network", "none")
        docker("run", "--detach", "--name", name, *network, *options, IMAGE, *then)
        return Container(name)

    yield begin
    for name in reversed(made):
        docker("rm", "--force", "--volumes", name, check=False)


@pytest.fixture
def graph(start: Start) -> Container:
    """The offline Graph, in a network of its own that sidecars may share."""
    return _graph(start)


def _graph(start: Start, *words: str) -> Container:
    graph = start(then=("emulate", *words))
    until(lambda: "the offline Graph is" in graph.log, "the offline Graph")
    return graph


def _beside(graph: Container) -> tuple[str, str]:
    return ("--network", f"container:{graph.name}")


def _mode(container: Container, path: str, token: str = "ann-0123456789") -> str:
    status, fields, body = container.fetch(path, token=token)
    assert status == 200, body
    return fields["Cache-Status"].partition("; ")[2]


# --- what is in it


def test_what_rides_along() -> None:
    """No pip, no build backend, no sources of the build; the standard library and the packages are compiled."""
    look = (
        "import importlib.util as u, json, os, proxy.app, aiohttp, email; "
        "print(json.dumps([[n for n in ('pip','hatchling','ensurepip') if u.find_spec(n)], "
        "[p for p in ('/src','/opt/build') if os.path.exists(p)], "
        "[m.__name__ for m in (proxy.app, aiohttp, email) if not os.path.exists(m.__cached__)]]))"
    )
    told = docker("run", "--rm", "--network", "none", "--entrypoint", "python", IMAGE, "-c", look)
    if "python3-pip" in BASE or BASE.startswith("graph-sidecar-base"):  # Debian's own pip is the base's
        told = told.replace('["pip"]', "[]")
    assert json.loads(told) == [[], [], []]


def test_what_it_weighs() -> None:
    """At most 80 MB above its base."""
    size = {name: int(docker("image", "inspect", "--format", "{{.Size}}", name)) for name in (IMAGE, BASE)}
    print(f"\nimage: {size[IMAGE] / 1e6:.0f} MB, of which {size[BASE] / 1e6:.0f} MB are {BASE}")
    assert size[IMAGE] - size[BASE] < 80e6


# --- as whom, and on what


@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), id="as it comes"),
        pytest.param(LOCKED, id="read-only"),
        pytest.param((*LOCKED, "--user", "471147"), id="any user"),
        pytest.param((*LOCKED, "--user", "471147:471147"), id="any user and group"),
        pytest.param(
            (*LOCKED, "--tmpfs", "/var/cache/graph-sidecar:size=64m", "--tmpfs", "/var/lib/graph-sidecar:size=1m"),
            id="in memory",
        ),
        pytest.param(("--init",), id="behind an init"),
    ],
)
def test_it_runs_and_keeps(start: Start, graph: Container, options: tuple[str, ...]) -> None:
    """It asks Graph, holds the answer on disk, and says that it is well; nothing in its log is a warning of trouble."""
    ours = start(*_beside(graph), *options)
    ours.until_ready()
    assert _mode(ours, "/v25.0/me") == "fwd=uri-miss; stored"
    assert _mode(ours, "/v25.0/me") == "fwd=stale; fwd-status=304"
    until(lambda: ours.stats()["store"]["disk_entries"] == 1, "the entry on disk")
    until(lambda: ours.health != "starting", "the first health check")
    assert ours.health == "healthy"
    assert "rests" not in ours.log


def test_a_named_volume_serves_one_user_after_the_other(start: Start, graph: Container) -> None:
    """What a container held, the next one with its volumes revalidates."""
    volumes = [f"{uuid.uuid4().hex}:{place}" for place in ("/var/cache/graph-sidecar", "/var/lib/graph-sidecar")]
    options = (*_beside(graph), *(word for volume in volumes for word in ("--volume", volume)), "--user", "5005:0")
    first = start(*options)
    first.until_ready()
    assert _mode(first, "/v25.0/me") == "fwd=uri-miss; stored"
    docker("stop", first.name)
    second = start(*options)
    second.until_ready()
    assert _mode(second, "/v25.0/me") == "fwd=stale; fwd-status=304"
    docker("rm", "--force", first.name, second.name)
    docker("volume", "rm", *(volume.partition(":")[0] for volume in volumes))


# --- what it does besides serving


def test_the_authority_is_made_and_used(start: Start, graph: Container) -> None:
    """`ca init`, `run --` and CONNECT work as they do elsewhere."""
    assert "signs for" in docker("run", "--rm", "--network", "none", *LOCKED, IMAGE, "ca", "init")
    seen = ("python", "-c", "import os; print(os.environ['HTTPS_PROXY'], os.environ['SSL_CERT_FILE'])")
    ran = docker("run", "--rm", *_beside(graph), IMAGE, "run", *UPSTREAM, "--", *seen)
    assert ran.startswith("http://127.0.0.1:")
    ours = start(*_beside(graph))
    ours.until_ready()
    ask = (
        "import http.client, ssl; "
        "c = http.client.HTTPSConnection('127.0.0.1', 8080, context=ssl._create_unverified_context()); "
        "c.set_tunnel('graph.facebook.com', 443); c.request('GET', '/v25.0/me?access_token=anything');"
        "print(c.getresponse().status)"
    )
    assert ours.run("python", "-c", ask) == "200"


def test_a_mounted_file_beats_the_image(start: Start, graph: Container, tmp_path: Path) -> None:
    """Every setting that the image has a default for is the file's where the file names it, and no others change."""
    file = tmp_path / "graph-sidecar.toml"
    file.write_text(
        'listen = "127.0.0.1:8088"\nadmin = "127.0.0.1:9188"\n'
        '[cache]\ndir = "/var/cache/graph-sidecar/mine"\nkey_file = "/var/lib/graph-sidecar/mine"\n'
    )
    mounted = ("--volume", f"{file}:/etc/graph-sidecar.toml:ro")
    ours = start(*_beside(graph), *mounted, then=("serve", "--config", "/etc/graph-sidecar.toml", *UPSTREAM))
    ours.until_ready()
    assert ours.fetch("/v25.0/me", token="ann-0123456789", port=8088)[0] == 200
    assert ours.fetch("/readyz", port=9188)[0] == 200
    assert ours.run("python", "-c", "import os; print(sorted(os.listdir('/var/lib/graph-sidecar')))") == "['mine']"
    until(lambda: ours.health != "starting", "the first health check")
    assert ours.health == "healthy"
    named = ("--env", "GRAPH_SIDECAR_CONFIG=/etc/graph-sidecar.toml")
    found = docker("run", "--rm", "--network", "none", *mounted, *named, IMAGE, "check")
    origins = {line.split(" = ")[0]: line.partition("  # ")[2] for line in found.splitlines() if "  # " in line}
    assert origins["listen"] == origins["cache.dir"] == "/etc/graph-sidecar.toml"
    assert origins["drain_s"].endswith("defaults.toml")


def test_a_changed_file_is_taken_while_it_runs(start: Start, graph: Container, tmp_path: Path) -> None:
    """As a ConfigMap is: the folder is mounted, a variable names the file, a command inside has it read again."""
    tmp_path.chmod(0o755)
    file = tmp_path / "graph-sidecar.toml"
    file.write_text("[cache]\nfresh_s = 0\n")
    named = ("--env", "GRAPH_SIDECAR_CONFIG=/etc/graph-sidecar/graph-sidecar.toml")
    ours = start(*_beside(graph), *LOCKED, "--volume", f"{tmp_path}:/etc/graph-sidecar:ro", *named)
    ours.until_ready()
    (tmp_path / "new").write_text("[cache]\nfresh_s = 60\n")
    (tmp_path / "new").rename(file)
    assert ours.run("graph-sidecar", "reload") == "reloaded: cache.fresh_s"
    _mode(ours, "/v25.0/me")
    assert _mode(ours, "/v25.0/me").startswith("hit")


@pytest.mark.parametrize(
    "command",
    [
        ("serve", "--admin", "127.0.0.1:9999"),
        ("serve", "--set", "admin=127.0.0.1:9998"),
        ("emulate",),
        ("emulate", "--listen", "127.0.0.1:8099"),
    ],
    ids=" ".join,
)
def test_its_health_is_that_of_what_it_runs(start: Start, command: tuple[str, ...]) -> None:
    """The check asks where flags put the admin listener, and the offline Graph where that runs."""
    ours = start(then=command)
    until(lambda: ours.health != "starting", "the first health check")
    assert ours.health == "healthy"


def test_it_says_that_it_is_not_well(start: Start) -> None:
    """A process that does not answer any more is told as unhealthy."""
    ours = start("--health-interval", "1s", "--health-retries", "2", "--health-timeout", "2s")
    until(lambda: ours.health == "healthy", "health")
    docker("kill", "--signal", "STOP", ours.name)
    until(lambda: ours.health == "unhealthy", "its fall")


COST = """
import resource, subprocess
def spent():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
costs = []
for _ in range(5):
    before = spent()
    subprocess.run(["python", "-m", "proxy.health"], check=True, stdout=subprocess.DEVNULL)
    costs.append(spent() - before)
print(costs[0], min(costs[1:]))
"""


def test_what_a_health_check_costs(start: Start) -> None:
    """Printed, and not judged: seconds of processor of the first check and of a later one."""
    ours = start()
    ours.until_ready()
    first, later = map(float, ours.run("python", "-c", COST).split())
    print(
        f"\na health check takes {first * 1000:.0f} ms of processor the first time, {later * 1000:.0f} ms from then on"
    )


# --- its end, and its limits

LOAD = """
import http.client, json, sys, threading, time
told, lock = {"answered": 0, "busy": 0, "refused": 0, "broken": []}, threading.Lock()
def client(number):
    serial = 0
    while True:
        serial += 1
        connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=60)
        try:
            connection.connect()
        except OSError:
            with lock: told["refused"] += 1
            return
        try:
            connection.request("GET", f"/v25.0/{number}0{serial}", headers={"Authorization": "Bearer ann-0123456789"})
            reply = connection.getresponse()
            reply.read()
            with lock: told["answered" if reply.status == 200 else "busy"] += 1
        except (OSError, http.client.HTTPException) as error:
            with lock: told["broken"].append(repr(error))
threads = [threading.Thread(target=client, args=(number,)) for number in range(100, 120)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(told), flush=True)
"""


def test_docker_stop_under_load(start: Start) -> None:
    """Whoever had connected gets an answer, within the 10 s that `docker stop` waits; the status is 0."""
    graph = _graph(start, "--latency-ms", "300")
    ours = start(*_beside(graph))
    ours.until_ready()
    words = ["docker", "exec", graph.name, "python", "-c", LOAD]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as load:
        until(lambda: ours.stats()["calls"]["asked"] > 100, "traffic")
        docker("stop", ours.name)
        said, wrong = load.communicate(timeout=60)
    assert json.loads(said)["broken"] == [], said + wrong
    assert json.loads(said)["answered"] > 100
    assert (ours.state["ExitCode"], ours.state["OOMKilled"]) == (0, False)
    assert "done" in ours.log


def test_killed_and_started_again(start: Start, graph: Container) -> None:
    """What was on disk when it was killed is revalidated by the next run."""
    ours = start(*_beside(graph))
    ours.until_ready()
    for number in range(1, 21):
        ours.fetch(f"/v25.0/9{number}", token="ann-0123456789")
    until(lambda: ours.stats()["store"]["disk_entries"] == 20, "the entries on disk")
    docker("kill", "--signal", "KILL", ours.name)
    until(lambda: not ours.state["Running"], "its end")
    docker("start", ours.name)
    until(lambda: ours.log.count("serving") == 2, "its second run")
    assert _mode(ours, "/v25.0/97") == "fwd=stale; fwd-status=304"


HUNDRED = """
import http.client, threading, time
wrong, lock = [], threading.Lock()
def client(number):
    for _ in range(60):
        connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=300)
        connection.request("GET", f"/v25.0/7{number:03}", headers={"Authorization": "Bearer ann-0123456789"})
        reply = connection.getresponse()
        size = len(reply.read())
        connection.close()
        if reply.status != 503:  # a busy processor says when to come back
            break
        time.sleep(float(reply.headers["Retry-After"]))
    if reply.status != 200 or size < 900_000:
        with lock: wrong.append((reply.status, size))
for _ in range(3):
    threads = [threading.Thread(target=client, args=(number,)) for number in range(100)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
print(len(wrong), wrong[:3])
"""


def test_a_hundred_large_answers_within_256_mib(start: Start) -> None:
    """A hundred answers of 1 MB at once, three times: all arrive, and the container's limit is not met."""
    graph = _graph(start, "--set", "body_bytes=1000000")
    ours = start(*_beside(graph), "--memory", "256m", "--memory-swap", "256m")
    ours.until_ready()
    assert graph.run("python", "-c", HUNDRED).startswith("0 "), ours.log[-2000:]
    peak = ours.run("python", "-c", "print([l for l in open('/proc/1/status') if 'VmHWM' in l][0].split()[1])")
    print(f"\na hundred answers of 1 MB at once, three times: {int(peak) / 1024:.0f} MiB at the most")
    assert not ours.state["OOMKilled"]
    assert ours.state["Running"]

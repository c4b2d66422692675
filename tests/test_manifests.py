"""What is shipped for Kubernetes, Prometheus, systemd and containers fits the program, and what it is given to."""

from __future__ import annotations

import asyncio
import configparser
import copy
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from proxy import cli
from proxy.cli.client_commands import reload
from proxy.cli.server_commands import serve
from proxy.core.shared.location import read_location
from proxy.settings import Settings
from proxy.settings.load import load
from proxy.shell.valkey.link import Away, Dialer
from tests.shell.valkey.servers import program

ROOT = Path(__file__).parents[1]
KUBERNETES = ROOT / "config" / "kubernetes"
DEFAULTS = ROOT / "config" / "container" / "defaults.toml"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
VERSIONS = ("1.29.0", "1.33.0", "1.37.0")  # native sidecars are on by default since the first, stable since the second
KINDS_OF_OTHERS = {"Kustomization", "Component", "PodMonitor", "PrometheusRule"}  # Kubernetes has no schema of these
PATCHES = {"sidecar/pod.yaml", "sidecar/cronjob.yaml", "monitored/token.yaml", "fleet/settings.yaml"}
APPLIED = ("example", "shared", "fleet", "monitoring", "monitored")
NAMESPACE = "team"


def manifests() -> Iterator[tuple[str, Any]]:
    """Every object that is shipped, by its file."""
    for file in sorted(KUBERNETES.rglob("*.yaml")):
        (found,) = yaml.safe_load_all(file.read_text())
        yield str(file.relative_to(KUBERNETES)), found


MANIFESTS = dict(manifests())


def pod_of(workload: Any) -> Any:
    """The pod template of a workload."""
    spec = workload["spec"]
    return spec["jobTemplate"]["spec"]["template"] if workload["kind"] == "CronJob" else spec["template"]


def with_sidecar(workload: Any) -> Any:
    """*workload* with what the component gives it: its labels, its container before all others, its volumes."""
    made = copy.deepcopy(workload)
    name = "cronjob" if workload["kind"] == "CronJob" else "pod"
    given, pod = pod_of(MANIFESTS[f"sidecar/{name}.yaml"]), pod_of(made)
    pod["metadata"]["labels"] |= given["metadata"]["labels"]
    for key, value in given["spec"].items():
        pod["spec"][key] = [*value, *pod["spec"].get(key, ())]
    return made


EXAMPLES = {name: with_sidecar(each) for name, each in MANIFESTS.items() if name in {
    "example/deployment.yaml", "example/job.yaml", "example/cronjob.yaml"}}  # fmt: skip
WORKLOADS = {"shared/deployment.yaml": MANIFESTS["shared/deployment.yaml"], **EXAMPLES}


def sidecar(workload: Any) -> Any:
    """Our container in a workload."""
    pod = pod_of(workload)["spec"]
    return next(
        each for each in (*pod.get("initContainers", ()), *pod["containers"]) if each["name"] == "graph-sidecar"
    )


def environ(container: Any) -> dict[str, str]:
    """The variables that a container is given, as the kubelet fills them."""
    found = {each["name"]: each.get("value", NAMESPACE) for each in container["env"]}
    return {name: re.sub(r"\$\((\w+)\)", lambda match: found[match[1]], value) for name, value in found.items()}


def settings_of(name: str, container: Any) -> Settings:
    """What our container runs with: the image's defaults, the file of its ConfigMap, its variables."""
    given = {name: value for name, value in environ(container).items() if name.startswith("GRAPH_SIDECAR_")}
    mounted = Path(given["GRAPH_SIDECAR_CONFIG"])
    (mount,) = (each["mountPath"] for each in container["volumeMounts"] if each["name"] == "graph-sidecar-settings")
    assert mounted.parent == Path(mount)
    file = KUBERNETES / Path(name).parent / mounted.name
    given |= {"GRAPH_SIDECAR_CONFIG": str(file), "GRAPH_SIDECAR_DEFAULTS": str(DEFAULTS)}
    return load(environ=given).settings


@pytest.mark.parametrize("name", [name for name, each in MANIFESTS.items() if each["kind"] not in KINDS_OF_OTHERS])
@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_it(name: str, version: str) -> None:
    """Each object has the shape that Kubernetes' own schema gives it, and no field beyond it."""
    if name in PATCHES:
        pytest.skip("a patch is no whole object; it is validated where it is laid over one")
    kubernetes_validate.validate(WORKLOADS.get(name, MANIFESTS[name]), version, strict=True)


@pytest.mark.parametrize("folder", [*APPLIED, "sidecar"])
def test_a_folder_is_whole(folder: str) -> None:
    """What a kustomization names is there, and every file is named."""
    made = MANIFESTS[f"{folder}/kustomization.yaml"]
    maps = [file for each in made.get("configMapGenerator", ()) for file in each["files"]]
    named = [
        *made.get("resources", ()),
        *made.get("components", ()),
        *maps,
        *(each["path"] for each in made.get("patches", ())),
    ]
    assert all((KUBERNETES / folder / name).exists() for name in named)
    there = {file.name for file in (KUBERNETES / folder).iterdir()} - {"kustomization.yaml"}
    assert there == {name for name in named if not name.startswith("..")}


@pytest.mark.parametrize("folder", APPLIED)
def test_an_overlay_comes_out_whole(folder: str) -> None:
    """Kubectl builds it, and what it builds is valid, patches and all; the component's container comes first."""
    if not shutil.which("kubectl"):
        pytest.skip("no kubectl here")
    words = ["kubectl", "kustomize", str(KUBERNETES / folder)]
    built = list(yaml.safe_load_all(subprocess.run(words, capture_output=True, text=True, check=True).stdout))
    for each in built:
        if each["kind"] not in KINDS_OF_OTHERS:
            kubernetes_validate.validate(each, VERSIONS[-1], strict=True)
    if folder == "example":
        made = {each["metadata"]["name"]: each for each in built if each["kind"] != "ConfigMap"}
        assert made == {each["metadata"]["name"]: each for each in EXAMPLES.values()}


def test_the_component_touches_nothing_else(tmp_path: Path) -> None:
    """What a workload has of its own stays: its user, its grace period, its init containers, which come after ours."""
    if not shutil.which("kubectl"):
        pytest.skip("no kubectl here")
    shutil.copytree(KUBERNETES / "sidecar", tmp_path / "sidecar")
    own = copy.deepcopy(MANIFESTS["example/deployment.yaml"])
    own["spec"]["template"]["spec"] |= {
        "terminationGracePeriodSeconds": 90,
        "securityContext": {"runAsUser": 999},
        "initContainers": [{"name": "migrate", "image": "example/app:1.0.0"}],
        "volumes": [{"name": "data", "emptyDir": {}}],
    }
    other = copy.deepcopy(MANIFESTS["example/job.yaml"])
    del other["metadata"]["labels"]["graph-sidecar"]
    for name, each in (("own.yaml", own), ("other.yaml", other)):
        (tmp_path / name).write_text(yaml.safe_dump(each))
    whole = {"resources": ["own.yaml", "other.yaml"], "components": ["sidecar"]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(whole))
    words = ["kubectl", "kustomize", str(tmp_path)]
    made, untouched = yaml.safe_load_all(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    assert untouched == other
    pod = made["spec"]["template"]["spec"]
    assert [each["name"] for each in pod["initContainers"]] == ["graph-sidecar", "migrate"]
    assert pod["terminationGracePeriodSeconds"] == 90
    assert pod["securityContext"] == {"runAsUser": 999}
    assert {"name": "data", "emptyDir": {}} in pod["volumes"]


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_settings_of_a_pod(name: str) -> None:
    """Ports, probes, folders, volumes, memory and the time for draining agree with the settings."""
    pod, ours = pod_of(WORKLOADS[name])["spec"], sidecar(WORKLOADS[name])
    settings = settings_of(name, ours)
    ports = {port["name"]: port["containerPort"] for port in ours["ports"]}
    assert ports["graph-admin"] == settings.admin.port
    assert settings.listen.is_loopback or ports["graph"] == settings.listen.port
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert ours[probe]["httpGet"]["path"] in {"/readyz", "/livez"}
        assert ours[probe]["httpGet"]["port"] == "graph-admin"
    assert pod.get("terminationGracePeriodSeconds", 30) > settings.drain_s + settings.drain_grace_s + 5
    mounts = {mount["mountPath"] for mount in ours["volumeMounts"] if not mount.get("readOnly")}
    key = settings.cache.key_file
    assert isinstance(key, Path)
    assert {str(settings.cache.dir.parent), str(key.parent), str(settings.intercept.ca_dir.parent)} == mounts
    disk = next(volume for volume in pod["volumes"] if volume["name"] == "graph-sidecar-cache")["emptyDir"]["sizeLimit"]
    assert _mib(disk) > 1.1 * settings.cache.disk_mb
    assert _mib(ours["resources"]["limits"]["memory"]) > 100 + settings.cache.memory_mb + settings.upstream.buffered_mb


def _mib(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", text).groups()  # type: ignore[union-attr] # else the test fails here
    return int(number) * (1024 if unit == "Gi" else 1)


@pytest.mark.parametrize("name", WORKLOADS)
def test_our_container_may_do_little(name: str) -> None:
    """It is `restricted` in Kubernetes' own words, as the image's user; the pod's other containers are as they were."""
    user = int(re.search(r"USER (\d+)", DOCKERFILE)[1])  # type: ignore[index] # else the test fails here
    assert sidecar(WORKLOADS[name])["securityContext"] == {
        "runAsUser": user,
        "runAsGroup": user,
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert {"requests", "limits"} <= sidecar(WORKLOADS[name])["resources"].keys()
    assert "securityContext" not in pod_of(WORKLOADS[name])["spec"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_sidecar_of_a_pod_is_native(name: str) -> None:
    """It is ready before the application starts and holds up no Job's end; nobody outside the pod can ask it."""
    pod = pod_of(EXAMPLES[name])["spec"]
    ours, (app,) = pod["initContainers"][0], pod["containers"]
    assert (ours["name"], ours["restartPolicy"]) == ("graph-sidecar", "Always")
    settings = settings_of(name, ours)
    assert settings.listen.is_loopback
    assert environ(app)["GRAPH_URL"] == f"http://{settings.listen}"


def test_both_patches_of_the_component_are_one() -> None:
    """A CronJob's pod gets what any other gets."""
    assert pod_of(MANIFESTS["sidecar/pod.yaml"]) == pod_of(MANIFESTS["sidecar/cronjob.yaml"])


def test_what_is_called_by_name_is_there() -> None:
    """Service, policy and monitor speak of the pods' own labels and ports; admin answers by the Service's names."""
    deployment, service = MANIFESTS["shared/deployment.yaml"], MANIFESTS["shared/service.yaml"]
    pod, ours = deployment["spec"]["template"], sidecar(deployment)
    labels, ports = pod["metadata"]["labels"], {port["name"] for port in ours["ports"]}
    assert service["spec"]["selector"].items() <= labels.items()
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    policy = MANIFESTS["shared/networkpolicy.yaml"]["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} <= ports
    assert {port["port"] for rule in policy["egress"] for port in rule["ports"]} == {53, 5353, 443, 4318}
    here = f"graph-sidecar.{NAMESPACE}"
    wanted = {service["metadata"]["name"], here, f"{here}.svc", f"{here}.svc.cluster.local"}
    assert set(settings_of("shared/deployment.yaml", ours).admin_hosts) == wanted


def test_the_monitor_finds_every_sidecar_and_shows_the_token() -> None:
    """It selects what shared pods and the component's bear, their admin port, and the Secret that the pod reads."""
    monitor = MANIFESTS["monitoring/podmonitor.yaml"]
    assert (monitor["apiVersion"], monitor["kind"]) == ("monitoring.coreos.com/v1", "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["path"] == "/metrics"
    for workload in WORKLOADS.values():
        assert monitor["spec"]["selector"]["matchLabels"].items() <= pod_of(workload)["metadata"]["labels"].items()
        assert endpoint["port"] in {port["name"] for port in sidecar(workload)["ports"]}
    (shown,) = MANIFESTS["monitored/authorization.yaml"]["spec"]["podMetricsEndpoints"]
    assert shown.items() >= endpoint.items(), "a list of another's kind is replaced as a whole"
    pod = pod_of(MANIFESTS["monitored/token.yaml"])["spec"]
    (volume,), (container,) = pod["volumes"], pod["containers"]
    secret = shown["authorization"]["credentials"]
    assert volume["secret"]["secretName"] == secret["name"]
    assert (
        environ(container)["GRAPH_SIDECAR_ADMIN_TOKEN_FILE"]
        == f"{container['volumeMounts'][0]['mountPath']}/{secret['key']}"
    )


# --- Prometheus


ALERTS = ROOT / "config" / "prometheus" / "alerts.yaml"


def test_the_operator_is_told_the_same_alerts() -> None:
    """The PrometheusRule holds the groups of the plain file."""
    rule = MANIFESTS["monitoring/prometheusrule.yaml"]
    assert (rule["apiVersion"], rule["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert rule["spec"] == yaml.safe_load(ALERTS.read_text())


def test_prometheus_takes_the_alerts() -> None:
    """Its own checker finds nothing, and each alert is raised by what it is for and by nothing less."""
    if not shutil.which("promtool"):
        pytest.skip("no promtool here (Debian: prometheus)")
    for words in (["check", "rules", str(ALERTS)], ["test", "rules", str(ROOT / "tests" / "alerts.yaml")]):
        done = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


# --- the image


def test_the_image_sets_no_setting() -> None:
    """No variable of the image beats a mounted file; what it needs are defaults, which a file beats."""
    assert re.findall(r"(GRAPH_SIDECAR_\w+)=", DOCKERFILE) == ["GRAPH_SIDECAR_DEFAULTS"]
    settings = load(environ={"GRAPH_SIDECAR_DEFAULTS": str(DEFAULTS)}).settings
    (exposed,) = re.findall(r"^EXPOSE (.*)", DOCKERFILE, re.MULTILINE)
    assert exposed == f"{settings.listen.port} {settings.admin.port}"
    (volumes,) = re.findall(r"^VOLUME (.*)", DOCKERFILE, re.MULTILINE)
    key = settings.cache.key_file
    assert isinstance(key, Path)
    folders = {settings.cache.dir.parent, key.parent, settings.intercept.ca_dir.parent}
    assert folders == {Path(volume) for volume in json.loads(volumes)}
    assert settings.drain_s + settings.drain_grace_s < 10, "docker stop waits 10 s"


def test_the_replicas_of_a_fleet_meet() -> None:
    """Key, password and store are those that the manifests make, and the policies let the two ends speak."""
    patch = pod_of(MANIFESTS["fleet/settings.yaml"])["spec"]
    given = {each["name"]: each["value"] for each in patch["containers"][0]["env"]}
    settings = load(environ=given).settings
    folder = patch["containers"][0]["volumeMounts"][0]["mountPath"]
    assert str(settings.cache.key_file) == f"{folder}/key"
    assert str(settings.shared.password_file) == f"{folder}/password"
    assert str(settings.shared.username_file) == f"{folder}/username"
    store, service = pod_of(MANIFESTS["fleet/valkey.yaml"]), MANIFESTS["fleet/valkey-service.yaml"]
    assert settings.shared.url == f"valkey://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    assert service["spec"]["selector"].items() <= store["metadata"]["labels"].items()
    secrets = {
        each["secret"]["secretName"] for pod in (patch, store["spec"]) for each in pod["volumes"] if "secret" in each
    }
    assert secrets == {"graph-sidecar-fleet"}
    out, into = MANIFESTS["fleet/networkpolicy.yaml"]["spec"], MANIFESTS["fleet/valkey-networkpolicy.yaml"]["spec"]
    assert out["egress"][0]["to"][0]["podSelector"] == into["podSelector"]
    assert into["ingress"][0]["from"][0]["podSelector"] == out["podSelector"]
    command = store["spec"]["containers"][0]["args"][0]
    assert "--maxmemory-policy volatile-lfu" in command
    assert patch["securityContext"]["fsGroup"] == 10001


def test_the_store_of_a_fleet_has_one_user_with_the_rights_of_the_docs(tmp_path: Path) -> None:
    """Its container's own command, run here by another server, lets in that user alone."""
    command = pod_of(MANIFESTS["fleet/valkey.yaml"])["spec"]["containers"][0]["args"][0]
    for name, text in (("username", "graph-sidecar\n"), ("password", "a1b2c3d4\n")):
        (tmp_path / name).write_text(text)
    script = command.replace("/key/", f"{tmp_path}/").replace("/run/valkey", str(tmp_path))
    script = script.replace("valkey-server", program()).replace("--port 6379", "--port 0 --unixsocket store.sock")
    (rights,) = re.findall(r"ACL SETUSER graph-sidecar on >PASSWORD (.*)", (ROOT / "docs" / "fleet.md").read_text())
    with subprocess.Popen(["sh", "-c", script], cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        try:
            asyncio.run(_let_in(tmp_path / "store.sock"))
        finally:
            process.terminate()
    (line,) = (tmp_path / "secret.conf").read_text().splitlines()[1:]
    assert line.split() == ["user", "graph-sidecar", "on", ">a1b2c3d4", *rights.split()]


async def _let_in(socket: Path) -> None:
    """See that the store at *socket* takes the user of the fleet, and no one without a password."""
    where = read_location(f"unix://{socket}")
    async with asyncio.timeout(20):
        while not await asyncio.to_thread(socket.exists):  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.01)
        link = await Dialer(where, lambda: ("graph-sidecar", "a1b2c3d4")).dial()
        assert await link.exchange([(b"PING",)]) == [b"PONG"]
        await link.close()
        with pytest.raises(Away, match="Authentication"):
            await (await Dialer(where, lambda: ("", "")).dial()).exchange([(b"GET", b"gs1:x")])


# --- systemd


UNIT = ROOT / "config" / "systemd" / "graph-sidecar.service"


def test_the_unit_fits_the_command() -> None:
    """Its command lines are ours, its folders are the defaults', it waits for start and drain, and may do little."""
    unit = configparser.RawConfigParser(strict=False, comment_prefixes="#")
    unit.optionxform = str  # type: ignore[assignment,method-assign] # as configparser's manual has it
    unit.read_string(UNIT.read_text())
    service = unit["Service"]
    for line, command in (("ExecStart", serve), ("ExecReload", reload)):
        program, *arguments = shlex.split(service[line])
        assert Path(program).name == "graph-sidecar"
        options = cli.parse(arguments)
        assert (options.run, options.config) == (command, Path("/etc/graph-sidecar.toml"))
    variables = dict(re.findall(r"^Environment=(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE))
    assert not [name for name in variables if name.startswith("GRAPH_SIDECAR_")], "they would beat the settings file"
    look = (
        "from proxy.settings.load import load; s = load().settings; "
        "print(s.cache.dir, s.cache.key_file, s.intercept.ca_dir)"
    )
    there = subprocess.run(
        [sys.executable, "-c", look], env=variables, cwd=ROOT, capture_output=True, text=True, check=True
    )
    cache, state = Path("/var/cache", service["CacheDirectory"]), Path("/var/lib", service["StateDirectory"])
    assert there.stdout.split() == [str(cache), str(state / "key"), str(state / "ca")]
    settings = load().settings
    assert int(service["TimeoutStopSec"]) > settings.drain_s + settings.drain_grace_s
    assert (service["Type"], service["RestartPreventExitStatus"]) == ("notify", "2")
    assert "ProcSubset" not in service, "process_... metrics read /proc/stat"
    assert (service["DynamicUser"], service["ProtectSystem"], service["CapabilityBoundingSet"]) == ("yes", "strict", "")


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """Systemd's own checker finds nothing, once the program is where it is looked for."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd here")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/graph-sidecar/bin/graph-sidecar", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    if "Failed to" in done.stderr and UNIT.name not in done.stderr:
        pytest.skip("systemd-analyze cannot work in this container")
    assert UNIT.name not in done.stderr, done.stderr


# --- the wheel


def test_supported_pythons_are_told_alike() -> None:
    """The project's metadata and the page on installing name the same oldest and newest Python."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    minors = [int(each.rpartition(".")[2]) for each in project["classifiers"] if re.search(r":: 3\.\d+$", each)]
    assert minors == list(range(minors[0], minors[-1] + 1))
    assert project["requires-python"] == f">=3.{minors[0]}"
    assert f"Python 3.{minors[0]} to 3.{minors[-1]}" in (ROOT / "docs" / "install.md").read_text()


def test_nothing_names_a_package_that_no_index_has() -> None:
    """The product is in no package index: what people read never has them install it from one."""
    read = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("proxy/**/*.py")]
    wrong = re.compile(r"(pip|pipx|uv)\w* (install|inject|add) [^\n]*?(?<![./-])\bgraph-sidecar(\[|\b(?!/| |\.git))")
    assert not [(file.name, found[0]) for file in read if (found := wrong.search(file.read_text()))]

"""What is shipped for Kubernetes, systemd and containers fits the program, and what it is given to."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from proxy import cli
from proxy.cli.server_commands import serve
from proxy.settings import load

ROOT = Path(__file__).parents[1]
KUBERNETES = ROOT / "config" / "kubernetes"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
VERSIONS = ("1.33.0", "1.37.0")  # native sidecars are stable since the first
KINDS_OF_OTHERS = {"Kustomization", "ServiceMonitor"}  # Kubernetes itself has no schema of these


def manifests() -> Iterator[tuple[str, Any]]:
    """Every object that is shipped."""
    for file in sorted(KUBERNETES.rglob("*.yaml")):
        for number, each in enumerate(yaml.safe_load_all(file.read_text())):
            yield f"{file.relative_to(KUBERNETES)}:{number}", each


MANIFESTS = dict(manifests())
PODS = {
    name: each["spec"]["template"]["spec"]
    for name, each in MANIFESTS.items()
    if "template" in each.get("spec", {}) and not name.startswith("monitored/settings")
}


def sidecar(pod: Any) -> Any:
    """Our container in a pod."""
    return next(
        each for each in (*pod.get("initContainers", ()), *pod["containers"]) if each["name"] == "graph-sidecar"
    )


def environ(container: Any) -> dict[str, str]:
    """The variables that a container is given."""
    return {each["name"]: each["value"] for each in container["env"]}


def image_environ() -> dict[str, str]:
    """The variables that the image sets for us."""
    return dict(re.findall(r"(GRAPH_SIDECAR_\w+)=(\S+)", DOCKERFILE))


@pytest.mark.parametrize("name", [name for name, each in MANIFESTS.items() if each["kind"] not in KINDS_OF_OTHERS])
@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_it(name: str, version: str) -> None:
    """Each object has the shape that Kubernetes' own schema gives it, and no field beyond it."""
    manifest = MANIFESTS[name]
    if name.startswith("monitored/settings"):
        pytest.skip("a patch is no whole object; it is validated where it is laid over one")
    kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("folder", ["sidecar", "shared", "monitored"])
def test_a_folder_is_whole(folder: str) -> None:
    """What a kustomization names is there."""
    made = yaml.safe_load((KUBERNETES / folder / "kustomization.yaml").read_text())
    named = [*made["resources"], *(patch["path"] for patch in made.get("patches", ()))]
    assert all((KUBERNETES / folder / name).exists() for name in named)


@pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl here")
@pytest.mark.parametrize("folder", ["sidecar", "shared", "monitored"])
def test_an_overlay_comes_out_whole(folder: str) -> None:
    """Kubectl builds it, and what it builds is valid, patches and all; its settings load."""
    built = subprocess.run(["kubectl", "kustomize", KUBERNETES / folder], capture_output=True, text=True, check=True)
    for each in yaml.safe_load_all(built.stdout):
        if each["kind"] not in KINDS_OF_OTHERS:
            kubernetes_validate.validate(each, VERSIONS[-1], strict=True)
        if each["kind"] == "Deployment":
            load.load(environ=environ(sidecar(each["spec"]["template"]["spec"])))


@pytest.mark.parametrize("name", PODS)
def test_the_settings_of_a_pod(name: str) -> None:
    """Its variables are settings of ours; ports, probes and the time for draining agree with them."""
    pod = PODS[name]
    ours = sidecar(pod)
    settings = load.load(environ=image_environ() | environ(ours)).settings
    ports = {port["name"]: port["containerPort"] for port in ours["ports"]}
    assert ports["admin"] == settings.admin.port
    assert settings.listen.is_loopback or ports["graph"] == settings.listen.port
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert ours[probe]["httpGet"]["path"] in {"/readyz", "/livez"}
        assert ours[probe]["httpGet"]["port"] == "admin"
    assert pod["terminationGracePeriodSeconds"] > settings.drain_s + settings.drain_grace_s + 5
    mounts = [mount["mountPath"] for mount in ours["volumeMounts"]]
    key = settings.cache.key_file
    assert isinstance(key, Path)
    for path in (settings.cache.dir, key.parent):
        assert any(path.is_relative_to(mount) and str(path) != mount for mount in mounts), "a volume's root is root's"
    disk = next(volume for volume in pod["volumes"] if volume["name"] == "cache")["emptyDir"]["sizeLimit"]
    assert _mib(disk) > settings.cache.disk_mb
    assert _mib(ours["resources"]["limits"]["memory"]) > 2 * settings.cache.memory_mb


def _mib(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", text).groups()  # type: ignore[union-attr] # else the test fails here
    return int(number) * (1024 if unit == "Gi" else 1)


@pytest.mark.parametrize("name", PODS)
def test_a_pod_may_do_little(name: str) -> None:
    """Without root, capabilities, a writable root or a token for the cluster; `restricted` in Kubernetes' own words."""
    pod = PODS[name]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["securityContext"]["runAsUser"] == int(re.search(r"USER (\d+)", DOCKERFILE)[1])  # type: ignore[index]
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        assert container["securityContext"] == {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"requests", "limits"} <= container["resources"].keys()


@pytest.mark.parametrize("name", [name for name in PODS if name.startswith("sidecar/")])
def test_the_sidecar_of_a_pod_is_native(name: str) -> None:
    """It is ready before the application starts and holds up no Job's end; nobody outside the pod can ask it."""
    ours = PODS[name]["initContainers"][0]
    assert (ours["name"], ours["restartPolicy"]) == ("graph-sidecar", "Always")
    assert load.load(environ=environ(ours)).settings.listen.is_loopback
    app = PODS[name]["containers"][0]
    assert environ(app)["GRAPH_URL"] == f"http://{environ(ours)['GRAPH_SIDECAR_LISTEN']}"


def test_what_is_called_by_name_is_there() -> None:
    """Service, policy and monitor speak of the shared pod's own labels and ports."""
    pod = MANIFESTS["shared/deployment.yaml:0"]["spec"]["template"]
    labels, ports = pod["metadata"]["labels"], {port["name"] for port in sidecar(pod["spec"])["ports"]}
    service = MANIFESTS["shared/service.yaml:0"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    policy = MANIFESTS["shared/networkpolicy.yaml:0"]["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} <= ports
    monitor = MANIFESTS["monitored/servicemonitor.yaml:0"]
    assert (monitor["apiVersion"], set(monitor)) == (
        "monitoring.coreos.com/v1",
        {"apiVersion", "kind", "metadata", "spec"},
    )
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert endpoint["path"] == "/metrics"


# --- systemd


UNIT = ROOT / "config" / "systemd" / "graph-sidecar.service"


def test_the_unit_fits_the_command() -> None:
    """Its command line is one of ours, its variables are settings, it waits for the drain, and may do little."""
    unit = configparser.RawConfigParser(strict=False, comment_prefixes="#")
    unit.optionxform = str  # type: ignore[assignment,method-assign] # as configparser's manual has it
    unit.read_string(UNIT.read_text())
    service = unit["Service"]
    program, *arguments = shlex.split(service["ExecStart"])
    assert Path(program).name == "graph-sidecar"
    assert cli.parse(arguments).run is serve
    variables = dict(re.findall(r"^Environment=(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE))
    settings = load.load(environ=variables).settings
    assert settings.cache.dir == Path("/var/cache", service["CacheDirectory"])
    assert settings.cache.key_file == Path("/var/lib", service["StateDirectory"], "key")
    assert int(service["TimeoutStopSec"]) > settings.drain_s + settings.drain_grace_s
    assert "HUP" in service["ExecReload"]
    assert (service["DynamicUser"], service["ProtectSystem"], service["CapabilityBoundingSet"]) == ("yes", "strict", "")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """Systemd's own checker finds nothing, once the program is where it is looked for."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/graph-sidecar/bin/graph-sidecar", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    if "Failed to" in done.stderr and UNIT.name not in done.stderr:
        pytest.skip("systemd-analyze cannot work in this container")
    assert UNIT.name not in done.stderr, done.stderr

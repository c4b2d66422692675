"""Containers on a Docker engine that the environment names, each gone when its test is over."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any

from tests.engines.waiting import until

FETCH = """
import http.client, json, sys
host, port, method, path, token = sys.argv[1:]
connection = http.client.HTTPConnection(host, int(port), timeout=60)
connection.request(method, path, headers={"Authorization": f"Bearer {token}"} if token else {})
reply = connection.getresponse()
print(json.dumps([reply.status, dict(reply.headers), reply.read().decode("latin-1")]))
"""
"""Run inside a container, whose network nobody else can reach."""


Answer = tuple[int, dict[str, str], str]
"""Status, fields and body."""


def docker(*words: str, check: bool = True) -> str:
    """What `docker` prints on standard output."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise AssertionError(f"docker {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


@dataclass(frozen=True)
class Container:
    """One container."""

    name: str

    @property
    def state(self) -> dict[str, Any]:
        """What the engine says of its process."""
        (found,) = json.loads(docker("inspect", self.name))
        state: dict[str, Any] = found["State"]
        return state

    @property
    def health(self) -> str:
        """`starting`, `healthy` or `unhealthy`."""
        return str(self.state["Health"]["Status"])

    @property
    def log(self) -> str:
        """All that it wrote."""
        done = subprocess.run(["docker", "logs", self.name], capture_output=True, text=True, check=True)
        return done.stdout + done.stderr

    def run(self, *words: str) -> str:
        """What a command inside it prints."""
        return docker("exec", self.name, *words)

    def fetch(self, path: str, *, token: str = "", port: int = 8080, method: str = "GET") -> Answer:
        """Status, fields and body of the answer to a request from inside."""
        said = self.run("python", "-c", FETCH, "127.0.0.1", str(port), method, path, token)
        status, fields, body = json.loads(said)
        return status, fields, body

    def stats(self) -> dict[str, Any]:
        """What `/stats` tells."""
        told: dict[str, Any] = json.loads(self.fetch("/stats", port=9180)[2])
        return told

    def until_ready(self) -> None:
        """Return once it takes requests."""
        until(lambda: "serving" in self.log or not self.state["Running"], f"{self.name} to serve")
        assert self.state["Running"], self.log

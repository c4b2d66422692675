"""Where client programs play: one world twice, alone and behind a sidecar, and what a program said and asked there."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy import emulator
from proxy.app import sidecar

PROGRAMS = Path(__file__).parent / "programs"
PATIENCE_S = 40
GRAPH = "https://graph.facebook.com"
FIELDS_OF_A_LINK = re.compile(r"(?<=[?&]fields=)[^&\"]+")


@dataclass(frozen=True)
class Asked:
    """One operation that Graph was asked for, alone or in a batch."""

    method: str
    target: str
    conditional: bool
    packed: bool


@dataclass(frozen=True)
class Run:
    """One run of a program: what it printed, and what Graph noted meanwhile."""

    text: str
    ledger: dict[str, Any]

    @property
    def said(self) -> list[Any]:
        """What it printed, a JSON value a line; links list their fields in order, as the sidecar asks for them."""
        text = FIELDS_OF_A_LINK.sub(lambda found: "%2C".join(sorted(found[0].split("%2C"))), self.text)
        return [json.loads(line) for line in text.splitlines()]

    @property
    def asked(self) -> list[Asked]:
        """Every operation that Graph was asked for, in order."""
        return [each for request in self.ledger["requests"] for each in _operations(request)]

    @property
    def reads(self) -> list[Asked]:
        """The operations that read."""
        return [each for each in self.asked if each.method == "GET"]

    @property
    def not_modified(self) -> int:
        """How many reads Graph answered with 304."""
        return sum(self.ledger["not_modified"].values())

    @property
    def bytes(self) -> int:
        """How many bytes of bodies Graph sent."""
        return int(self.ledger["bytes_out"])

    @property
    def slots(self) -> list[int]:
        """How many operations stood in each batch that Graph was sent."""
        return list(self.ledger["slots"])

    @property
    def agents(self) -> set[str]:
        """Who spoke to Graph, by User-Agent."""
        return set(self.ledger["user_agents"])


def _operations(request: dict[str, Any]) -> list[Asked]:
    if "slots" not in request:
        return [Asked(request["method"], request["target"], bool(request["if_none_match"]), packed=False)]
    return [
        Asked(slot.get("method", "GET").upper(), slot["relative_url"], "if-none-match" in slot["headers"], packed=True)
        for slot in request["slots"]
    ]


class Stage:
    """Runs the programs of one environment, directly against one Graph or through the sidecar against its twin."""

    def __init__(
        self, runner: Path, home: Path, alone: emulator.Running, behind: emulator.Running, front: sidecar.Sidecar
    ) -> None:
        """Run programs with *runner*, the Python or Node of their environment; *home* is theirs to write in."""
        self._runner = runner
        self._home = home
        self._runs = 0
        self.alone = alone
        self.behind = behind
        self.front = front

    def trouble(self, **fault: Any) -> None:
        """Put the same fault in force on both sides."""
        for graph in (self.alone, self.behind):
            graph.faults.add(fault)

    def changes(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What writes have changed on either side: alone, and behind the sidecar."""
        return self.alone.emulator.world_as_json(), self.behind.emulator.world_as_json()

    async def directly(self, program: str, *arguments: str) -> Run:
        """Run a program with Graph's own address."""
        return await self._run(self.alone, self.alone.url, program, arguments)

    async def through(self, program: str, *arguments: str) -> Run:
        """Run a program with the sidecar's address."""
        return await self._run(self.behind, self.front.url, program, arguments)

    async def alike(self, program: str, *arguments: str) -> tuple[Run, Run]:
        """Both runs of a program, once they are found to have printed the same."""
        alone, through = await self.directly(program, *arguments), await self.through(program, *arguments)
        assert through.said == alone.said
        return alone, through

    async def unaware(self, program: str, *arguments: str) -> Run:
        """Run a program with Graph's own name under `graph-sidecar run`; one that is installed needs no name at all."""
        self.behind.ledger.clear()
        installed = self._runner.with_name(program)
        told: tuple[str | Path, ...] = (installed, *arguments)
        if not installed.exists():
            told = (PROGRAMS / program, GRAPH, *arguments)
        ours = [sys.executable, "-m", "proxy", "run", "--upstream", self.behind.url, "--"]
        text = await self._output(program, *ours, self._runner, *told)
        return Run(text, self.behind.ledger.as_json())

    async def _run(self, graph: emulator.Running, url: str, program: str, arguments: tuple[str, ...]) -> Run:
        graph.ledger.clear()
        text = await self._output(program, self._runner, PROGRAMS / program, url, *arguments)
        for name, ours in ((url, GRAPH), (url.replace("/", r"\/"), GRAPH.replace("/", r"\/"))):  # in JSON as it came
            text = text.replace(name, ours)
        return Run(text, graph.ledger.as_json())

    async def _output(self, program: str, *command: str | Path) -> str:
        """What the program prints; one that fails, or does not end, fails the test with what it said last."""
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self._home,
            env=self._environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, f"{program} ended with {process.returncode}:\n{err.decode()[-3000:]}"
        return out.decode()

    def _environment(self) -> dict[str, str]:
        """Nothing of the developer's; another hash seed for each run, for programs that build lists out of sets."""
        self._runs += 1
        return {
            "PATH": os.defpath,
            "HOME": str(self._home),
            "NO_PROXY": "*",
            "PYTHONUTF8": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": str(self._runs),
            "NODE_PATH": str(self._runner.parents[1] / "node_modules"),
            "JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1",  # a short program ends in half the time
        }

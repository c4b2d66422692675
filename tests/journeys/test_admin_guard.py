"""The doors of the admin listener, tried from outside."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from proxy.settings.load import SettingsError
from tests.journeys.conftest import MakeAsk, MakeScene, MakeSidecar
from tests.journeys.talking import Ask, Heard

NOBODY = "http://127.0.0.1:9"
TOKEN = "correct-horse-battery"


def refused(heard: Heard, status: int) -> None:
    """A refusal is JSON, says whose it is, and how to do better."""
    assert heard.status == status
    assert heard.headers["Content-Type"].startswith("application/json")
    assert heard.headers["Cache-Control"] == "no-store"
    assert (heard.json["error"]["status"], heard.json["error"]["message"][:15]) == (status, "graph-sidecar: ")


@pytest.fixture
async def near(sidecar: MakeSidecar, ask: MakeAsk) -> Ask:
    """A caller of the admin listener on loopback."""
    return await ask((await sidecar(NOBODY)).admin_url)


async def test_foreign_names_are_refused(near: Ask, caplog: pytest.LogCaptureFixture) -> None:
    """A page that has pointed its own name at 127.0.0.1 reads nothing; a probe may call by any name."""
    refused(await near.say("/stats", headers={"Host": "evil.test:9180"}), 421)
    assert "GET /stats was refused" in caplog.text
    assert (await near.say("/readyz", headers={"Host": "10.0.0.1.pod.test"})).status == 200


async def test_pages_from_elsewhere_cannot_end_it(near: Ask) -> None:
    """A form or a script of a page elsewhere ends nothing."""
    for fields in ({"Origin": "http://evil.test"}, {"Sec-Fetch-Site": "cross-site"}):
        refused(await near.say("/quit", method="POST", headers=fields), 403)
    assert (await near.say("/readyz")).status == 200


async def test_what_is_not_there_is_said_in_json(near: Ask) -> None:
    """Unknown paths and verbs are told as a program reads it."""
    refused(await near.say("/nothing"), 404)
    wrong = await near.say("/quit")
    refused(wrong, 405)
    assert wrong.headers["Allow"] == "POST"


async def test_a_fault_is_told_without_its_text(
    sidecar: MakeSidecar, ask: MakeAsk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes wrong within is told by its kind."""

    def fail(*_of: object) -> dict[str, object]:
        raise ValueError("sesame")

    monkeypatch.setattr("proxy.app.admin.stats", fail)
    heard = await (await ask((await sidecar(NOBODY)).admin_url)).say("/stats")
    refused(heard, 500)
    assert b"sesame" not in heard.body


async def test_the_token_opens(sidecar: MakeSidecar, ask: MakeAsk, tmp_path: Path) -> None:
    """With a token in a file, who does not show it sees probes alone, and a browser asks for it."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    caller = await ask((await sidecar(NOBODY, admin_token_file=str(tmp_path / "token"))).admin_url)
    heard = await caller.say("/stats")
    refused(heard, 401)
    assert "Basic" in heard.headers["WWW-Authenticate"]
    refused(await caller.say("/quit", method="POST"), 401)
    assert (await caller.say("/livez")).status == 200
    assert (await caller.say("/stats", headers={"Authorization": f"Bearer {TOKEN}"})).status == 200


async def test_others_may_read_and_not_act(sidecar: MakeSidecar, ask: MakeAsk) -> None:
    """Listening everywhere without a token, it tells counts to other machines, and obeys this one alone."""
    if not (own := _own_address()):
        pytest.skip("this machine has no address besides loopback")
    front = await sidecar(NOBODY, admin="0.0.0.0:0")
    far = await ask(f"http://{own}:{front.admin.port}")
    assert (await far.say("/stats")).status == 200
    refused(await far.say("/quit", method="POST"), 403)
    near = await ask(f"http://127.0.0.1:{front.admin.port}")
    assert (await near.say("/quit", method="POST")).json == {"draining": True}


def _own_address() -> str | None:
    """An address of this machine's that others see; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        found: str = probe.getsockname()[0]
    return None if found.startswith("127.") else found


@pytest.mark.parametrize("content", [None, "", "short", "fifteen letters", "0123456789 abcdef", "0123456789abcd\xe9f"])
async def test_a_token_that_is_none_is_said(sidecar: MakeSidecar, tmp_path: Path, content: str | None) -> None:
    """A file that is not there, or holds what could be guessed, ends the start, and is not quoted."""
    if content is not None:
        (tmp_path / "token").write_text(content)
    with pytest.raises(SettingsError, match="admin_token_file") as caught:
        await sidecar(NOBODY, admin_token_file=str(tmp_path / "token"))
    assert not content or content not in str(caught.value)


async def test_the_first_listener_has_none_of_it(scene: MakeScene) -> None:
    """To those paths on the other listener it is Graph who answers."""
    here = await scene()
    heard = await here.say("/quit", method="POST", token="ann")
    assert "graph-sidecar" not in heard.json["error"]["message"]

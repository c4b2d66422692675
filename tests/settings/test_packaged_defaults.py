"""Defaults of whoever packages the sidecar, and users without a home."""

from __future__ import annotations

from pathlib import Path

import platformdirs
import pytest

from proxy.settings.load import SettingsError, load


@pytest.fixture
def packaged(tmp_path: Path) -> dict[str, str]:
    """The variable that names a file of defaults."""
    file = tmp_path / "defaults.toml"
    file.write_text('drain_s = 8\nlisten = "0.0.0.0:8080"\n[batch]\nslots = 10\n')
    return {"GRAPH_SIDECAR_DEFAULTS": str(file)}


def test_they_hold_where_nothing_else_is_said(packaged: dict[str, str], tmp_path: Path) -> None:
    """File, environment and flags beat them one by one; each value is told with the place that it comes from."""
    found = load(environ=packaged)
    assert (found.settings.drain_s, found.settings.batch.slots) == (8, 10)
    assert found.origins["drain_s"] == packaged["GRAPH_SIDECAR_DEFAULTS"]
    file = tmp_path / "own.toml"
    file.write_text("drain_s = 9\n")
    assert load(environ=packaged, file=file).settings.drain_s == 9
    named = packaged | {"GRAPH_SIDECAR_CONFIG": str(file)}
    assert load(environ=named).settings.drain_s == 9
    assert load(environ=named).settings.batch.slots == 10
    assert load(environ=named | {"GRAPH_SIDECAR_DRAIN_S": "11"}).settings.drain_s == 11
    assert load(flags=[("--set", "drain_s=12")], environ=named).settings.drain_s == 12


def test_what_is_wrong_in_them_is_told(tmp_path: Path) -> None:
    """A file that is not there, and a value that cannot be, are told with the variable or the file."""
    with pytest.raises(SettingsError, match=r"none.toml \(GRAPH_SIDECAR_DEFAULTS\): cannot be read"):
        load(environ={"GRAPH_SIDECAR_DEFAULTS": str(tmp_path / "none.toml")})
    (tmp_path / "bad.toml").write_text("drain_s = -1\nnames = 3\n")
    with pytest.raises(SettingsError, match=r"bad.toml\): no such setting") as refused:
        load(environ={"GRAPH_SIDECAR_DEFAULTS": str(tmp_path / "bad.toml")})
    assert "drain_s = -1" in str(refused.value)


def test_without_a_home_the_authority_is_beside_the_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever names cache and key needs to name no third folder; a folder that is named holds."""

    def homeless(_name: str) -> Path:
        raise RuntimeError

    monkeypatch.setattr(platformdirs, "user_state_path", homeless)
    monkeypatch.setattr(platformdirs, "user_cache_path", homeless)
    flags = [("--set", f"cache.dir={tmp_path / 'cache'}"), ("--set", f"cache.key_file={tmp_path / 'state' / 'key'}")]
    assert load(flags=flags).settings.intercept.ca_dir == tmp_path / "state" / "ca"
    assert load(flags=[*flags, ("--set", f"intercept.ca_dir={tmp_path}")]).settings.intercept.ca_dir == tmp_path
    monkeypatch.undo()
    assert load(flags=flags).settings.intercept.ca_dir.parts[-2:] == ("graph-sidecar", "ca")

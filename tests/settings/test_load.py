"""Where settings come from, which place wins, and how mistakes are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxy.settings import Address, RuleSettings, Settings, names
from proxy.settings.load import SettingsError, load, variable

TOKEN = "EAABsbCS1iHgBAKZCexample0123456789abcdefghij"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a test writes its settings."""
    return tmp_path / "settings.toml"


def settings(**places: Any) -> Settings:
    """The settings from these places."""
    return load(**places).settings


def problems(**places: object) -> list[str]:
    """What is wrong with settings from these places."""
    with pytest.raises(SettingsError) as caught:
        load(**places)  # type: ignore[arg-type]
    return caught.value.problems


def test_flags_beat_environment_beats_file_beats_defaults(file: Path) -> None:
    """Each setting comes from the strongest place that gives it, and the settings say from which."""
    file.write_text("[batch]\nslots = 10\nin_flight = 2\nqueue = 100\n")
    found, origins = load(
        flags=[("--set", "batch.slots=30")],
        environ={"GRAPH_SIDECAR_BATCH__SLOTS": "20", "GRAPH_SIDECAR_BATCH__IN_FLIGHT": "3"},
        file=file,
    )
    batch = found.batch
    assert (batch.slots, batch.in_flight, batch.queue, batch.window_ms) == (30, 3, 100, 5)
    assert origins["batch.slots"] == "--set"
    assert origins["batch.in_flight"] == "GRAPH_SIDECAR_BATCH__IN_FLIGHT"
    assert origins["batch.queue"] == str(file)
    assert origins["batch.window_ms"] == "default"


def test_the_last_flag_wins() -> None:
    """A short flag and --set on one setting follow the order of the command line."""
    assert settings(flags=[("--listen", "[::1]:1"), ("--set", "listen=h:2")]).listen == Address("h", 2)
    assert settings(flags=[("--set", "listen=h:2"), ("--listen", "[::1]:1")]).listen == Address("::1", 1)


@pytest.mark.parametrize("name", names())
def test_every_setting_has_one_name_everywhere(name: str, file: Path) -> None:
    """The same text is taken by the variable and by --set, and its default by the file."""
    default: object = Settings()
    for part in name.split("."):
        default = getattr(default, part)
    text = "[]" if default == () else ",".join(default) if isinstance(default, tuple) else str(default)
    assert settings(environ={variable(name): text}) == Settings()
    assert settings(flags=[("--set", f"{name}={text}")]) == Settings()


@pytest.mark.parametrize(
    "text",
    ["a.example,b.example", " a.example , b.example ", '["a.example","b.example"]', "['a.example', 'b.example']"],
)
def test_lists_may_be_json_toml_or_words_between_commas(text: str) -> None:
    """A list reads alike however a chart, a file or a person writes it."""
    assert settings(environ={"GRAPH_SIDECAR_UPSTREAM__HOSTS": text}).upstream.hosts == ("a.example", "b.example")
    assert settings(flags=[("--set", f"upstream.hosts={text}")]).upstream.hosts == ("a.example", "b.example")


@pytest.mark.parametrize(
    "text",
    [
        '[{"path": "/act_*/insights", "fields": ["spend"], "fresh_s": 300}]',
        '[{path = "/act_*/insights", fields = "spend", fresh_s = 300}]',
    ],
)
def test_rules_fit_into_one_line(text: str) -> None:
    """Rules can be given where there is no file, as JSON or as TOML."""
    expected = (RuleSettings(path="/act_*/insights", fields=("spend",), fresh_s=300),)
    assert settings(environ={"GRAPH_SIDECAR_RULES": text}).rules == expected
    assert settings(flags=[("--set", f"rules={text}")]).rules == expected


def test_an_empty_list_is_a_list() -> None:
    """No hosts besides the origin's is a choice."""
    assert settings(environ={"GRAPH_SIDECAR_UPSTREAM__HOSTS": ""}).upstream.hosts == ()


@pytest.mark.parametrize("text", ["", "0"])
def test_no_disk_is_a_size(text: str) -> None:
    """Nothing and 0 both mean that entries live in memory only."""
    assert settings(environ={"GRAPH_SIDECAR_CACHE__DISK_MB": text}).cache.disk_mb == 0


@pytest.mark.parametrize("text, value", [("true", True), ("True", True), ("FALSE", False)])
def test_yes_and_no_in_any_case(text: str, *, value: bool) -> None:
    """Charts write True as readily as true."""
    assert settings(environ={"GRAPH_SIDECAR_BATCH__ENABLED": text}).batch.enabled is value


@pytest.mark.parametrize("text", ["0123", "true", "2020-01-01", "[x]", '"0123"'])
def test_text_stays_text(text: str) -> None:
    """What looks like another kind of value is text where text is due."""
    assert settings(flags=[("--set", f"upstream.user_agent={text}")]).upstream.user_agent == text.strip('"')


BAD = {
    "batch.slots=51": "batch.slots = 51 (--set): must be a whole number from 1 to 50",
    "batch.slots=0": "batch.slots = 0 (--set): must be a whole number from 1 to 50",
    "batch.slots=5.5": "batch.slots = 5.5 (--set): must be a whole number from 1 to 50",
    "batch.slots=true": "batch.slots = true (--set): must be a whole number from 1 to 50",
    "batch.slots=": 'batch.slots = "" (--set): must be a whole number from 1 to 50',
    "batch.slots=5\nqueue=3": 'batch.slots = "5\\nqueue=3" (--set): must be a whole number from 1 to 50',
    "batch.window_ms=-1": "batch.window_ms = -1 (--set): must be a number from 0 to 1000",
    "batch.window_ms=nan": "batch.window_ms = nan (--set): must be a number from 0 to 1000",
    "drain_s=inf": "drain_s = inf (--set): must be a number from 0 to 3600",
    "batch.enabled=maybe": 'batch.enabled = "maybe" (--set): must be true or false',
    "batch.enabled=1": "batch.enabled = 1 (--set): must be true or false",
    "batch.group=all": 'batch.group = "all" (--set): must be one of shared, token',
    "log.level=loud": 'log.level = "loud" (--set): must be one of debug, info, warning, error',
    "listen=8080": 'listen = "8080" (--set): must be HOST:PORT, such as 127.0.0.1:8080, [::1]:8080 or 0.0.0.0:8080',
    "admin=127.0.0.1:8080": 'admin = "127.0.0.1:8080" (--set): must differ from listen',
    "upstream.origin=https://x/y": 'upstream.origin = "https://x/y" (--set): '
    "must be http:// or https:// and a host, perhaps a port, and nothing more",
    "upstream.hosts=a b,c": 'upstream.hosts[0] = "a b" (--set): '
    "must be a host name such as graph.facebook.com, without scheme, port or path",
    "upstream.hosts=[5]": "upstream.hosts[0] = 5 (--set): must be text",
    "upstream.hosts=5": "upstream.hosts = 5 (--set): must be a list of strings",
    "cache.dir=": 'cache.dir = "" (--set): must be a path',
    "rules=5": "rules = 5 (--set): must be a list of tables, each with a path",
    "rules=[5]": "rules[0] = 5 (--set): must be a table with at least a path",
    "rules=[{}]": "rules[0].path (--set): is required",
    'rules=[{path="me",frsh_s=1}]': "rules[0].frsh_s (--set): no such setting; did you mean rules[0].fresh_s?",
    'rules=[{path="/a b"}]': 'rules[0].path = "/a b" (--set): '
    "must be a glob over the path without its version, such as /act_*/insights",
    'rules=[{path="/v25.0/act_*/ads"}]': 'rules[0].path = "/v25.0/act_*/ads" (--set): '
    "must be a glob over the path without its version, such as /act_*/insights",
    'rules=[{path="me",fresh_s=-1}]': "rules[0].fresh_s = -1 (--set): must be a number from 0 to 31536000",
    "batch.slotz=5": "batch.slotz (--set): no such setting; did you mean batch.slots?",
    "slots=5": "slots (--set): no such setting; did you mean batch.slots?",
    "nonsense=5": "nonsense (--set): no such setting",
    "paging=no": "paging (--set): is a section of settings; give one of paging.rewrite",
    "batch.slots": '--set "batch.slots": must be KEY=VALUE, such as batch.window_ms=5',
}


@pytest.mark.parametrize("flag", BAD)
def test_a_bad_value_is_one_line(flag: str) -> None:
    """The line names the setting, the value, where it came from and what is allowed."""
    assert problems(flags=[("--set", flag)]) == [BAD[flag]]


def test_a_number_beyond_reading_is_a_bad_value() -> None:
    """Five thousand digits are no traceback."""
    assert len(problems(flags=[("--set", f"batch.slots={'9' * 5000}")])) == 1
    assert len(problems(flags=[("--set", f"rules={'[' * 5000}")])) == 1


def test_a_date_is_no_number(file: Path) -> None:
    """What only TOML can say is told as it was written."""
    file.write_text("drain_s = 2020-01-01\n[[rules]]\n[[rules]]\npath = 1\n")
    assert problems(file=file) == [
        f"drain_s = 2020-01-01 ({file}): must be a number from 0 to 3600",
        f"rules[0].path ({file}): is required",
        f"rules[1].path = 1 ({file}): must be text",
    ]


def test_all_mistakes_are_told_together(file: Path) -> None:
    """One run shows everything that is wrong, from every place."""
    file.write_text('admni = "h:1"\nlog = 3\n[cache]\nsealed = "yes"\n[empty]\n[batch]\n')
    found = problems(
        flags=[("--listen", "x"), ("--cache-dir", "")],
        environ={"GRAPH_SIDECAR_BATCH__QUEUE": "many", "GRAPH_SIDECAR_BATCH_SLOTS": "5", "GRAPH_SIDECAR_LOG": "info"},
        file=file,
    )
    told = {line.split(":")[0] for line in found}
    assert told == {
        'listen = "x" (--listen)',
        'cache.dir = "" (--cache-dir)',
        'batch.queue = "many" (GRAPH_SIDECAR_BATCH__QUEUE)',
        "GRAPH_SIDECAR_BATCH_SLOTS (environment)",
        "GRAPH_SIDECAR_LOG (environment)",
        f"admni ({file})",
        f"log ({file})",
        f'cache.sealed = "yes" ({file})',
        f"empty ({file})",
    }
    assert "GRAPH_SIDECAR_BATCH_SLOTS (environment): no such setting; did you mean GRAPH_SIDECAR_BATCH__SLOTS?" in found


def test_the_variables_that_kubernetes_adds_are_let_be() -> None:
    """A Service called graph-sidecar, or one beside it, does not stop the pods that it serves."""
    ports = {"_TCP": "tcp://10.0.0.1:8080", "_TCP_ADDR": "10.0.0.1", "_TCP_PORT": "8080", "_TCP_PROTO": "tcp"}
    for service in ("GRAPH_SIDECAR_", "GRAPH_SIDECAR_ADMIN_", "GRAPH_SIDECAR_CACHE_"):
        injected = {
            f"{service}SERVICE_HOST": "10.0.0.1",
            f"{service}SERVICE_PORT": "8080",
            f"{service}SERVICE_PORT_HTTP": "8080",
            f"{service}PORT": "tcp://10.0.0.1:8080",
            **{f"{service}PORT_8080{end}": value for end, value in ports.items()},
        }
        assert settings(environ=injected) == Settings()


@pytest.mark.parametrize(
    "key", ["GRAPH_SIDECAR_PORT", "GRAPH_SIDECAR_ADMIN_PORT", "GRAPH_SIDECAR_SERVICE", "GRAPH_SIDECAR_batch__slots"]
)
def test_other_variables_that_bear_our_name_are_mistakes(key: str) -> None:
    """A port where no setting of that name exists would be ignored in silence otherwise."""
    [line] = problems(environ={key: "8080"})
    assert line.startswith(f"{key} (environment): no such setting")


def test_the_environment_names_the_file_and_a_flag_beats_it(file: Path, tmp_path: Path) -> None:
    """GRAPH_SIDECAR_CONFIG is --config for those who cannot pass flags."""
    other = tmp_path / "other.toml"
    file.write_text("[batch]\nslots = 10\n")
    other.write_text("[batch]\nslots = 20\n")
    assert settings(environ={"GRAPH_SIDECAR_CONFIG": str(file)}).batch.slots == 10
    assert settings(environ={"GRAPH_SIDECAR_CONFIG": str(file)}, file=other).batch.slots == 20
    assert settings(environ={"GRAPH_SIDECAR_CONFIG": ""}).batch.slots == 50


def test_a_file_that_is_not_toml_is_told_with_its_line(file: Path) -> None:
    """The line of the mistake is named."""
    file.write_text("[batch]\nslots = 10\nwindow_ms 5\n")
    [line] = problems(file=file)
    assert line.startswith(f"{file} (--config): is not TOML: ")
    assert "line 3" in line


@pytest.mark.parametrize(
    "content, told",
    [(b"\xff\xfe", "is not TOML: not written in UTF-8"), (None, "cannot be read: No such file or directory")],
)
def test_a_file_that_cannot_be_read_is_one_line(file: Path, content: bytes | None, told: str) -> None:
    """No file, or not text: one line that names the path and who named it."""
    if content is not None:
        file.write_bytes(content)
    assert problems(environ={"GRAPH_SIDECAR_CONFIG": str(file)}) == [f"{file} (GRAPH_SIDECAR_CONFIG): {told}"]


@pytest.mark.parametrize(
    "flag",
    [
        f"cache.sealed={TOKEN}",
        f"batch.slots={TOKEN}",
        f"{TOKEN}=5",
        TOKEN,
        f"upstream.origin=https://graph.facebook.com/?access_token={TOKEN}",
        "upstream.origin=https://user:0123@h",
        "upstream.hosts=https://h/x?access_token=0123",
        f'rules=[{{path="me", {TOKEN}=1}}]',
        "log.level=0123|abc",
    ],
)
def test_a_credential_in_the_wrong_place_is_not_repeated(flag: str) -> None:
    """A slip of the clipboard does not end in a log."""
    text = "\n".join(problems(flags=[("--set", flag)]))
    assert TOKEN not in text
    assert "0123" not in text


def test_a_user_without_home_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container with a made-up user, the line says which settings need a path."""
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    found = problems()
    assert [line.split(" ")[0] for line in found] == ["cache.dir", "cache.key_file", "intercept.ca_dir"]
    assert all("no home directory" in line for line in found)

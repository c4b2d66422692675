"""The command line: reads arguments, environment and file, then runs one command.

Nothing else in the package looks at the environment. Each command imports what it needs when it runs, so that
`check` and `--help` do not wait for a server.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import importlib.metadata
import json
import os
import sys
import textwrap
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from proxy import loading, preflight
from proxy.loading import SettingsError, shown, written
from proxy.settings import NAME, Address, Settings, names, parse_address


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status: 0 good, 2 refused with a line for each reason."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        options = parse(arguments)
        status: int = options.run(options)
        if sys.stdout:
            sys.stdout.flush()
        return status
    except SettingsError as error:
        for problem in error.problems:
            print(f"{NAME}: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of the command that *arguments* name; `run` among them is the command."""
    parser = Parser(prog=NAME, description="A proxy beside your application, in front of Meta's Graph API.")
    parser.add_argument("--version", action="version", version=f"{NAME} {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    own, words = _cut(arguments) if chosen == "run" else (list(arguments), [])
    for name, command in COMMANDS.items():
        below = commands.add_parser(name, help=command.summary, description=command.summary)
        below.set_defaults(run=command.run)
        if name == chosen:
            command.arguments(below)
    options, rest = parser.parse_known_args(own)
    if rest:
        parser.error(f"no such argument: {' '.join(shown(word.partition('=')[0]) for word in rest)}")
    options.words = words
    return options


def _cut(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """What stands before `--`, and the words of the command behind it, which are none of ours."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return list(arguments[:at]), list(arguments[at + 1 :])


class Parser(argparse.ArgumentParser):
    """Argparse with our habits: no abbreviated flags, help as it is laid out, one line for an error."""

    def __init__(self, **options: Any) -> None:
        """Set the habits once, for the commands too."""
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        """Point at the help in place of the usage."""
        self.exit(2, f"{NAME}: {message} (see {self.prog} --help)\n")


def _version() -> str:
    try:
        return importlib.metadata.version(NAME)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


class Flag(argparse.Action):
    """Notes flag and text in `flags`, in the order of the command line: the last on a setting wins."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        """Keep the flag as it was written, for messages."""
        del parser
        namespace.flags = [*namespace.flags, (option_string, values)]


def add_settings(parser: argparse.ArgumentParser) -> None:
    """The flags that change settings, and every setting below them."""
    parser.set_defaults(flags=[])
    parser.add_argument(
        "--config", type=Path, metavar="F", help=f"TOML file of settings (or {loading.CONFIG_VARIABLE})"
    )
    for flag, metavar in {"--listen": "H:P", "--admin": "H:P", "--upstream": "URL", "--cache-dir": "DIR"}.items():
        name = loading.SHORT_FLAGS[flag]
        info = names()[name]
        # argparse reads % as its own
        default = str(info.get_default(call_default_factory=True)).replace("%", "%%")
        parser.add_argument(flag, action=Flag, metavar=metavar, help=f"{info.description} (default: {default})")
    parser.add_argument("--set", action=Flag, metavar="KEY=VALUE", help="any setting below; may be given many times")
    parser.epilog = "\n".join(_reference())


def _reference() -> Iterator[str]:
    """Every setting with its default, what it takes and what it means."""
    yield "Flags beat environment variables, those beat the file, that beats the defaults. Each setting has one name:"
    yield "batch.window_ms is GRAPH_SIDECAR_BATCH__WINDOW_MS, --set batch.window_ms=5 and window_ms below [batch].\n"
    yield "settings and their defaults:"
    for name, info in names().items():
        yield f"  {name} = {written(info.get_default(call_default_factory=True))}"
        yield textwrap.fill(loading.meaning(info), 100, initial_indent=" " * 6, subsequent_indent=" " * 6)


def load(options: argparse.Namespace) -> loading.Loaded:
    """The settings that the command line, the environment and the file come to."""
    return loading.load(flags=options.flags, environ=os.environ, file=options.config)


def serve(options: argparse.Namespace) -> int:
    """Run the sidecar until it is told to end."""
    settings = load(options).settings
    refuse_if(preflight.problems(settings))
    from proxy import app

    try:
        return app.serve(settings, lambda: load(options).settings)
    except app.StartError as error:
        raise SettingsError([str(error)]) from None


def add_run(parser: argparse.ArgumentParser) -> None:
    """The flags of serve, then the command."""
    add_settings(parser)
    parser.usage = "graph-sidecar run [FLAGS OF serve] -- COMMAND ..."


FOR_ONE_COMMAND = [
    ("--listen", "127.0.0.1:0"),
    ("--admin", "127.0.0.1:0"),
    ("--set", "intercept.listen="),
    ("--set", "webhooks.listen="),
]
"""What `run` puts in the place of file and environment: ports that are free, and that no other program can reach."""


def run(options: argparse.Namespace) -> int:
    """Run a command behind a sidecar of its own."""
    if not options.words:
        raise SettingsError(["run takes a command behind --, such as: graph-sidecar run -- tap-facebook --help"])
    options.flags = [*FOR_ONE_COMMAND, *options.flags]
    settings, origins = load(options)
    if origins["log.level"] == "default":  # standard error is the command's
        settings = settings.model_copy(update={"log": settings.log.model_copy(update={"level": "warning"})})
    refuse_if(preflight.problems(settings))
    from proxy import app, wrapping

    try:
        return wrapping.run(settings, options.words, os.environ)
    except app.StartError as error:
        raise SettingsError([str(error)]) from None


def add_ca(parser: argparse.ArgumentParser) -> None:
    """What to do with the authority, and the settings that say where it is and for whom it speaks."""
    parser.add_argument(
        "action",
        choices=["init", "show", "bundle", "env"],
        help="init: makes the authority; show: prints it; bundle: prints it with the system's roots, for clients; "
        "env: writes that bundle beside it and prints the variables that name it",
    )
    parser.add_argument("--force", action="store_true", help="init: puts a new authority in the place of the old one")
    add_settings(parser)


def ca(options: argparse.Namespace) -> int:
    """Make the authority of transparent mode, or tell of it."""
    settings = load(options).settings
    from proxy import keeping
    from proxy.shell.authority import AuthorityError

    try:
        print(keeping.ACTIONS[options.action](settings, os.environ, options.force), end="")
    except AuthorityError as error:
        raise SettingsError([f"intercept.ca_dir: {error}"]) from None
    return 0


def refuse_if(problems: list[str]) -> None:
    """End with these lines, if there are any."""
    if problems:
        raise SettingsError(problems)


def check(options: argparse.Namespace) -> int:
    """Print what serve would run with, and refuse where serve would."""
    settings, origins = load(options)
    for name, origin in origins.items():
        print(f"{f'{name} = {written(_value(settings, name))}':<60}  # {origin}")
    refuse_if(preflight.problems(settings))
    print("nothing is wrong")
    return 0


def _value(settings: Settings, name: str) -> object:
    value: object = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value


def add_demo(parser: argparse.ArgumentParser) -> None:
    """The demo knows its own flags."""
    from proxy import demo

    demo.add_arguments(parser)


def run_demo(options: argparse.Namespace) -> int:
    """Show the savings, without network or token."""
    from proxy import demo

    return demo.run(options)


def add_top(parser: argparse.ArgumentParser) -> None:
    """The settings say where the sidecar is; the rest are its own flags."""
    from proxy import top

    add_settings(parser)
    top.add_arguments(parser)


def run_top(options: argparse.Namespace) -> int:
    """Show a sidecar that runs; `--admin` may be a whole URL here."""
    from proxy import control, top

    urls = [text for flag, text in options.flags if flag == "--admin" and "://" in text]
    options.flags = [(flag, text) for flag, text in options.flags if text not in urls]
    settings = load(options).settings
    url = urls[-1].rstrip("/") if urls else f"http://{control.from_here(settings.admin)}"
    try:
        return top.run(url, control.token_of(settings), once=options.once, interval=options.interval)
    except top.FollowError as error:
        raise SettingsError([str(error)]) from None


def add_wait(parser: argparse.ArgumentParser) -> None:
    """The settings say where the sidecar is."""
    add_settings(parser)
    parser.add_argument("--timeout", type=_seconds, default=60.0, metavar="S", help="seconds to wait (default: 60)")


def add_quit(parser: argparse.ArgumentParser) -> None:
    """The same."""
    add_settings(parser)
    parser.add_argument(
        "--timeout", type=_seconds, metavar="S", help="seconds to wait (default: drain_grace_s and drain_s, and 5)"
    )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 86_400:
        raise argparse.ArgumentTypeError("must be a number of seconds from 0 to 86400")
    return value


def wait(options: argparse.Namespace) -> int:
    """Return when a sidecar takes requests."""
    from proxy import control

    return _told(lambda: control.wait(load(options).settings, options.timeout))


def end(options: argparse.Namespace) -> int:
    """End a sidecar, and return when it has ended."""
    from proxy import control

    return _told(lambda: control.end(load(options).settings, options.timeout))


def _told(work: Callable[[], None]) -> int:
    """The status of *work*: 1, and a line, where a sidecar that runs did not do as it was asked."""
    from proxy.control import ControlError

    try:
        work()
    except ControlError as error:
        print(f"{NAME}: {error}", file=sys.stderr)
        return 1
    return 0


def add_cache(parser: argparse.ArgumentParser) -> None:
    """What is to be done comes first."""
    parser.add_argument("what", choices=("stats", "purge", "verify"), help="count, remove or check what is held")
    add_settings(parser)


def cache(options: argparse.Namespace) -> int:
    """Count, remove or check what is held: by asking the sidecar that runs, else in its folder."""
    from proxy import holdings

    return _told(lambda: holdings.WHAT[options.what](load(options).settings))


def add_replay(parser: argparse.ArgumentParser) -> None:
    """The log comes first; the rules to try are settings."""
    parser.add_argument("file", type=Path, metavar="FILE", help="the sidecar's log: lines of JSON")
    add_settings(parser)


def replay(options: argparse.Namespace) -> int:
    """Say what other rules would have saved of yesterday's calls, without asking anybody."""
    from proxy import replay as replaying

    return replaying.run(options.file, load(options).settings)


def add_emulate(parser: argparse.ArgumentParser) -> None:
    """The emulator's common knobs by name, the others through --set."""
    from proxy.emulator import Config

    def knob(flag: str, field: str, text: str) -> None:
        parser.add_argument(
            flag,
            metavar="N",
            dest="fields",
            action="append",
            type=lambda value: (field, value),
            help=f"{text} (default: {getattr(Config(), field)})",
        )

    parser.add_argument(
        "--listen",
        type=_address,
        default=Address("127.0.0.1", 8081),
        metavar="H:P",
        help="host and port to answer on (default: %(default)s)",
    )
    knob("--latency-ms", "latency_ms", "milliseconds that every call takes")
    knob("--budget", "budget", "calls that are allowed within the window")
    knob("--seed", "seed", "the generated world follows from it")
    parser.add_argument(
        "--set",
        dest="fields",
        action="append",
        type=_pair,
        metavar="FIELD=VALUE",
        help="any field below; may be given many times",
    )
    parser.set_defaults(fields=[])
    defaults = (f"  {field.name} = {written(getattr(Config(), field.name))}" for field in dataclasses.fields(Config))
    parser.epilog = "\n".join(["fields and their defaults:", *defaults])


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError("must be FIELD=VALUE, such as etag_on_304=true")
    return name, value


def emulate(options: argparse.Namespace) -> int:
    """Run the offline Graph until interrupted."""
    from proxy import emulator

    config = emulator.Config(**fields(emulator.Config, options.fields))
    refuse_if(list(preflight.port("--listen", options.listen)))
    host, port = options.listen.host, options.listen.port
    asyncio.run(emulator.serve(config, host, port, ready=lambda url: print(f"the offline Graph is {url}", flush=True)))
    return 0


def fields(kind: type, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The fields of a dataclass from text, every mistake told at once."""
    from pydantic import TypeAdapter, ValidationError

    hints = typing.get_type_hints(kind)
    values, problems = {}, []
    for name, text in pairs:
        if name not in hints:
            problems.append(loading.unknown(name, "--set", hints))
            continue
        try:
            values[name] = TypeAdapter(hints[name]).validate_python(
                _items(text) if typing.get_origin(hints[name]) is tuple else text
            )
        except ValidationError as error:
            problems.append(f"{name} = {shown(text)}: {error.errors()[0]['msg']}")
    refuse_if(problems)
    return values


def _items(text: str) -> list[str]:
    """A list as JSON, one JSON object, or words between commas."""
    if text.startswith("["):
        try:
            return [item if isinstance(item, str) else json.dumps(item) for item in json.loads(text)]
        except ValueError:
            return [text]
    return [text] if text.startswith("{") else [word for word in text.split(",") if word]


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    """One word of the command line: what it does, what it takes, how it runs."""

    summary: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


COMMANDS = {
    "serve": Command("runs the sidecar until SIGTERM", add_settings, serve),
    "run": Command("runs a command whose calls to Graph go through a sidecar of its own", add_run, run),
    "ca": Command("makes and shows the authority of transparent mode", add_ca, ca),
    "demo": Command("shows the savings: offline Graph, sidecar and sample traffic in one go", add_demo, run_demo),
    "emulate": Command("runs the offline Graph alone", add_emulate, emulate),
    "top": Command("shows a sidecar that runs, live in a terminal", add_top, run_top),
    "wait": Command("returns when a sidecar takes requests", add_wait, wait),
    "quit": Command("drains and ends a sidecar, and returns when it has ended", add_quit, end),
    "replay": Command("says what other rules would have saved of the reads in a log", add_replay, replay),
    "cache": Command("counts, removes or checks what is held", add_cache, cache),
    "check": Command("prints the settings in force and where each comes from, or what is wrong", add_settings, check),
}

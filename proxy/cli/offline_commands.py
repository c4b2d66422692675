"""The commands `demo` and `emulate`, which need neither network nor token."""

from __future__ import annotations

import argparse
import dataclasses
import json
import typing
from collections.abc import Sequence
from typing import Any

from proxy.app import preflight
from proxy.cli.arguments import refuse_if
from proxy.settings import Address, load, parse_address
from proxy.settings.load import printable, to_toml


def add_demo(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the demo."""
    from proxy.commands.demo import add_arguments

    add_arguments(parser)


def demo(options: argparse.Namespace) -> int:
    """Run the demo, without network or token."""
    from proxy.commands.demo import run

    return run(options)


def add_emulate(parser: argparse.ArgumentParser) -> None:
    """Add flags for common options of the emulator; the others go through --set."""
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
        type=_key_and_value,
        metavar="FIELD=VALUE",
        help="any field below; may be given many times",
    )
    parser.set_defaults(fields=[])
    defaults = (f"  {field.name} = {to_toml(getattr(Config(), field.name))}" for field in dataclasses.fields(Config))
    parser.epilog = "\n".join(["fields and their defaults:", *defaults])


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _key_and_value(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError("must be FIELD=VALUE, such as etag_on_304=true")
    return name, value


def emulate(options: argparse.Namespace) -> int:
    """Run the offline Graph until it is interrupted."""
    import asyncio

    from proxy import emulator

    config = emulator.Config(**fields(emulator.Config, options.fields))
    refuse_if(list(preflight.port("--listen", options.listen)))
    host, port = options.listen.host, options.listen.port
    asyncio.run(emulator.serve(config, host, port, ready=lambda url: print(f"the offline Graph is {url}", flush=True)))
    return 0


def fields(kind: type, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Returns the fields of a dataclass parsed from text; reports all mistakes together."""
    from pydantic import TypeAdapter, ValidationError

    hints = typing.get_type_hints(kind)
    values, problems = {}, []
    for name, text in pairs:
        if name not in hints:
            problems.append(load.unknown(name, "--set", hints))
            continue
        try:
            values[name] = TypeAdapter(hints[name]).validate_python(
                _list_items(text) if typing.get_origin(hints[name]) is tuple else text
            )
        except ValidationError as error:
            problems.append(f"{name} = {printable(text)}: {error.errors()[0]['msg']}")
    refuse_if(problems)
    return values


def _list_items(text: str) -> list[str]:
    """Returns the items of a list given as JSON, as one JSON object, or as comma-separated words."""
    if text.startswith("["):
        try:
            return [item if isinstance(item, str) else json.dumps(item) for item in json.loads(text)]
        except ValueError:
            return [text]
    return [text] if text.startswith("{") else [word for word in text.split(",") if word]

"""What a fuzz target is: something of ours that reads bytes from outside, and the errors that it may raise."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

Parse = Callable[[bytes], None]


@dataclass(frozen=True)
class Target:
    """Reads bytes: answers, or raises one of its *documented* errors; asserts what has to hold of the answer."""

    begin: Callable[[], AbstractContextManager[Parse]]
    """Sets up what the target needs, and gives what reads one input."""
    documented: tuple[type[Exception], ...] = ()
    most_examples: int = 10**9
    """Examples that the property test is shown at most: a target that opens connections or files is slow."""

    @classmethod
    def of(cls, parse: Parse, *documented: type[Exception]) -> Target:
        """A target that needs nothing set up."""
        return cls(lambda: nullcontext(parse), documented)

    def reads(self, parse: Parse, data: bytes) -> None:
        """Read *data*; raises what is not documented."""
        try:
            parse(data)
        except self.documented:
            pass


def split(data: bytes) -> tuple[bytes, bytes]:
    """The first line of *data*, and the rest."""
    line, _, rest = data.partition(b"\n")
    return line, rest


def pieces_of(data: bytes) -> list[bytes]:
    """*data* after its first byte, which says how long the pieces are that it comes in; 0 for one piece."""
    size, rest = (data[0] % 32, data[1:]) if data else (0, b"")
    return [rest[at : at + size] for at in range(0, len(rest), size)] if size else [rest]

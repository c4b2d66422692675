"""Splits an application's batch into calls: Graph takes 50 operations in one, so a larger batch goes in several.

`parse` refuses a batch of more than MOST_OPERATIONS. `shell/downstream/client_batch_calls` sends the calls one after
another and resolves references to operations of an earlier call; `slots` joins the replies in one array.
"""

from __future__ import annotations

from collections.abc import Sequence

from proxy.core.batch.window import GRAPH_LIMIT
from proxy.core.http.errors import BadRequest

MOST_OPERATIONS = 1000
"""The most operations of an application's batch."""


def refuse_too_many(operations: int) -> None:
    """Raise BadRequest for a batch of more *operations* than are taken."""
    if operations > MOST_OPERATIONS:
        raise BadRequest(f"batch holds {operations} operations; at most {MOST_OPERATIONS} are taken")


def split_into_calls(places: Sequence[int]) -> list[Sequence[int]]:
    """Returns the *places* of operations in parts of at most 50, as many as Graph takes in one call."""
    return [places[start : start + GRAPH_LIMIT] for start in range(0, len(places), GRAPH_LIMIT)]

"""Splits an application's batch into calls: Graph takes 50 operations in one, so a larger batch goes in several.

Not every operation goes in a call (`shell/downstream/client_batch` decides):

    no writes and no references     each plain read goes through the pipeline like a GET; the rest goes in calls
    references, only to reads       the same, where they can be filled in here (`references`)
    any other batch                 all operations go in calls of at most 50, in order, one call after another
    more than 1000 operations       400 (`refuse_too_many`, asked by `parse`)

`shell/downstream/client_batch_calls` asks `split_into_calls`, sends the calls, and fills in references to operations of
an earlier call. `slots.outer` joins all slots in one array.

A batch that `parse` does not understand, or finds too costly to parse, passes through
unchanged; Graph refuses it if it holds more than 50 operations. `shell/downstream/handler` asks `fits_in_one_call`
about a batch with a reference to no earlier operation. The fast path takes batches of plain reads alone
(`shell/downstream/prepared_batches`).
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


def fits_in_one_call(operations: int) -> bool:
    """Returns whether Graph takes so many *operations* in one call.

    Graph then says itself what is wrong with a batch. A larger one it would refuse for its size alone, so the sidecar
    says what is wrong.
    """
    return operations <= GRAPH_LIMIT


def split_into_calls(indices: Sequence[int]) -> list[Sequence[int]]:
    """Returns the *indices* of operations in parts of at most 50, as many as Graph takes in one call."""
    return [indices[start : start + GRAPH_LIMIT] for start in range(0, len(indices), GRAPH_LIMIT)]

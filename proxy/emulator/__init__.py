"""An offline Graph: what Meta documents and what captures show, with no network and no token.

It shares no code with the rest of the package, so that a mistake there meets a second opinion here. One request:

    server/server     aiohttp requests in, responses out; applies faults to whole replies (transport_faults)
    server/control    the paths under /__emulator__/        server/webhooks, notifications  calls to subscribers
    language/bodies   forms, multipart, JSON; a large or binary body is only counted       query · loose_json
    graph/batch       up to fifty operations in one call    language/operations · references · jsonpath
    graph/graph       one operation: counted, admitted, answered, rendered                 language/calls · errors
      credentials       tokens and proofs                   quota     usage headers and limits
      reads             answers GET                         writes    answers POST, PUT and DELETE
      faults            faults that tests ask for           ledger    counts calls as Meta counts them
    objects/world     the objects: generated, and changed by writes                        object_types
      nodes             objects and edges as JSON           values · paging · insights · ad_fields
      async_jobs        request sets and sessions           async_views · async_writes
    language/render   an answer as text, and its ETag       headers · json_style

Deferred work is in `insights.ReportRuns` (reports) and `async_jobs.AsyncJobs` (request sets, sessions): `writes` starts
it, and `nodes.Nodes.object` shows its progress.

Two emulators with equal Config, clock and calls give equal replies. The id of a created object follows from its parent,
its content and how many equal objects there were before, not from the order of other writes. `GET /__emulator__/world`
shows everything that writes have changed, in a form in which two emulators can be compared.
"""

from proxy.emulator.config import Config
from proxy.emulator.graph.credentials import proof_of
from proxy.emulator.graph.faults import Fault, Faults
from proxy.emulator.graph.ledger import Ledger, token_hash
from proxy.emulator.server.server import Emulator, Running, running, serve

__all__ = [
    "Config", "Emulator", "Fault", "Faults", "Ledger", "Running", "proof_of", "running", "serve", "token_hash",
]  # fmt: skip

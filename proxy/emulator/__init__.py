"""An offline Graph: what Meta documents and what captures show, with no network and no token.

It shares no code with the rest of the package, so that a mistake there meets a second opinion here. One request:

    server      aiohttp in and out; joins the parts and lets the faults strike
    bodies      forms, multipart, JSON, and floods that are only counted    query · loosejson
    batch       up to fifty operations in one call                          operations · references · jsonpath
    parts       what an emulator is made of, built together                 config
    graph       one operation: counted, admitted, answered, dressed         calls · errors
      credentials   tokens and proofs          quota     usage headers and limits
      reads         what answers a GET         writes    what answers the rest
      nodes         objects and edges as JSON  fields · values · paging · insights · ad_fields
      later         request sets and sessions  laterviews · laterwrites · notices
      dressing      text and its ETag          headers · jsonstyle
    world       the objects: generated, and changed by what is written      kinds
    pushes      webhooks: what was changed, told to whoever subscribed
    faults      trouble on purpose, as slots (graph) and whole replies (sabotage)
    ledger      what happened, counted as Meta counts
    control     the paths under /__emulator__/

What is carried out later lives in `insights.Jobs` (reports) and `later.Later` (request sets, sessions): `writes` starts
it, and `nodes.Nodes.object` shows how far it has come.

Twins, two emulators with equal Config, clock and calls, give equal replies. The id of what is created follows from its
parent, its content and how many alike there were, not from the order of different writes. `GET /__emulator__/world`
tells everything that writes have changed, in a form in which twins can be compared.
"""

from proxy.emulator.config import Config
from proxy.emulator.graph.credentials import proof_of
from proxy.emulator.graph.faults import Fault, Faults
from proxy.emulator.graph.ledger import Ledger, token_hash
from proxy.emulator.server.server import Emulator, Running, running, serve

__all__ = [
    "Config", "Emulator", "Fault", "Faults", "Ledger", "Running", "proof_of", "running", "serve", "token_hash",
]  # fmt: skip

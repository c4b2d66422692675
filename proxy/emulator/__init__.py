"""An offline Graph: what Meta documents and what captures show, with no network and no token.

It shares no code with the rest of the package, so that a mistake there meets a second opinion here. One request:

    server      aiohttp in and out; joins the parts and lets the faults strike
    bodies      forms, multipart, JSON, and floods that are only counted    query · loosejson
    batch       up to fifty operations in one call                          operations · references · jsonpath
    graph       one operation: counted, admitted, answered, dressed         calls · errors
      credentials   tokens and proofs          quota     usage headers and limits
      reads         what answers a GET         writes    what answers the rest
      nodes         objects and edges as JSON  fields · values · paging · insights
      dressing      text and its ETag          headers · jsonstyle
    world       the objects: generated, and changed by what is written      kinds
    faults      trouble on purpose, as slots (graph) and whole replies (sabotage)
    ledger      what happened, counted as Meta counts
    control     the paths under /__emulator__/

An operation that is carried out later (an insights job today) lives where `insights.Jobs` does: a creator in
`writes._CREATORS` starts it, and `nodes.Nodes.object` shows how far it has come.
"""

from proxy.emulator.config import Config
from proxy.emulator.credentials import proof_of
from proxy.emulator.faults import Fault, Faults
from proxy.emulator.ledger import Ledger, token_hash
from proxy.emulator.server import Emulator, Running, running, serve

__all__ = [
    "Config", "Emulator", "Fault", "Faults", "Ledger", "Running", "proof_of", "running", "serve", "token_hash",
]  # fmt: skip

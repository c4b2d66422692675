"""Builds the stack and owns its lifetimes. Here, and nowhere else, anything is constructed.

application ─► server ─► unbatcher ─► coalescer ─► merger ─► cache ─► governor ─► batcher ─► upstream ─► Graph
                  └────► passthrough ────────────────────────────────────────────────────────────────────► Graph

    process    `serve`: one process, its signals and its end
    running    `sidecar`: a whole one, from its listeners to its store
    ground     what the layers share: store, keys, quota, rules, clocks
    stack      the layers of the drawing, joined
    own        the listeners of our own paths
    reloading  what is taken of settings that were read again
    opening    a listener opened, or the reason why not
    derived    what the settings come to, as the plain values that core and shell take
"""

from proxy.app.derived import graph_hosts, rules_of
from proxy.app.ground import Clocks
from proxy.app.opening import StartError
from proxy.app.process import serve
from proxy.app.running import Running, sidecar

__all__ = ["Clocks", "Running", "StartError", "graph_hosts", "rules_of", "serve", "sidecar"]

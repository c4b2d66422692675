"""graph-sidecar: the proxy beside a program that talks to Meta's Graph API.

    cli         reads flags, environment and file (`loading`, `settings`), looks at the machine (`preflight`)
    app         builds the stack and owns its lifetimes
    shell/      does: server, coalescer, cache (store/), batcher, upstream; passthrough, telemetry, admin
    core/       decides: values in, values out; no clock, no socket, no log
    emulator/   an offline Graph that shares no code with core, so that it can catch core's mistakes
    demo        the emulator, the sidecar and sample traffic

A read, downwards: `shell.server` lifts the token out and takes the target to its normal form (`core.reading`,
`core.normal`); `shell.coalescer` joins it to an identical one in flight (`core.keys`); `shell.cache` looks at what is
held (`core.caching`, `core.rules`); `shell.batcher` gives it company (`core.batching`); `shell.upstream` asks Graph.
On the way back the same rooms settle, keep and dress the reply (`core.dressing`).

Imports run cli, app, shell, core and never back.
"""

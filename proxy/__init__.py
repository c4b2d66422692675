"""graph-sidecar: a proxy beside a program that talks to Meta's Graph API.

The layers that a read passes, from the caller to Graph:

    downstream ─► pipeline: coalescer ─► merger ─► cache ─► rate limiter ─► batcher ─► upstream ─► Graph

Imports run cli, commands, app, shell, core, and never back. `core` decides: values in, values out, no clock, no
socket, no log. `shell` does what core decided. `app` joins them. `core` is laid out by topic, `shell` by the place on a
message's way.

    cli/                    the command line: arguments, and the table of commands
    commands/               what each command does: run, ca, cache, wait, quit
    commands/trust/         what each family of clients needs to trust our certificates
    commands/trust/hooks/   files that client programs load at their start
    commands/top/           the dashboard in a terminal
    commands/replay/        a log, played again under other settings
    commands/doctor/        asks Graph which assumptions about it hold
    commands/demo/          the emulator, the sidecar and sample traffic together
    app/                    builds the sidecar from its settings, starts, reloads and ends it
    app/system/             the process and its operating system: core dumps, memory, systemd
    settings/               everything that can be set: one model, its types and names
    settings/load/          settings from flags, environment and file, and the problems in them
    core/                   the values that every layer passes: `model`
    core/http/              RFC 9110, 9111, 9211, 8586: fields, request heads, Cache-Control, Cache-Status, our errors
    core/graph/             Meta's interface: errors and throttles, paging links, JSONP, webhook events
    core/routing/           which read a request is, of which host, under which rule; who may use which admin path
    core/cache/             cache key, freshness, what may be stored, encryption, tags, invalidation, purges
    core/fast_path/         reads known by the bytes of their heads, and replies from memory as bytes
    core/merge/             reads of one object that differ in their fields, and `?ids=`, as one read
    core/batch/             when a batch leaves, its request, and the reply in each slot
    core/client_batch/      batches that applications send themselves
    core/quota/             calls in Meta's units: the ledger, usage headers, Retry-After, limits and stops, admission
    core/reply/             the reply as one caller gets it: 304, field order, links, fields of the head
    core/memory/            bounds in bytes: budgets, memos, JSON of others
    core/observe/           log records, route labels, histograms, time series, troubles
    core/shared/            what replicas tell each other: names, sealed records, leases, the log
    core/graph/doctor/      which assumptions about Graph hold, judged from its answers
    core/replay/            recorded reads in simulated time
    shell/                  files that only the sidecar may read
    shell/http/             connections of callers: protocol, timeouts, bodies, responses, drain
    shell/intercept/        transparent mode: CONNECT, TLS, tunnels, certificates
    shell/downstream/       each message to where it is answered: a read, a client batch, a passthrough
    shell/downstream/shared/ plain reads of a replica that shares with others
    shell/pipeline/         the layers of the drawing
    shell/pipeline/shared/  the layers of a replica that shares with others
    shell/upstream/         calls to Graph: connections, one HTTP/1.1 exchange, streams
    shell/store/            entries in memory and on disk
    shell/valkey/           the store that replicas share: entries, leases, limits, events
    shell/observe/          counters, access log, traces, /metrics, /stats
    shell/admin/            the admin listener: actions, dashboard, events, webhooks
    dashboard/              the dashboard as a browser loads it
    emulator/               an offline Graph that shares no code with core, so that it can catch core's mistakes
    emulator/language/      what messages to and from Graph look like
    emulator/objects/       the objects that exist, and how each is shown
    emulator/graph/         how a call is answered
    emulator/server/        the emulator on the wire
"""

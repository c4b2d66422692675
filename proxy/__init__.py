"""graph-sidecar: the proxy beside a program that talks to Meta's Graph API.

    cli/        reads flags, environment and file (`loading/`, `settings/`), looks at the machine (`preflight`)
    control     speaks to a sidecar that runs: wait, quit, cache (`holdings`)           replay/  reads its log
    app/        builds the stack, owns its lifetimes, and takes what may change of settings read again
    shell/      does: a file for each layer of the stack and for what it needs
      intercept   CONNECT              door         TLS at once           secured    what comes out of it
      authority   who signs for Graph (certificates)    tunnel     other hosts' bytes
      listener    connections (patience)  server       messages, each to where it belongs     drain   their end
      bodies      what is looked at    reader      one plain read
      unbatcher   a batch of the application's own (forms, slots, ordered)
      coalescer   twins                several      reads of several objects
      merger      many fields, one read             company      those who wait for it
      cache       what is held (store/)
      batcher     reads in batches     upstream     Graph (dialing, exchange)  passthrough   what is no plain read
      governor    the quota (byway)    telemetry    what is counted               pulse         how late the loop is
      admin       our own paths        dashboard    for who looks on     history        an hour of it
      changes     what ends freshness  webhooks     what Meta tells      purge          what an operator orders
      metrics     for Prometheus       bills        on whose account
      telling     a line for each reply             tracing      spans, an extra
    core/       decides: values in, values out; no clock, no socket, no log
      messages    the nouns            errors       ours, and how to read Graph's       headers · paging · jsonpath
      reading     what a message asks  normal       its normal form                     keys · rules · dressing
      caching     what is held         sealing      how it lies on the disk             lasting
      touching    what was changed     kin          which reads show it                  webhooks · purging
      fields      one fetch for many (lore)         several      many objects in one read
      quota       whether to ask now   pools        how much is left              usage
      ledger      calls in Meta's units               telling  a line for each reply     routes · histogram
      replaying   a log by other rules                rehearsing  the stack without Graph
      supposing   what Graph would have said          troubles  what is wrong now
      batching    reads into batches   envelopes    the application's own (operations)   references · unbatching
      guarding    who may come to our own paths     intercepting  who may go where      looping  calls that come back
    wrapping    `run`: one command behind a sidecar of its own (`trust`: what it is told); `keeping`: `ca`
    emulator/   an offline Graph that shares no code with core, so that it can catch core's mistakes
    dashboard/  the page for who looks on, as the browser loads it                top/   the same in a terminal
    demo/       the emulator, the sidecar and sample traffic

A read, downwards: `shell.server` lifts the token out and takes the target to its normal form (`core.reading`,
`core.normal`); `shell.coalescer` joins it to an identical one in flight (`core.keys`); `shell.merger` to one that
differs in its fields (`core.fields`); `shell.cache` looks at what is held (`core.caching`, `core.rules`);
`shell.governor` spares the quota (`core.quota`); `shell.batcher` gives it company (`core.batching`);
`shell.upstream` asks Graph.
On the way back the same rooms settle, keep and dress the reply (`core.dressing`).

Imports run cli, app, shell, core and never back.
"""

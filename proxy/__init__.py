"""graph-sidecar: the proxy beside a program that talks to Meta's Graph API.

    cli/         what was asked: `loading/` fills `settings/`, `preflight` looks at the machine
    app/         builds the stack, owns its lifetimes, and takes what may change of settings read again
    shell/       does: a file for each layer of the stack and for what it needs
    core/        decides: values in, values out; no clock, no socket, no log
    emulator/    an offline Graph that shares no code with core, so that it can catch core's mistakes
    demo/        the emulator, the sidecar and sample traffic
    top/         what the sidecar tells, live in a terminal          dashboard/  the same, as a browser loads it
    replay/      its log by other settings                           control     wait, quit; cache (`holdings`)
    wrapping     `run`: a sidecar for one command                    keeping     `ca` (`trust`: what clients are told)
    logs · tokens · version   how lines are written, what has to be shown to us, what runs
    dumps        core dumps, which are forbidden

A read, downwards, and whom each layer asks:

    shell                                              core
    server       each message to where it belongs      reading, normal: the read that it is
      bodies, reader                                   dressing, headers, paging: the reply as its caller gets it
    unbatcher    a batch of the application's own      envelopes, operations, references, jsonpath, unbatching
      forms (multipart), slots (turns), ordered        jsontext, lax: JSON of others, weighed
    coalescer    twins share one answer                keys: who and what
    several      reads of several objects              several
    merger       many fields, one read (company)       fields, lore, ordering
    cache        what is held (store/)                 caching, rules, lasting, sealing; touching, kin, purging
    governor     the quota (byway: what passes it by)  quota, draws, pools (pool), usage, limits, returning
    batcher      reads in batches (company)            batching
    places       connections to Graph, shared fairly   places
    upstream     Graph (exchange, keepalive, dialing)  errors: ours, how to read Graph's; codings
    passthrough  what is no plain read                 looping: calls that come back
      relinking                                        relinking: the links in it

Around it:

    listener · patience · responding · outbox · drain  connections, how long they may take, their end (framing)
    accepting · shedding                               who is let in, and refusals while the processor is busy (lag)
    intercept · door · secured · tunnel                programs that know no other way (intercepting: who may go where)
    authority · certificates · private                 who signs for Graph; files for our own eyes
    admin · tokens · dashboard                         our own paths (guarding: who may come)
    changes · webhooks · purge                         what ends freshness, whoever tells of it (webhooks)
    telemetry · bills · pulse                          what is counted (ledger, routes, histogram)
    stats · metrics · history                          what is told of that (troubles, history)
    timeofday                                          a clock that is set back (stepping)
    telling · tracing                                  a line and a span for each reply (telling)

`core.messages` holds the nouns; `budget` and `memo` bound what is held in memory. `replaying`, `rehearsing` and
`supposing` play recorded reads through the same rooms.
Imports run cli, app, shell, core and never back.
"""

"""The live side: wire messages, latency histograms, streams, the outlet, and the daemon that ties them together.

`messages` and `latency` know no model, and a client needs nothing else. Start at `daemon.serve`; the wire is in
docs/wire.md. Who may come and do what: `keys`, `zap`, `guard`, `limits` (docs/security.md). What watchers see:
`upkeep`, `board`, `health` (docs/operations.md). What keeps it in time: `realtime`, `rehearsal`, `load`, `vigil`,
`clocks`, `ahead`; more processes: `front`, `kept`, `crew`, `worker`, `behind` (docs/serving.md).
"""

"""The live side: wire messages, latency histograms, streams, the outlet, and the daemon that ties them together.

`messages` and `latency` know no model, and a client needs nothing else. Start at `daemon.serve`; the wire is in
docs/wire.md.
"""

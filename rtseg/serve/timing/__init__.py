"""Clocks, latencies and deadlines of the loop. Nothing here reads a clock: times come as arguments.

declared_rate  whether frames come at the declared rate: `DeclaredRate`
periodic       a task that comes round at an interval: `Periodic`, due or not
latency        latency histograms of fixed size: `Histogram`
loop_load      how busy the loop is, and whether one more stream would be too many: `LoopLoad`, `CapacityError`
silence        which streams have fallen silent: `SilenceWatch`
source_clock   a source's clock, as its frames show it: `SourceClock`
realtime       cores, priority and quiet moments for garbage: `LoopPrivileges`, `GarbageCollector`
"""

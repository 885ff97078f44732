"""Clocks, latencies and deadlines of the loop.

latency       Latency histograms of fixed size
loop_load     How busy the loop is, and whether one more stream would be too many
periodic      A task that comes round at an interval: `Periodic`, due or not
realtime      What the operating system and Python grant the hot loop
silence       Who has fallen silent
source_clock  What can be known of a source's clock from when its frames came
"""

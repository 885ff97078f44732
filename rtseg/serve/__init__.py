"""The live side: three programs (daemon, front, worker) and the rooms that they are made of (docs/serving.md).

access      Who may connect and do what (docs/security.md)
daemon      The daemon
front       The front of several workers
loop        The daemon's loop
monitoring  What the daemon says of itself, and to whom (docs/operations.md)
publish     Answers and events on their way to subscribers
recording   What is written down of every stream, and how a stream goes on from it (docs/recording.md)
streams     Open streams and what answers them
timing      Clocks, latencies and deadlines of the loop
worker      A worker
workers     Several worker processes behind one address
"""

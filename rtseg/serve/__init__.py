"""The live side: three programs, and the rooms that they are made of (docs/serving.md).

daemon      one process that serves: `Daemon`, `serve`; its `_turn` is a frame's way
worker      a daemon behind a front: `WorkerDaemon`
front       one address in front of several workers: `Front`
kernels     what a daemon compiles at its first start on a machine: `kernels_of`
loop        what the daemon's loop does, one file for each part of it
workers     several worker processes behind one address: their protocol, and how a front routes and replaces
monitoring  what a daemon says of itself, and to whom (docs/operations.md)
triggers    behaviour triggers: lines that go on and off, who is armed (docs/triggers.md)
publish     predictions, events and answers on their way out
recording   what is recorded of every stream, and how a stream goes on from it (docs/recording.md)
streams     open streams and what answers them
timing      clocks, latencies and deadlines of the loop
access      who may connect and do what (docs/security.md)
"""

"""What passes between clients and a daemon, in bytes (docs/wire.md).

addresses          Where the daemon may listen
batch_receiver     What waits at the daemon's socket, taken in one compiled call
frame_parser       Frames read by compiled code, as nearly all messages are
keys               Keys
messages           The messages on the wire, version 1 (docs/wire.md)
prediction_packer  Predictions as bytes
"""

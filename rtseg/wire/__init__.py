"""What passes between clients and a daemon, in bytes (docs/wire.md).

addresses          Where a daemon may listen: `bind`
batch_receiver     What waits at a ROUTER socket, received and parsed in one compiled call: `BatchReceiver`
frame_parser       Frames parsed by compiled code, as nearly all messages are
keys               Keys in a folder: who may come, and what for: `KeyStore`, `ClientKey`, `Grant`
messages           The messages, version 1: `Hello`, `FrameMessage`, `PredictionMessage`, `Served`, and what reads them
prediction_packer  Predictions into bytes in compiled code: `PredictionPacker`, `pack_prediction`
"""

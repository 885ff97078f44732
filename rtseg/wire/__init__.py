"""What passes between clients and a daemon, in bytes (docs/wire.md).

addresses            Where a daemon may listen: `bind`
batch_receiver       What waits at a ROUTER socket, received and parsed in one compiled call: `BatchReceiver`
class_probabilities  One head's probabilities, by number or by class: `ClassProbabilities`
fields               Fields of unchecked messages, or an error that names them: `MessageError`
frame_parser         Frames parsed by compiled code, as nearly all messages are
keys                 Keys in a folder: who may come, and what for: `KeyStore`, `ClientKey`, `Grant`
line_messages        What a `zmq` sink publishes, and its acknowledgements: `LineMessage`, `LineAck`
messages             The messages, version 1, and their readers: `Hello`, `FrameMessage`, `PredictionMessage`, `Served`
prediction_packer    Predictions into bytes in compiled code: `PredictionPacker`, `pack_prediction`
"""

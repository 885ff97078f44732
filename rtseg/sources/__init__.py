"""What brings keypoints to a daemon that does not come as rtseg's own messages (docs/sources).

answers       What the daemon answers, as float32 or JSON over plain ZeroMQ: `AnswerRelay`
bridge        A source's frames sent on by a publisher: `Bridge`, the contract `Source`, `SourceFrame`
dlclive       Poses of DeepLabCut-Live: `RtsegProcessor`
growing_csv   A CSV that a tracker is writing: `GrowingCsv`
growing_text  Whole lines of a file that grows, is truncated or replaced: `GrowingText`
lsl           An LSL stream with a channel a coordinate: `LslSource`
numbering     Sequence numbers, by the source's own count or its times: `FrameNumbers`
osc           OSC messages (Bonsai): `OscSource`
points        What the numbers of a message mean: `DeclaredPoints`, `ChannelPoints`
senders       One program's messages at a time: `Senders`
zeromq        Plain ZeroMQ messages of float32 or JSON (Bonsai): `ZmqSource`
"""

"""Recordings of a daemon's input and output (docs/recording.md): written, read, repaired.

compiled_append  Messages that compiled code appends to the ring: `append_message`
layout           Channels, schemas and metadata of a recording: `CHANNELS`, `beginning`, `mark`
mcap_records     MCAP's records, bytes in and bytes out (https://mcap.dev/spec): `Scan`, `message`, `metadata`
reading          A recording, read: `RecordingFile`, `RecordedMessage`, `unpacked`
recorder         The daemon's end of a recording: `Recorder`
recover          `rtseg recover`: `recover_recording`
ring             The memory between the daemon and the writer of its recording: `Ring`
whole_records    What of a damaged recording is whole: `WholeRecords`
writer           The process that writes a recording: `Writer`, `finish_recording`, `lock_recording`
"""

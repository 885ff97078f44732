"""What is recorded of every stream, and how a stream goes on from it (docs/recording.md).

stream_recording  what goes into the daemon's recording, and when: `StreamRecording`
resume            where streams stood when a daemon was killed: `ResumableStream`, read and restored
"""

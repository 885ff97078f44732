"""What is written down of every stream, and how a stream goes on from it (docs/recording.md).

resume            Where streams stood when a daemon was killed, read from its recording, and how one is brought
stream_recording  The daemon and its recording
"""

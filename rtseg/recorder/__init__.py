"""Recording what a daemon takes and says (docs/recording.md).

layout        What a recording holds
mcap_records  MCAP's records, bytes in and bytes out (https://mcap.dev/spec)
reading       A recording, read
recorder      The daemon's end of a recording
recover       `rtseg recover`
ring          The memory between the daemon and the writer of its recording
writer        The process that writes a recording
"""

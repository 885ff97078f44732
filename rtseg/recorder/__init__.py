"""Recording what a daemon takes and says (docs/recording.md).

`layout` says what a file holds, `ring` is the memory between the daemon and the `writer`, a process of its own;
`recorder` is the daemon's end of it. `reading` reads a file, `recover` repairs one.
"""

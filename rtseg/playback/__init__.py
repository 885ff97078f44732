"""A daemon's recording, or any other, once more: replayed, verified, exported.

export  The predictions in a recording, as tables
replay  Play a recording to a running daemon as if it were a camera, and collect the answers
verify  `rtseg replay FILE.mcap --verify`
"""

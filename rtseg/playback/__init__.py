"""Recordings played to a daemon again, verified, exported.

export  The predictions in a daemon's recording, as tables: `export_recording`
replay  Any recording played to a running daemon as by a camera: `replay`, `predictions_from_messages`
verify  `rtseg replay FILE.mcap --verify`, every recorded answer computed again: `verify_recording`
"""

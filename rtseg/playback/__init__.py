"""Recordings played to a daemon again, verified, exported.

export           The predictions in a daemon's recording, as tables: `export_recording`
replay           Any recording played to a running daemon as by a camera: `replay`, `predictions_from_messages`
trigger_log      What triggers did, as a recording tells: `read_trigger_log`, `write_event_times`
verify           `rtseg replay FILE.mcap --verify`, every recorded answer computed again: `verify_recording`
verify_triggers  And every decision of its triggers: `TriggerCheck`
"""

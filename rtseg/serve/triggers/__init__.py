"""Triggers in the daemon (docs/triggers.md): answers in, lines on and off, every decision recorded.

records      the messages about triggers, and the events that they tell of: `EventLog`
recorder     recorded at once, told to subscribers after the answers: `TriggerRecorder`
lines        which sinks a trigger's line goes to: `Lines`, `open_links`
live_events  the events that run, and what sinks are told of them: `LiveEvents`, `TriggeredStream`
arming       who is armed, until when, and who was disarmed why: `Arming`
sink_watch   what sinks report, leases that nobody renewed, acknowledgements that did not come: `SinkWatch`
rule_replay  the rule stepped over what is recorded: `RuleReplay`
stage        all of it, as the daemon's loop calls it: `TriggerStage`
"""

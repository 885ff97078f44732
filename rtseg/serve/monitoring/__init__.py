"""What a daemon says of itself, and who may watch it (docs/operations.md).

status         `DaemonStatus`: the fields of a status message, of a heartbeat and of the shared status
shared_status  `SharedStatus`, `SharedStatusReader`: the status in shared memory, written without waiting for readers
merge          `merge_worker_status`, `merge_answers`, `StatusTotals`: a front's status and its workers' as one
prometheus     `Metrics`, `exposition`, `health`, `readiness`: from a shared status to what HTTP serves
http_process   `HealthProcess`: /metrics, /healthz and /readyz, in a process of its own
systemd        `Notifier`: ready, alive, stopping
monitor        `Monitor`: all of these in the daemon's loop, each when it is due
"""

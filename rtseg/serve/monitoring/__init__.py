"""What the daemon says of itself, and to whom (docs/operations.md).

http_process   /metrics, /healthz and /readyz
merge          The boards of a front and its workers as one, for the process that shows them
monitor        What the daemon does for those who watch over it
prometheus     From the board to what is served over HTTP
shared_status  The board
status         What a daemon says of itself
systemd        What the daemon tells systemd
"""

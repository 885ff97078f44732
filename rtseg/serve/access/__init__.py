"""Who may connect and do what (docs/security.md).

guard        What a connection with a key may do, message by message
rate_limits  How much one key, and one stream of it, may ask of the daemon
zap          The authenticator
"""

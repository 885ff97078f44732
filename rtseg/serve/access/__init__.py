"""Who may connect and do what (docs/security.md).

client_sockets  the two sockets that clients connect to, bound and keyed: `ClientSockets`
zap             which keys ZeroMQ lets in: `Authenticator`, on a thread of its own
guard           what a connection with a key may do, message by message: `Guard`, `AccessError`
connections     which connection a message came over, and its end: `Connection`, `end_connection`
connection_limit  how fast subscribers are let in: `ConnectionLimit`, `OpenAuthenticator`
flood_watch     floods of subscriptions, cut off by a thread of its own: `FloodWatch`
memory_watch    memory that a peer fills without end: `MemoryWatch`
rate_limits     how many streams and hellos a key, and how many frames a stream may have: `RateLimits`, `LimitError`;
                how often streams are opened: `OpeningLimits`; token buckets: `Buckets`
"""

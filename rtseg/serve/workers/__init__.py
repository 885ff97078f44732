"""Several worker processes behind one address: the front's side, and the worker's end of the connection to it.

The front's (`serve.front` puts it together):
front_sockets     `FrontSockets`: clients' messages, many in one call where libzmq can be called
request_router    `RequestRouter`: what clients send, handed on to the worker whose stream it is about, or answered
stream_owners     `StreamOwners`: whose key a stream belongs to
stream_backups    `StreamBackups`: states and frames that another worker needs to go on; which answers have gone out
pending_requests  `PendingRequests`: hellos and byes that another worker is asked again
pending_status    `PendingStatus`: a question that all workers answer, and one answer made of theirs
bundle_rollout    `BundleRollout`: another bundle for all workers between two frames, or for none
subscriptions     `Subscriptions`: what the front itself tells subscribers
front_status      `FrontStatus`: what a front says of itself
worker_pool       `WorkerPool`, `Worker`: the processes and the sockets to them: started, watched, started again

The worker's (`loop.front_orders` obeys what comes over it):
front_link        `FrontLink`: gives the front what a replacement needs; `WorkerOutlet`: publishes through the front

Between them:
worker_protocol   the messages, a frozen dataclass each; `encode`, `decode`; `worker_of`: the worker of a stream
"""

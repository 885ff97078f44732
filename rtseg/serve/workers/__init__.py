"""Several worker processes behind one address: the front's side and the worker's.

bundle_rollout   Another bundle for all workers of a front between two frames, or for none
front_link       A daemon behind a front
front_sockets    A front's two sockets and who may come in
pending_status   A client's question that every worker of a front must answer, and one answer made of theirs
request_router   What clients send to a front
stream_backups   What a front keeps so that a worker can be replaced
stream_owners    Whose key a stream belongs to, seen from a front
subscriptions    The subscribers' side of a front
worker_pool      The worker processes of a front, and its sockets to them
worker_protocol  What passes between a worker and its front, and nobody else (docs/serving.md, Workers)
"""

"""Open streams and what answers them.

bundle_loader  Loading another bundle on a thread of its own while the hot loop turns
served_model   A bundle as the daemon serves it, with what its clients must know of it
stream         The daemon's streams
"""

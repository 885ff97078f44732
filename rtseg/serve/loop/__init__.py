"""The daemon's loop: receive, queue, step, keep house.

admission           Streams that come and go
bundle_swap         Another bundle while the daemon serves
cache_warming       Frames of the daemon's own that nobody hears of, so that the next real one finds weights and
frame_queue         Frames that wait, stepped as one batch and answered
front_orders        `FrontOrders`: what a worker does when its front says so
polling             How the daemon waits for messages
receiver            The daemon's door for frames and questions
worker_bundle_swap  `WorkerBundleSwap`: another bundle in a worker, as its front orders
"""

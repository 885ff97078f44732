"""The daemon's loop: wait, receive, queue or dispatch, step and publish, keep house.

polling             how the loop waits for messages: `LoopPoller`
receiver            what has arrived: `Receiver` yields plain frames and other messages, from a `MessageSource`
frame_queue         frames that wait for their turn: `FrameQueue`, `QueuedFrame`
dispatch            what is done about all other messages: `Dispatcher`
rejection           what happens to a message that cannot be handled: `reject_message`
stepping            frames that wait together, stepped and answered together: `Stepper`
housekeeping        what is due besides frames: `Housekeeping`
admission           streams that are opened and end: `Admission`
bundle_swap         another bundle while the daemon serves: `BundleSwap`
cache_warming       frames of the daemon's own, for warm caches: `CacheWarmer`
front_orders        what a worker does when its front says so: `FrontOrders`
worker_bundle_swap  another bundle while a worker serves, as its front orders: `WorkerBundleSwap`
"""

"""Open streams and what answers them.

served_model    a bundle as the daemon serves it, with what clients must know of it: `ServedModel`
stream          one open stream and all of them: `Stream`, `Streams`; a source's points in the model's order
stream_records  what each part of the daemon knows of a stream: `QueueRecord`, `SilenceRecord`, `OutletRecord`
bundle_loader   another bundle, loaded on a thread of its own: `BundleLoader`
"""

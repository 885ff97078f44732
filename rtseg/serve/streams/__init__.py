"""Open streams and what answers them.

served_model    a bundle as the daemon serves it, with what clients must know of it: `ServedModel`
size_watch      streams whose animals are larger or smaller than training's, told once: `size_events`
stream          one open stream and all of them: `Stream`, `Streams`; a source's points in the model's order
stream_records  what each part of the daemon knows of a stream: `QueueRecord`, `SilenceRecord`, `SizeRecord` ...
bundle_loader   another bundle, loaded on a thread of its own: `BundleLoader`
"""

"""TensorRT plans: built ahead of time in child processes, stepped on a GPU.

build             Building plans
device            What an engine needs of a GPU
device_engine     An engine over steps of fixed batches on a device
plans             Plans on disk
tensorrt_engine   The `tensorrt` engine
tensorrt_library  TensorRT and TensorRT-RTX, the only file that imports either
"""

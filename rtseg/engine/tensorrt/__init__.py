"""TensorRT plans: built ahead of time in child processes, stepped on an NVIDIA GPU.

build             Building plans of a bundle, each in a child process: build_plans, parse_build_options
device            Memory, copies and captured graphs on a GPU, by the driver's own calls: Device, CudaDevice
device_engine     An engine over steps of fixed batch sizes on any device: DeviceEngine, Step
plans             Plans on disk: their names, their sidecars, which of them fit: Plan, Wanted, find_plans
tensorrt_engine   The `tensorrt` engine: loads plans, and compares them before they serve: TensorRTEngine
tensorrt_library  The two flavours of the library, and building one plan with one of them: build_plan
"""

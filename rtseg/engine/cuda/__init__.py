"""The step as one Triton kernel, for NVIDIA GPUs.

cuda_engine   The `cuda` engine: memory on the GPU, and a graph for each batch size: CudaEngine
cuda_kernel   The Triton kernel, which interprets a step program: step_kernel
step_program  A network's step as a list of operations for that kernel: step_program, StepProgram
"""

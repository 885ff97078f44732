"""The step as one Triton kernel, for NVIDIA GPUs.

cuda_engine   The `cuda` engine
cuda_kernel   The Triton kernel of the `cuda` engine
step_program  One step of a network as a short list of operations on places in a row of scratch memory, for the
"""

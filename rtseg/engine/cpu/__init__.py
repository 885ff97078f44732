"""The engine that serves everywhere: one fused step, compiled by numba.

lanes          Sixteen floats side by side as one value in compiled code
numba_engine   The CPU engine
numba_kernels  One fused step of the multitask network over ring buffers, compiled for the CPU
products       Matrix products for a step
"""

"""The engine that serves everywhere: one fused step, compiled by numba.

elementwise    What a step does to single values: scaling, codes, gates, ReLU, softmax
numba_engine   The engine: lays weights out, owns every slot's memory: `NumbaEngine`
numba_kernels  The step itself, for blocks of rows: `advance`
step_tables    The arrays and the scratch of a step, and where kernels find them: `StepArrays`, `Regions`
"""

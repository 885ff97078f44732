"""The engines that serve everywhere: a network's step and boosted trees', each fused and compiled by numba.

elementwise        What a step does to single values: scaling, codes, gates, ReLU, softmax
numba_engine       The engine: lays weights out, owns every slot's memory: `NumbaEngine`
numba_kernels      The step itself, for blocks of rows: `advance`
slot_memory        Every slot's memory, and how arrays lie: `SlotMemoryEngine`, `aligned`
step_tables        The arrays and the scratch of a step, and where kernels find them: `StepArrays`, `Regions`
tree_engine        The engine of boosted trees: `TreeEngine`
tree_kernels       The step of boosted trees: `advance`
window_statistics  A frame's row for trees, in training and in a stream: `causal_statistics`, `fill_row`
"""

"""The step as an ONNX graph, and ONNX Runtime as a second, independent engine.

onnx_engine     The `onnx` engine: the step in ONNX Runtime: OnnxEngine, providers
onnx_graph      The network's step as an ONNX model: step_model, instrumented_model, product_names
onnx_lint       What TensorRT would refuse about a model, found before it is built: require_supported, find_problems
onnx_nodes      Nodes, constants and products in each precision, for `onnx_graph`: GraphBuilder, Precision
precisions      The precisions in which a bundle was accepted: accepted_scales, read_accepted, store_precision
slot_windows    Which rows to run for a batch of slots, where batch sizes are fixed: cover_slots, rows_for
step_file       A bundle's `step.onnx`: step_bytes, write_step, add_step
step_interface  Names, shapes and dtypes of a step's inputs and outputs: cache_shapes, past_name, present_name
"""

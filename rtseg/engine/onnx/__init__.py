"""The step as an ONNX graph, and ONNX Runtime as a second, independent engine.

onnx_engine   The step in ONNX Runtime
onnx_graph    The network's step as ONNX, from a bundle's weights and without torch
onnx_lint     What TensorRT would refuse of a step, found before anybody builds
onnx_nodes    Nodes and constants on their way to an ONNX model, and a product in the precision that was asked for
precisions    Which precisions beside float32 a bundle was measured in and found good
slot_windows  Which rows to run for a batch of slots, where a backend has fixed batch sizes and every slot its own
step_file     A bundle's `step.onnx`
"""

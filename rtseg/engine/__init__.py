"""The network's step on one backend or another, behind one contract (docs/engines.md).

base          The contract of every engine
cpu           The engine that serves everywhere
cuda          The step as one Triton kernel, for NVIDIA GPUs
onnx          The step as an ONNX graph, and ONNX Runtime as a second, independent engine
parity        An engine held against the CPU engine before it serves its first frame
rounds        A batch cut into rounds within which no slot comes twice
select        The one place where an engine is chosen
tensorrt      TensorRT plans
torch_engine  The reference
"""

"""The network's step on one backend or another, behind one contract (docs/engines.md).

base          The contract of every engine: Engine
cpu           The engine that serves everywhere: NumbaEngine
cuda          The step as one Triton kernel, for NVIDIA GPUs: CudaEngine
onnx          The step as an ONNX model, and ONNX Runtime as a second, independent engine: OnnxEngine
parity        Comparing an engine with the CPU engine before it serves its first frame: require_parity
rounds        A batch cut into rounds within which no slot comes twice: rounds
select        The one place where an engine is chosen: make_engine, choose_engine, why_unavailable, why_unsuited
tensorrt      TensorRT plans, and the engine that steps them: TensorRTEngine
torch_engine  The reference, with plain tensors, never used for serving: TorchEngine
"""

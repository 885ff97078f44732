"""The cuda engine's kernel compiled for GPUs that are not here, as a child process of test_cuda_engine.py.

`python -m tests.engine.cuda.compile_kernel 90`: prints, for every way the kernel is cut, what its machine code needs.
"""

from __future__ import annotations

import json
import sys

from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

from rtseg.engine.cuda.cuda_engine import TILES, Tiles
from rtseg.engine.cuda.cuda_kernel import step_kernel

POINTERS = {
    "features": "*fp32", "slots": "*i32", "frames": "*i64", "memory": "*fp32",
    "out": "*fp32", "code": "*i32", "weights": "*fp32", "scratch": "*fp32",
}  # fmt: skip


def compiled(tiles: Tiles, capability: int) -> dict[str, int]:
    constants = {"BB": tiles.streams, "BI": tiles.places, "BK": tiles.inputs, "BN": tiles.outputs, "NP": 8}
    signature = {**POINTERS, "n_blocks": "i32", **dict.fromkeys(constants, "constexpr")}
    places = {(list(signature).index(name),): value for name, value in constants.items()}
    aligned = {(i,): [["tt.divisibility", 16]] for i in range(len(POINTERS))}
    source = ASTSource(fn=step_kernel, signature=signature, constexprs=places, attrs=aligned)
    options = {"num_warps": tiles.warps, "num_stages": 1}
    kernel = compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    ptx = kernel.asm["ptx"]
    return {
        "streams": tiles.streams,
        "machine_code_bytes": len(kernel.asm["cubin"]),
        "shared_bytes": kernel.metadata.shared,
        "barriers": ptx.count("bar.sync"),
        "unordered_loads": ptx.count("ld.global.nc"),
        "tensor_core_products": ptx.count("mma."),
    }


if __name__ == "__main__":
    print(json.dumps([compiled(tiles, int(sys.argv[1])) for _, tiles in TILES]))

"""Compile the kernels for GPUs of a compute capability: `python check_compile.py 90`. No such GPU is needed."""

import sys

from triton import compiler
from triton.backends.compiler import GPUTarget

from caecodec.entropy import kernels

TYPES = {"index": "*u8", "features": "*i8", "begin": "*i64", "state": "*i64"}
ARRAYS = {
    "words", "left", "rows", "cumulative", "row", "length", "mode", "weight", "threshold", "count", "low", "mass", "written"
}  # fmt: skip

for name in ("decode", "measure", "choose", "encode"):
    for context in (True, False):
        kernel = getattr(kernels, name)
        constants = {"context": context, "padded_classes": 32, "block": 256}
        known = {argument: constants[argument] for argument in kernel.arg_names if argument in constants}
        types = {
            argument: "constexpr" if argument in known else TYPES.get(argument, "*i32" if argument in ARRAYS else "i32")
            for argument in kernel.arg_names
        }
        source = compiler.ASTSource(
            kernel, types, {(kernel.arg_names.index(argument),): value for argument, value in known.items()}
        )
        compiled = compiler.compile(source, target=GPUTarget("cuda", int(sys.argv[1]), 32))
        assert len(compiled.asm["cubin"]) > 1000
print("compiled")

"""Compile the kernels for GPUs of a compute capability: `python check_compile.py 90`. No such GPU is needed."""

import sys

from triton import compiler
from triton.backends.compiler import GPUTarget

from caecodec.entropy import kernels
from caecodec.models.factorized import fused
from caecodec.models.factorized import kernels as norm_kernels

TYPES = {"index": "*u8", "features": "*i8", "begin": "*i64", "state": "*i64"}
ARRAYS = {
    "words", "left", "rows", "cumulative", "row", "length", "mode", "weight", "threshold", "count", "low", "mass", "written"
}  # fmt: skip

TARGET = GPUTarget("cuda", int(sys.argv[1]), 32)


def check(kernel, types, constants, **options):
    """Compile a kernel whose arguments have these types and values."""
    types = {name: "constexpr" if name in constants else types[name] for name in kernel.arg_names}
    known = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    compiled = compiler.compile(compiler.ASTSource(kernel, types, known), target=TARGET, options=options)
    assert len(compiled.asm["cubin"]) > 1000


for name in ("decode", "measure", "choose", "encode"):
    for context in (True, False):
        kernel = getattr(kernels, name)
        constants = {"context": context, "padded_classes": 32, "block": 256}
        types = {argument: TYPES.get(argument, "*i32" if argument in ARRAYS else "i32") for argument in kernel.arg_names}
        check(kernel, types, {argument: constants[argument] for argument in kernel.arg_names if argument in constants})

for channels in (128, 192):
    for inverse, x, out in ((False, "fp32", "bf16"), (True, "bf16", "fp32"), (True, "fp32", "fp32")):
        types = {"x": f"*{x}", "bias": "*fp32", "gamma": "*fp32", "beta": "*fp32", "out": f"*{out}", "positions": "i32"}
        constants = {"inverse": inverse, "precision": "ieee" if x == out else "tf32", **fused.sizes(channels)}
        check(norm_kernels.normalise, types, constants, **fused.OPTIONS)
    check(norm_kernels.normalise, types, {"bias": None, **constants}, **fused.OPTIONS)
print("compiled")

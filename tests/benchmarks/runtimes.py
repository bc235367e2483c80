"""The network in other runtimes: python tests/benchmarks/runtimes.py [--sizes 256 512] [--rounds 7] [--only NAME ...].

Prints the milliseconds of analysis into latents and of synthesis at quality 4, with one image on all cores, for this package's
own runtime, torch.compile of the plain layers, ONNX Runtime (pip install onnx onnxruntime) and OpenVINO (pip install onnx
openvino). All take turns in every round. The best round counts, because other work on the machine only adds time. A runtime
that is not installed is left out.
"""

import argparse
import importlib.util
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from caecodec import weights
from caecodec.models.factorized.network import GDN, FactorizedPrior
from caecodec.models.factorized.precision import LAYERS

QUALITY = 4
Run = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", help="parts of the names of runtimes to compare")
    options = parser.parse_args()
    network = FactorizedPrior.build(
        weights.load(weights.resolve(weights.Spec("default"), "mse", QUALITY), QUALITY).network.tensors
    )
    print(f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}")
    for size in options.sizes:
        image = np.random.default_rng(0).random((1, 3, size // 8, size // 8), np.float32).repeat(8, 2).repeat(8, 3)
        latents = np.round(own(network, "g_a")(image))
        for name, given in (("g_a", image), ("g_s", latents)):
            runs = {key: run for key, run in networks(network, name, given.shape) if chosen(key, options.only)}
            compare(f"{'analysis' if name == 'g_a' else 'synthesis'} {size}x{size}", runs, given, options.rounds)


def chosen(name: str, only: list[str] | None) -> bool:
    return not only or any(part in name for part in only)


def compare(title: str, runs: dict[str, Run], given: np.ndarray, rounds: int) -> None:
    """Print the milliseconds of each runtime, and the largest difference of its result from that of the first."""
    start = {}
    first = None
    results = {}
    for name, run in runs.items():  # the first call compiles, packs and fills caches
        before = time.perf_counter()
        results[name] = run(given)
        start[name] = time.perf_counter() - before
        first = results[name] if first is None else first
    best = dict.fromkeys(runs, np.inf)
    for _ in range(rounds):
        for name, run in runs.items():
            before = time.perf_counter()
            run(given)
            best[name] = min(best[name], time.perf_counter() - before)
    print(f"\n{title}")
    for name in runs:
        error = np.sqrt(np.mean((results[name] - first) ** 2))
        print(f"  {name:20} {1e3 * best[name]:7.1f} ms, first call {start[name]:6.2f} s, off by {error:.1e}", flush=True)


def networks(network: FactorizedPrior, name: str, shape: tuple[int, ...]):
    """Names of runtimes, and their functions from images to latents (g_a) or from latents to images (g_s)."""
    yield "caecodec fp32", own(network, name)
    low = FactorizedPrior.build({key: value.numpy() for key, value in network.state_dict().items()})
    low.reduce_precision(LAYERS)
    yield "caecodec bf16", own(low, name)
    yield "torch.compile fp32", compiled(network, name, torch.float32)
    yield "torch.compile bf16", compiled(network, name, torch.bfloat16)
    if importlib.util.find_spec("onnx") is None:
        print("(onnx is not installed, so ONNX Runtime and OpenVINO are left out)")
        return
    model = onnx_model(network, name, shape)
    if importlib.util.find_spec("onnxruntime"):
        yield "ONNX Runtime fp32", onnx_runtime(model)
    if importlib.util.find_spec("openvino"):
        yield "OpenVINO fp32", openvino(model, "f32")
        yield "OpenVINO bf16", openvino(model, "bf16")


def own(network: FactorizedPrior, name: str) -> Run:
    """The package's runtime, without rounding of latents."""

    @torch.inference_mode()
    def run(given: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(given).contiguous(memory_format=torch.channels_last)
        if name == "g_a":
            return (network.latents(x) + network.medians[:, None, None]).numpy()
        return network.synthesis(x - network.medians[:, None, None]).numpy()

    return run


class Plain(nn.Module):
    """GDN as its plain formula, which a compiler can fuse."""

    def __init__(self, gdn: GDN) -> None:
        super().__init__()
        self.beta, self.gamma, self.inverse = gdn.beta, gdn.gamma, gdn.inverse

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        norm = nn.functional.conv2d(x * x, self.gamma.to(x.dtype), self.beta.to(x.dtype))
        return x * (norm.sqrt() if self.inverse else norm.rsqrt())


def compiled(network: FactorizedPrior, name: str, dtype: torch.dtype) -> Run:
    """torch.compile with frozen weights; everything runs in this dtype."""
    import torch._inductor.config as inductor

    inductor.freezing = True
    copy = FactorizedPrior.build({key: value.numpy() for key, value in network.state_dict().items()})
    layers = [Plain(layer) if isinstance(layer, GDN) else layer for layer in getattr(copy, name)]
    plain = nn.Sequential(*layers).to(dtype).to(memory_format=torch.channels_last).eval()
    function = torch.compile(plain)

    @torch.no_grad()
    def run(given: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(given).contiguous(memory_format=torch.channels_last)
        return function(x.to(dtype)).float().numpy()

    return run


def onnx_model(network: FactorizedPrior, name: str, shape: tuple[int, ...]) -> bytes:
    """The layers as an ONNX graph."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants, x = [], [], "x0"

    def constant(key: str, value: torch.Tensor) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value.numpy()), key))
        return key

    for i, layer in enumerate(getattr(network, name)):
        y = f"x{i + 1}"
        if isinstance(layer, GDN):
            gamma, beta = constant(f"gamma{i}", layer.gamma), constant(f"beta{i}", layer.beta)
            nodes += [
                helper.make_node("Mul", [x, x], [f"square{i}"]),
                helper.make_node("Conv", [f"square{i}", gamma, beta], [f"norm{i}"], kernel_shape=[1, 1]),
                helper.make_node("Sqrt", [f"norm{i}"], [f"root{i}"]),
                helper.make_node("Mul" if layer.inverse else "Div", [x, f"root{i}"], [y]),
            ]
        else:
            operator = "Conv" if isinstance(layer, nn.Conv2d) else "ConvTranspose"
            more = {} if operator == "Conv" else {"output_padding": [1, 1]}
            inputs = [x, constant(f"weight{i}", layer.weight), constant(f"bias{i}", layer.bias)]
            nodes.append(
                helper.make_node(operator, inputs, [y], kernel_shape=[5, 5], strides=[2, 2], pads=[2, 2, 2, 2], **more)
            )
        x = y
    ends = [helper.make_tensor_value_info(key, TensorProto.FLOAT, dims) for key, dims in (("x0", shape), (x, None))]
    graph = helper.make_graph(nodes, name, ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model.SerializeToString()


def onnx_runtime(model: bytes) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda given: session.run(None, {"x0": given})[0]


def openvino(model: bytes, precision: str) -> Run:
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    network = core.compile_model(core.read_model(model), "CPU", {**settings, "PERFORMANCE_HINT": "LATENCY"})
    return lambda given: network(given)[0]


if __name__ == "__main__":
    main()

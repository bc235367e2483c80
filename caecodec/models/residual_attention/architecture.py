"""The stages of the network, in the order of the analysis and of the synthesis, and how far each of them sees."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

Kind = Literal["residual", "down", "up", "attention"]

STRIDE = 16
BRANCH = 3  # residual blocks in each of the two branches of an attention module
ANALYSIS: tuple[Kind, ...] = ("down", "residual", "down", "attention", "residual", "down", "residual", "attention")
SYNTHESIS: tuple[Kind, ...] = ("attention", "residual", "up", "residual", "attention", "up", "residual", "up")


class ResidualStage(NamedTuple):
    """A residual block: 3x3 convolution, leaky ReLU, 3x3 convolution, GDN, and a shortcut around them.

    kind : "down" has strides of 2 where it begins, "up" sub-pixel upsampling; "residual" neither
    """

    name: str
    kind: Kind
    inputs: int
    outputs: int


class AttentionStage(NamedTuple):
    """The two 1x1 convolutions of an attention module, with as many outputs as inputs."""

    name: str
    channels: int


def stages(hidden: int) -> Iterator[ResidualStage | AttentionStage]:
    """All residual blocks, and the attention modules, each after the blocks of its branches; `hidden` is N."""
    for side, kinds in (("g_a", ANALYSIS), ("g_s", SYNTHESIS)):
        for number, kind in enumerate(kinds):
            name = f"{side}.{number}"
            if kind == "attention":
                for branch in ("trunk", "mask"):
                    for i in range(BRANCH):
                        yield ResidualStage(f"{name}.{branch}.{i}", "residual", hidden, hidden)
                yield AttentionStage(name, hidden)
            else:
                first, last = name == "g_a.0", name == f"g_s.{len(SYNTHESIS) - 1}"
                yield ResidualStage(name, kind, 3 if first else hidden, 3 if last else hidden)


def halo() -> int:
    """The latent positions that a tile needs around it: the larger number of those of the analysis and of the synthesis."""
    analysis = -(-_seen(ANALYSIS, 1) // STRIDE)  # the convolution to the latents sees one position at twice their resolution
    synthesis = -(-_seen(SYNTHESIS, 0) // 2) + 1  # the convolution from the latents is sub-pixel too
    return max(analysis, synthesis)


def _seen(kinds: tuple[Kind, ...], seen: int) -> int:
    """How many positions before its own an output sees in the input of stages, if it sees `seen` in their output.

    Each 3x3 convolution sees one position further, at the resolution at which it is.
    """
    for kind in reversed(kinds):
        if kind == "attention":
            seen += 2 * BRANCH
        elif kind == "residual":
            seen += 2
        elif kind == "down":
            seen = 2 * (seen + 1) + 1
        else:
            seen = -(-(seen + 1) // 2) + 1
    return seen

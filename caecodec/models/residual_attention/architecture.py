"""The stages of the network, in the order of the analysis and of the synthesis, and how far each of them sees."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

Kind = Literal["residual", "down", "up", "attention"]

STRIDE = 16
BRANCH = 3  # residual blocks in each of the two branches of an attention module
ANALYSIS: tuple[Kind, ...] = ("down", "residual", "down", "attention", "residual", "down", "residual", "attention")
SYNTHESIS: tuple[Kind, ...] = ("attention", "residual", "up", "residual", "attention", "up", "residual", "up")


class Stage(NamedTuple):
    """A stage of the analysis or synthesis.

    kind : "residual" and "attention" keep the resolution, "down" halves it and "up" doubles it
    """

    name: str
    kind: Kind
    inputs: int
    outputs: int


def stages(kinds: tuple[Kind, ...], hidden: int) -> Iterator[Stage]:
    """The stages, named by their numbers: all have N = `hidden` channels, but those at pixels have the three colours there."""
    for number, kind in enumerate(kinds):
        colours = 3 if kind == "down" and number == 0 else hidden
        yield Stage(str(number), kind, colours, 3 if kind == "up" and number == len(kinds) - 1 else hidden)


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

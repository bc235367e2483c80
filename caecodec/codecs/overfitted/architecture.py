"""The networks of the overfitted codec: sizes, contexts, and their parameters by name (FORMAT.md, 14: Networks)."""

from dataclasses import dataclass
from math import prod

from ...errors import ParameterError

LEVELS = 7
MAX_LATENT = 2**15 - 1
OFFSETS = (
    (0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-1, -2), (-1, 2),
    (-2, -1), (-2, 1), (-2, -2), (-2, 2), (0, -3), (-3, 0),
)  # fmt: skip
# Groups of parameters that share a step. Parameters are coded in this order, within a group and from group to group.
GROUPS = (
    ("arm_w1", "arm_w2", "arm_w3", "arm_ws"),
    ("arm_b1", "arm_b2", "arm_b3"),
    ("up",),
    ("syn_w1", "syn_w2", "syn_ws"),
    ("res_w",),
    ("syn_b1", "syn_b2", "res_b"),
)


@dataclass(frozen=True)
class Decoder:
    """A size of the networks.

    contexts : how many of OFFSETS the probabilities of a value depend on
    slope : how many columns a row is behind the row above it, so that its contexts are known
    hidden, residuals : the width of the synthesis, and the number of its 3x3 layers
    """

    name: str
    contexts: int
    slope: int
    hidden: int
    residuals: int

    @property
    def inputs(self) -> int:
        """The number N of inputs of the probability network: the contexts, and the magnitude of the parent."""
        return self.contexts + 1

    def shapes(self, channels: int) -> dict[str, tuple[int, ...]]:
        """The shape of each parameter for pictures of this many channels, in the order of coding."""
        n, hidden, residuals = self.inputs, self.hidden, self.residuals
        shapes: dict[str, tuple[int, ...]] = {
            "arm_w1": (n, n), "arm_w2": (n, n), "arm_w3": (2, n), "arm_ws": (2, n),
            "arm_b1": (n,), "arm_b2": (n,), "arm_b3": (2,),
            "up": (LEVELS - 1, 4),
            "syn_w1": (hidden, LEVELS), "syn_w2": (channels, hidden), "syn_ws": (channels, LEVELS),
            "res_w": (residuals, channels, channels, 3, 3),
            "syn_b1": (hidden,), "syn_b2": (channels,), "res_b": (residuals, channels),
        }  # fmt: skip
        return shapes

    def parameters(self, channels: int) -> int:
        """The number of parameters."""
        return sum(map(prod, self.shapes(channels).values()))


LOP = Decoder("lop", contexts=6, slope=2, hidden=8, residuals=1)
MOP = Decoder("mop", contexts=10, slope=3, hidden=16, residuals=2)
HOP = Decoder("hop", contexts=14, slope=3, hidden=48, residuals=2)
DECODERS = {decoder.name: decoder for decoder in (LOP, MOP, HOP)}
_AUTO = ((2**16, LOP), (2**19, MOP))


def choose(name: str | None, pixels: int) -> Decoder:
    """The decoder of this name; for None, one whose size suits a network that serves this many pixels.

    Raises ParameterError if there is no such decoder.
    """
    if name is None:
        return next((decoder for limit, decoder in _AUTO if pixels < limit), HOP)
    if not isinstance(name, str) or name not in DECODERS:
        raise ParameterError(f"decoder is {name!r} but must be 'lop', 'mop', 'hop', or None to choose by the size of chunks")
    return DECODERS[name]


def level_sizes(height: int, width: int) -> tuple[tuple[int, int], ...]:
    """(rows, columns) of the latents of each level of pictures of this size, the finest first."""
    return tuple((-(-height >> level), -(-width >> level)) for level in range(LEVELS))

"""The symbols that a network makes of a chunk."""

from caecodec.chunks.spec import ChunkSpec
from caecodec.engine import ChunkTask, DevicePlacement, PlacedNetwork, engine
from caecodec.entropy import static


def analyse(array, axes, layout, source, quality, gpu=None):
    """Symbols (m, M, rows, columns) of a chunk."""
    network = PlacedNetwork(source, quality, DevicePlacement.choose(gpu))
    spec = ChunkSpec(array.shape, array.dtype.name, axes, layout)
    return engine().cpu.analyse(ChunkTask(network, static.MODEL, spec), array)

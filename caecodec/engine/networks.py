"""The networks of one device, which are built on first use and run on batches."""

import threading
from collections.abc import Callable

import torch

from .. import settings, weights
from ..models.family import InferenceNetwork, IntegerSynthesis
from ..weights.file import QualityWeights
from .forks import no_fork
from .jobs import Array, NetworkJob
from .place import PlacedNetwork

EXACT_LEVELS = 65535
Load = Callable[[weights.Source, int], QualityWeights]


class Networks:
    """Builds and runs networks in the memory of a device.

    PyTorch's thread pools belong to the thread that first uses them, and would hang in a forked child if that were a caller's
    thread. So the pool's threads do everything, even building.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._networks: dict[PlacedNetwork, InferenceNetwork] = {}
        self._exact: dict[PlacedNetwork, IntegerSynthesis] = {}

    @no_fork()
    @torch.inference_mode()
    def run(self, job: NetworkJob, batch: Array) -> Array:
        """Run the network of a job on a batch."""
        placed = job.network
        if job.direction == "exact":
            return self._exact_synthesis(placed).run(batch, EXACT_LEVELS, settings.current().memory)
        tensor = torch.from_numpy(batch).to(placed.placement.device)
        run = getattr(self.network(placed), job.direction)
        out: Array = run(tensor.contiguous(memory_format=torch.channels_last)).cpu().numpy()
        return out

    def network(self, placed: PlacedNetwork) -> InferenceNetwork:
        """The network in its precision, in the memory of the device."""
        with self._lock:
            if placed not in self._networks:
                loaded, placement = self._load(placed.source, placed.quality), placed.placement
                network = loaded.family.build(loaded.network.tensors)
                loaded.family.reduce_precision(network, placement.precision, placed.quality, placement.device)
                self._networks[placed] = network.to(placement.device)
            return self._networks[placed]

    def _exact_synthesis(self, placed: PlacedNetwork) -> IntegerSynthesis:
        with self._lock:
            if placed not in self._exact:
                loaded = self._load(placed.source, placed.quality)
                self._exact[placed] = loaded.family.build_exact(loaded.network.tensors, placed.placement.device)
            return self._exact[placed]

"""Networks of one device: built when they are first needed, and run on batches."""

import threading
from collections.abc import Callable

import torch

from .. import settings, weights
from ..models.factorized import precision
from ..models.factorized.exact import ExactSynthesis
from ..models.factorized.network import FactorizedPrior
from ..models.registry import FAMILIES
from ..weights.file import Network
from .forks import held_back
from .jobs import Array, Job, Model

EXACT_LEVELS = 65535
Load = Callable[[weights.Source, int], Network]


class Networks:
    """The networks in the memory of a device.

    PyTorch's thread pools belong to the thread that first used them, and would hang in a forked child if that were a
    caller's; so even building them is left to the threads of the pool.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._priors: dict[Model, FactorizedPrior] = {}
        self._exacts: dict[Model, ExactSynthesis] = {}

    @held_back()
    @torch.inference_mode()
    def run(self, job: Job, batch: Array) -> Array:
        """What the network of a job makes of a batch."""
        if job.direction == "exact":
            return self._exact(job.model).run(batch, EXACT_LEVELS, settings.current().memory)
        tensor = torch.from_numpy(batch).to(job.model.place.device)
        run = getattr(self.prior(job.model), job.direction)
        out: Array = run(tensor.contiguous(memory_format=torch.channels_last)).cpu().numpy()
        return out

    def _exact(self, model: Model) -> ExactSynthesis:
        with self._lock:
            if model not in self._exacts:
                loaded = self._load(model.source, model.quality)
                self._exacts[model] = ExactSynthesis.build(loaded.tensors, model.place.device)
            return self._exacts[model]

    def prior(self, model: Model) -> FactorizedPrior:
        """The network of a model."""
        with self._lock:
            if model not in self._priors:
                loaded = self._load(model.source, model.quality)
                network = FAMILIES[loaded.family].build(loaded.tensors)
                network.reduce_precision(precision.layers(model.place.precision, model.quality, model.place.device))
                self._priors[model] = network.to(model.place.device)
            return self._priors[model]

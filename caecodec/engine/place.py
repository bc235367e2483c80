"""Where and how a network runs: its device and precision."""

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch

from .. import settings, weights
from ..errors import ParameterError

Gpu = bool | str | None


@dataclass(frozen=True)
class DevicePlacement:
    """The name of a device in PyTorch, and a precision as in the settings."""

    device: str
    precision: str

    @classmethod
    def choose(cls, gpu: Gpu) -> "DevicePlacement":
        """Choose a device: True is CUDA if present, False the CPU, None what the settings say, and a string as in the settings.

        Raises ParameterError for an unknown device, or a CUDA device that PyTorch does not find.
        """
        now = settings.current()
        if isinstance(gpu, str):
            wanted = settings.parse_device(gpu, "device")
        else:
            wanted = now.device if gpu is None else "auto" if gpu else "cpu"
        if wanted == "auto":
            wanted = "cuda" if _cuda_devices() else "cpu"
        if wanted != "cpu" and (torch.device(wanted).index or 0) >= _cuda_devices():
            name = "device" if isinstance(gpu, str) else "CAECODEC_DEVICE"
            raise ParameterError(f"{name} is {wanted!r} but PyTorch finds no such device; set it to cpu or auto")
        return cls(wanted, now.precision)

    @property
    def on_cpu(self) -> bool:
        """Whether the device is the CPU."""
        return self.device == "cpu"

    def current_settings(self) -> settings.Settings:
        """The settings in force on this device."""
        if self.on_cpu:
            return settings.current()
        return settings.on_cuda(torch.cuda.get_device_properties(self.device).total_memory)


class PlacedNetwork(NamedTuple):
    """One quality of a weights file, on a device."""

    source: weights.Source
    quality: int
    placement: DevicePlacement


@cache
def _cuda_devices() -> int:
    """The number of CUDA devices; cached, because every chunk asks for it."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0

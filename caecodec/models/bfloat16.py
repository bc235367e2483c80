"""Decides whether networks run in bfloat16."""

import torch

_LEAST_CAPABILITY = (8, 0)  # of a GPU


def wanted(precision: str, device: str) -> bool:
    """Whether a precision of the settings means bfloat16; "auto" does if the processor or GPU has instructions for it."""
    if precision != "auto":
        return precision == "bf16"
    if device == "cpu":
        return processor_has_bfloat16()
    return torch.cuda.get_device_capability(device) >= _LEAST_CAPABILITY


def processor_has_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16 dot products."""
    return torch.cpu._is_avx512_bf16_supported()

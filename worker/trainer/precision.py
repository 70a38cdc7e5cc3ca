"""In how many bits matrices are multiplied while training."""

from contextlib import AbstractContextManager, nullcontext
from typing import assert_never

import torch

from core.spec.training import Precision


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """A context for the forward pass: weights, loss and update stay float32 in both.

    bfloat16 pays off on wide networks, on processors that have avx512_bf16 or AMX (docs/performance.md).
    """
    match precision:
        case "float32":
            return nullcontext()
        case "bfloat16":
            return torch.autocast(device.type, torch.bfloat16)
        case _:
            assert_never(precision)

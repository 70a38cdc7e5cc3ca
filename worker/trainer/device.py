"""Where a training runs. One process has one device, and its rows lie there whole.

No test of this project has a GPU: what is said of `cuda` here follows torch's documentation and was never run.
"""

from typing import assert_never

import torch
from torch import Tensor

from core import errors
from core.spec.data import Resources


def device_of(resources: Resources) -> torch.device:
    """Raises `DeviceNotThere` where a GPU is asked for that this worker has not."""
    match resources.device:
        case "cpu":
            return torch.device("cpu")
        case "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        case "cuda":
            if not torch.cuda.is_available():
                raise errors.DeviceNotThere(device="cuda")
            return torch.device("cuda")
        case _:
            assert_never(resources.device)


def seed_noise(seed: int, device: torch.device) -> None:
    """Seeds what dropout draws from. Not `torch.manual_seed`, which looks at every device: 0.1 ms."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def noise_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state() if device.type == "cuda" else torch.get_rng_state()


def restore_noise(state: Tensor, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state)
    else:
        torch.set_rng_state(state)

"""The physical limit of one core: its matrix products at their fastest, and Adam's pass over the parameters."""

import time
from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from workloads import Workload

LIBRARIES = ("torch",)
SIDE = 2048
ADAM_STEPS = 100


def prepare(workload: Workload, features: NDArray[Any], target: NDArray[Any]) -> Callable[[int], Any]:
    left, right, product = (torch.rand(SIDE, SIDE) for _ in range(3))
    parameters, gradients, first, second = (
        [torch.zeros(shape) for widths in workload.widths for shape in (widths, widths[1:])] for _ in range(4)
    )
    steps = [torch.ones(())] * len(parameters)

    def multiply() -> None:
        torch.mm(left, right, out=product)

    def step() -> None:
        torch._fused_adam_(
            parameters,
            gradients,
            first,
            second,
            [],
            steps,
            lr=1e-3,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.0,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )

    def measure(_: int) -> dict[str, float]:
        gflops = 2 * SIDE**3 / 1e9 / min(seconds(multiply, 1) for _ in range(5))
        adam = min(seconds(step, ADAM_STEPS) for _ in range(5))
        return {"gflops": gflops, "adam": adam, "limit": workload.gflop / gflops + workload.steps * adam}

    return measure


def seconds(act: Callable[[], None], times: int) -> float:
    began = time.process_time()
    for _ in range(times):
        act()
    return (time.process_time() - began) / times

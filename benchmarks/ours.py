"""Our engine, bare: what the training process does between reading the rows and writing the artifacts.

The only file of the benchmarks that imports the product.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from workloads import LEARNING_RATE, NotRun, Workload

from core.spec import TrainingSpec
from worker.trainer import processor
from worker.trainer.examples import Examples
from worker.trainer.fit import fit
from worker.trainer.network import build
from worker.trainer.optimizers import updater
from worker.trainer.state import TrainingState

LIBRARIES = ("torch",)


def prepare(workload: Workload, features: NDArray[Any], target: NDArray[Any], **precision: str) -> Callable[[int], Any]:
    if precision and not {"avx512_bf16", "amx_bf16"} & set(Path("/proc/cpuinfo").read_text().split()):
        raise NotRun("this CPU has neither avx512_bf16 nor AMX")
    processor.set_up(threads=1)
    spec = resolved_spec(workload, precision)
    train_rows = Examples(torch.from_numpy(features), torch.from_numpy(target))
    no_rows = Examples(train_rows.features[:0], train_rows.target[:0])

    def train(seed: int) -> list[NDArray[Any]]:
        seeded = spec.model_copy(update={"training": spec.training.model_copy(update={"seed": seed})})
        network = build(spec.network.layers, spec.network.output, workload.inputs, seed)
        state = TrainingState(network, updater(spec.training.optimizer, list(network.parameters())))
        for _ in fit(seeded, train_rows, no_rows, state):
            pass
        return [parameter.detach().numpy().T for parameter in network.parameters()]

    return train


def resolved_spec(workload: Workload, precision: dict[str, str]) -> TrainingSpec:
    layers = [{"type": "dense", "units": units, "activation": "relu"} for units in workload.hidden]
    return TrainingSpec.model_validate(
        {
            "task": "classification",
            "target": "target",
            "split": {"validation": 0},  # measuring other rows would cost what no peer does
            "network": {"layers": layers, "output": {"units": workload.classes, "activation": "softmax"}},
            "training": {
                "loss": "cross_entropy",
                "optimizer": {"name": "adam", "learning_rate": LEARNING_RATE},
                "batch_size": workload.batch_size,
                "epochs": workload.epochs,
                "stop": {"monitor": "train_loss"},
                "metrics": [],  # as no peer measures any
                **precision,
            },
        }
    )

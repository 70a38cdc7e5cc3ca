"""Contestants side by side: one process each, all on one core, one of them computing at a time, round by round."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from workloads import WORKLOADS, Workload, mean_cross_entropy

HERE = Path(__file__).parent
ROOT = HERE.parent
PEERS_PYTHON = ROOT / ".bench-venv" / "bin" / "python"
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}
# Some look for the server that they would report to; none may be told of another installation's.
KEPT = ("PATH", "HOME", "LANG", "TMPDIR")


@dataclass(frozen=True)
class Contestant:
    key: str
    title: str
    module: str
    options: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    workloads: tuple[str, ...] = tuple(WORKLOADS)

    @property
    def is_ours(self) -> bool:
        return not self.module.startswith("peers.")


OURS = Contestant("ours", "backpropd", "ours")
OURS_BF16 = Contestant("ours-bf16", "backpropd, bfloat16", "ours", {"precision": "bfloat16"}, workloads=("W3",))
LIMIT = Contestant("limit", "physical limit", "limit")
JAX = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
STEPS_32 = {"steps_per_execution": 32}
PEERS = (
    Contestant("textbook", "textbook DataLoader loop", "peers.textbook"),
    Contestant("keras-jax", "Keras on jax", "peers.keras_fit", environment=JAX),
    Contestant("keras-jax-32", "Keras on jax, 32 steps a call", "peers.keras_fit", STEPS_32, JAX),
    Contestant(
        "keras-jax-kept",
        "Keras on jax, 32 steps, compiled before",
        "peers.keras_fit",
        STEPS_32 | {"keep_compiled": True},
        JAX,
    ),
    Contestant("keras-torch", "Keras on torch", "peers.keras_fit", environment={"KERAS_BACKEND": "torch"}),
    Contestant("sklearn", "scikit-learn MLPClassifier", "peers.sklearn_fit"),
    Contestant("lightning", "Lightning", "peers.lightning_fit"),
    Contestant("skorch", "skorch", "peers.skorch_fit"),
    Contestant("jax-scan", "jax, a scan an epoch, compiled before", "peers.jax_scan", environment=JAX),
)


@dataclass
class Measured:
    """What one contestant needed on one workload, a value a round; the discarded round is apart."""

    contestant: Contestant
    versions: dict[str, str] = field(default_factory=dict)
    not_run: str | None = None
    discarded: float = 0.0  # CPU seconds of the first training, with what was compiled for it
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)  # on all training rows, after the last step
    facts: list[dict[str, float]] = field(default_factory=list)  # of a contestant that only measures


def run(
    workload: Workload,
    contestants: Iterable[Contestant],
    rounds: int,
    folder: Path,
    core: int,
    progress: Callable[[str], None],
) -> dict[str, Measured]:
    """By key of the contestant. Each round has its seed, the same for all, and an order of its own."""
    features, target = workload.load(folder)
    found: dict[str, Measured] = {}
    with ExitStack() as stack:
        children = {}
        for contestant in contestants:
            progress(f"{workload.name}: starting {contestant.title}")
            child = stack.enter_context(started(contestant, workload, folder, core))
            greeting = child.answer()
            key = contestant.key
            found[key] = Measured(contestant, greeting.get("versions", {}), greeting.get("not_run"))
            if not found[key].not_run:
                children[key] = child

        for number in range(rounds + 1):
            order = list(children)
            random.Random(number).shuffle(order)
            for key in order:
                what = f"round {number} of {rounds}" if number else "the round that is discarded"
                progress(f"{workload.name}: {what}, {found[key].contestant.title}")
                answer = children[key].train(number)
                if not number:
                    found[key].discarded = answer["cpu"]
                    continue
                found[key].cpu.append(answer.pop("cpu"))
                found[key].wall.append(answer.pop("wall"))
                if answer:
                    found[key].facts.append(answer)
                else:
                    found[key].loss.append(mean_cross_entropy(children[key].weights(), features, target))
    return found


class Child:
    """A contestant's process, seen from outside."""

    def __init__(self, process: subprocess.Popen[str], weights_file: Path, log: Path) -> None:
        self._process, self._weights_file, self._log = process, weights_file, log

    def train(self, seed: int) -> dict[str, float]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seed} {self._weights_file}\n")
        self._process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise SystemExit(f"a contestant died:\n{self._log.read_text(errors='replace')[-3000:]}")
        return dict(json.loads(line))

    def weights(self) -> list[Any]:
        with np.load(self._weights_file) as arrays:
            return [arrays[name] for name in arrays.files]


@contextmanager
def started(contestant: Contestant, workload: Workload, folder: Path, core: int) -> Iterator[Child]:
    if not contestant.is_ours and not PEERS_PYTHON.exists():
        raise SystemExit("the peers are not installed: `make bench` does it, or `make .bench-venv/.ready` alone")
    environment = {name: value for name, value in os.environ.items() if name in KEPT}
    environment |= ONE_THREAD | contestant.environment
    if contestant.is_ours:
        environment["PYTHONPATH"] = str(ROOT)
    name = f"{workload.name}-{contestant.key}"
    log = folder / f"{name}.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [
                sys.executable if contestant.is_ours else PEERS_PYTHON,
                *(HERE / "contestant.py", contestant.module, workload.name, folder),
                *("--core", str(core), "--options", json.dumps(contestant.options)),
            ],
            env=environment,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        yield Child(process, folder / f"{name}.npz", log)
    finally:
        process.kill()
        process.communicate()


def make_rows(workload: Workload, folder: Path) -> None:
    """scikit-learn draws them, so the peers' environment does it."""
    if not PEERS_PYTHON.exists():
        raise SystemExit("the peers are not installed: `make bench` does it, or `make .bench-venv/.ready` alone")
    subprocess.run([PEERS_PYTHON, HERE / "workloads.py", workload.name, folder], check=True)

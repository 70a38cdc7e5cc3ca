"""Files that predict by themselves, each held against the network before it goes.

All are made from the spec and the fitted preprocessing by a `match` over their parts. Nothing is traced: tracing costs
0.9 s, warm, and what is made is checked instead.
"""

import runpy
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, assert_never

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from core import errors
from core.spec import KerasFile
from core.spec.network import widths
from worker.trainer.examples import Examples
from worker.trainer.exports import parity
from worker.trainer.exports.network_file import network_source
from worker.trainer.exports.onnx_file import onnx_bytes
from worker.trainer.exports.outcome import Outcome, outcome_of
from worker.trainer.exports.parity import Agreement, Reference
from worker.trainer.exports.predict_file import predict_source, readme
from worker.trainer.exports.raw_rows import RawRows
from worker.trainer.exports.score_numpy_file import score_numpy_source
from worker.trainer.exports.steps import Step, steps_of
from worker.trainer.network import Network
from worker.trainer.order import TableOrder
from worker.trainer.preprocessing import Preprocessing, transform

ROWS = 2_000  # of the table, at most, on which the files are checked: 0.1 s for 100 columns
NUMBERS = 4_000_000  # that the network computes for them at once, at most: 16 MB
ROWS_AS_JSON = 64  # that go through the scripts' `predict`, as a user would send them

NETWORK, SCORE_NUMPY, ONNX, STATE_DICT, PREDICT = (
    "network.py",
    "score_numpy.py",
    "network.onnx",
    "state_dict.pt",
    "predict.py",
)


@dataclass(frozen=True)
class Exported:
    """How far each file agrees, and the first that does not."""

    parity: dict[str, Any]
    fault: errors.ExportFailed | None


def export(
    artifacts: Path, bundle: Path, order: TableOrder, fitted: Preprocessing, network: Network, target: Tensor
) -> Exported:
    """Writes the files beside `weights.safetensors` and `preprocessing.json`, and into `bundle` what only that has.

    `target` is that of the training rows, in its own units. A file that could not be made, or does not agree, is
    removed.
    """
    outcome = outcome_of(order.spec, fitted.target)
    output, layers = order.spec.network.output, order.spec.network.layers or []
    assert output is not None, "a resolved spec has its output"
    embeddings = [(len(one.categories) + 1, one.dimension) for one in fitted.embeddings]
    width = len(fitted.features) + sum(dimension for _, dimension in embeddings)
    steps = steps_of(layers, output, width)
    at_once = max(1, NUMBERS // sum(widths(layers, output, width)))
    checked = _Checked(artifacts, bundle, order, fitted, network, outcome, steps, target, at_once)

    bundle.mkdir()
    found: dict[str, Agreement] = {}
    fault: errors.ExportFailed | None = None
    made: dict[str, Callable[[], Agreement | None]] = {
        STATE_DICT: checked.state_dict,
        SCORE_NUMPY: checked.score_numpy,
        NETWORK: checked.network,
        ONNX: checked.onnx,
        PREDICT: checked.predict,
        **{name: partial(checked.keras, name) for name in order.spec.outputs},
    }
    for name, make in made.items():
        try:
            with named(name):
                agreement = make()
        except errors.ExportFailed as problem:
            fault = fault or problem
            for folder in (artifacts, bundle):
                (folder / name).unlink(missing_ok=True)
        else:
            found |= {name: agreement} if agreement is not None else {}
    (bundle / "README.md").write_text(readme(fitted, outcome), "utf-8")
    unit = "target_deviation" if outcome.form in ("values", "quantiles") else outcome.scores
    return Exported({"unit": unit, **{name: one.as_json() for name, one in found.items()}}, fault)


@contextmanager
def named(name: str) -> Iterator[None]:
    """Whatever an exporter does wrong is said under the name of its file."""
    try:
        yield
    except (errors.ExportFailed, MemoryError):
        raise
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        raise errors.ExportFailed(f"{name} could not be made: {type(error).__name__}.", artifact=name) from error


class _Checked:
    """Each method writes one file, and holds it against the network."""

    def __init__(
        self,
        artifacts: Path,
        bundle: Path,
        order: TableOrder,
        fitted: Preprocessing,
        network: Network,
        outcome: Outcome,
        steps: list[Step],
        target: Tensor,
        at_once: int,
    ) -> None:
        self._artifacts, self._bundle, self._at_once = artifacts, bundle, at_once
        self._spec, self._fitted, self._outcome, self._steps = order.spec, fitted, outcome, steps
        self._weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
        self._rows = RawRows(order, fitted, min(order.rows, ROWS, at_once))
        features, codes = transform(fitted, self._rows.order, self._rows, np.arange(self._rows.count))
        device = next(network.parameters()).device
        self._inputs = Examples(
            torch.from_numpy(features).to(device),
            torch.zeros(len(features), device=device),
            None if codes is None else torch.from_numpy(codes).to(device),
        )
        self._reference = Reference(network, self._inputs, outcome, _deviations(outcome, target))
        self._session: Any = None
        self._sent: list[dict[str, Any]] = []  # the rows as a user would send them
        self._by_script: list[Tensor] = []  # the inputs as `score_numpy.py` makes them

    def state_dict(self) -> None:
        torch.save(self._weights, self._artifacts / STATE_DICT)

    def score_numpy(self) -> Agreement:
        file = self._artifacts / SCORE_NUMPY
        made = _run(file, score_numpy_source(self._fitted, self._steps, self._outcome))
        every = slice(0, self._rows.count)
        features, codes = made["inputs"](self._rows.columns(every))
        self._by_script = [torch.from_numpy(one) for one in (features, *([np.stack(codes, 1)] if codes else []))]
        scores = made["outputs"](made["logits"](features, codes))
        found = self._reference.compare(SCORE_NUMPY, scores, every, self._steps)
        self._compare_answers(SCORE_NUMPY, made["predict"])
        return found

    def network(self) -> Agreement:
        """With the inputs that `score_numpy.py` makes by `preprocessing.json`, where there is one."""
        file = self._artifacts / NETWORK
        sizes = [
            tuple(self._weights[f"embeddings.{place}.weight"].shape) for place in range(len(self._fitted.embeddings))
        ]
        made = _run(file, network_source(len(self._fitted.features), sizes, self._steps, self._outcome))
        network = made["build"]()
        network.load_state_dict(load_file(self._artifacts / "weights.safetensors"))
        network.eval()
        every = slice(0, self._rows.count)
        given = [one.cpu() for one in (self._inputs.features, self._inputs.codes) if one is not None]
        inputs = self._by_script or given
        return self._reference.compare(NETWORK, made["predict"](network, *inputs).numpy(), every, self._steps)

    def onnx(self) -> Agreement:
        file = self._artifacts / ONNX
        file.write_bytes(onnx_bytes(self._fitted, self._steps, self._weights, self._outcome))
        self._session = parity.session_of(file)
        every, scores = slice(0, self._rows.count), parity.of_onnx(self._session, self._rows, self._at_once)
        return self._reference.compare(ONNX, scores, every, self._steps)

    def keras(self, name: KerasFile) -> Agreement:
        """Read back from the file, with the features as the network has them."""
        from worker.trainer.exports import keras_file  # h5py takes 40 ms to load, and is seldom asked for

        spec, features = self._spec, self._inputs.features.cpu()
        output = spec.network.output
        assert output is not None, "a resolved spec has its output"
        config = keras_file.config_of(spec.network.layers or [], output, features.shape[1], self._outcome)
        weights = keras_file.weights_bytes(config, self._steps, self._weights)
        file = self._artifacts / name
        match name:
            case "network.keras":
                file.write_bytes(keras_file.keras_bytes(config, weights))
                scores = keras_file.of_keras(file, features, self._outcome)
            case "network.weights.h5":
                file.write_bytes(weights)
                scores = keras_file.of_weights(config, file.read_bytes(), features, self._outcome)
            case _:
                assert_never(name)
        return self._reference.compare(name, scores, slice(0, self._rows.count), self._steps)

    def predict(self) -> Agreement:
        file = self._bundle / PREDICT
        made = _run(file, predict_source())
        return self._compare_answers(PREDICT, lambda rows: made["predict"](rows, self._session))

    def _compare_answers(self, name: str, predict: Any) -> Agreement:
        """The last rows, among them those that were made to be hard, as JSON."""
        rows = range(max(0, self._rows.count - ROWS_AS_JSON), self._rows.count)
        if not self._sent:
            self._sent = self._rows.as_json(list(rows))
        scores = parity.of_answers(predict([dict(row) for row in self._sent]), self._outcome)
        return self._reference.compare(name, scores, slice(rows.start, rows.stop), self._steps)


def _run(file: Path, source: str) -> dict[str, Any]:
    """Writes a script and runs it. What others have named stands in it only as literals, or in the files beside it."""
    file.write_text(source, "utf-8")
    return runpy.run_path(str(file))


def _deviations(outcome: Outcome, target: Tensor) -> list[float]:
    """Of each target, over the training rows; 1 for probabilities, and where all are the same."""
    if outcome.form in ("classes", "labels"):
        return [1.0]
    if outcome.scaling is not None:
        return [one.scale for one in outcome.scaling]
    found = target.double().std(0, correction=0)
    return [float(one) or 1.0 for one in found]

"""What `report.json` says of the weights that are kept, beside the losses and metrics of each part: how sure those are,
where the network is wrong, what it goes by, and what simple models come to.

Bounded in rows and in time, by arithmetic and not by a clock, so that the same job leaves the same bytes: for up to
5,000 rows and 100 columns all of it takes 0.05 to 0.12 s of one core. What is sampled is said.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.spec import TrainingSpec
from core.spec.losses import Gamma, Poisson, Quantile
from core.spec.metrics import MetricName, metrics_of
from worker.trainer.examples import Examples
from worker.trainer.fit import output_of
from worker.trainer.losses import row_losses
from worker.trainer.network import Network
from worker.trainer.preparation import Prepared
from worker.trainer.preprocessing import Rows
from worker.trainer.report import baselines, importance, intervals
from worker.trainer.report.baselines import Sample, baselines_of
from worker.trainer.report.calibration import calibration_of, coverage_of
from worker.trainer.report.confusion import confusion_of
from worker.trainer.report.curves import curves_of
from worker.trainer.report.importance import importance_of
from worker.trainer.report.intervals import Interval, measure_all, of_mean
from worker.trainer.report.judged import judge, scores_of
from worker.trainer.report.residuals import residuals_of
from worker.trainer.report.scores import RANKED
from worker.trainer.scaling import TargetScaling

MOST_ROWS = 10_000  # of each part
SEED = 0  # of the rows that are looked at where there are more: the same for every job
UNSEEN = ("validation", "test")  # parts that were not trained on
ONLY_ASKED: frozenset[MetricName] = frozenset({"mape", "msle"})  # they mean nothing where targets are near 0
COMPARED: dict[str, tuple[MetricName, ...]] = {
    "classification": ("accuracy", "log_loss"),
    "multilabel": ("accuracy", "log_loss"),
    "regression": ("rmse", "mae", "r2"),
}


def report_of(
    spec: TrainingSpec,
    network: Network,
    prepared: Prepared,
    logits: Mapping[str, Tensor],
    thresholds: Sequence[float] | None,
) -> dict[str, Any]:
    """`logits` are the network's, of the first rows of each part: as many as there are. The network is in `eval()`.

    A part in which a prediction is no number has no page of its own here.
    """
    classes, names = prepared.preprocessing.target.classes or [], prepared.preprocessing.target.names
    assert spec.task != "auto", "a resolved spec has its task"
    able, asked = _metrics(spec, len(classes)), spec.training.metrics or []
    seen = [name for name in able if name not in RANKED or name in asked]  # sorting all training rows takes long
    metrics = {"train": seen, "validation": able, "test": able}
    every: dict[str, Examples] = {
        "train": prepared.train,
        "validation": prepared.validation,
        "test": prepared.test,
    }
    scaling = prepared.target_scaling
    unit = 1.0 if scaling is None else scaling.loss_unit(spec.training.loss)
    parts = {
        name: sample
        for name, examples in every.items()
        if name in logits
        and (sample := _sample(spec, metrics[name], examples, logits[name], scaling, thresholds)) is not None
    }
    unseen = {name: parts[name] for name in UNSEEN if name in parts}
    shown = {name: one.judged for name, one in unseen.items()} or {name: one.judged for name, one in parts.items()}
    found: dict[str, Any] = {
        "intervals": {
            "level": intervals.LEVEL,
            **{
                name: {
                    "rows": len(one.rows),
                    "loss": _loss(spec, one, logits[name], unit).as_json(),
                    **{metric: measured.interval.as_json() for metric, measured in one.known.items()},
                }
                for name, one in parts.items()
            },
        }
    }
    if spec.task == "regression":
        numbers = {name: _row_numbers(prepared, name) for name in shown}
        found["residuals"] = {
            name: residuals_of(one, names, numbers[name][parts[name].rows.numpy()]) for name, one in shown.items()
        }
        if isinstance(spec.training.loss, Quantile):
            found["calibration"] = {name: coverage_of(one, spec.training.loss, names) for name, one in shown.items()}
    else:
        found["confusion_matrix"] = {name: confusion_of(one, classes, names) for name, one in shown.items()}
        found["curves"] = {name: curves_of(one, classes, names) for name, one in shown.items()}
        if output_of(spec).activation != "linear":
            found["calibration"] = {name: calibration_of(one) for name, one in shown.items()}
    found["permutation_importance"] = _importance(spec, network, prepared, unit)
    wanted = {*asked, *COMPARED[spec.task], *(["roc_auc"] if len(classes) == 2 else [])}
    compared = [name for name in able if name in wanted]
    width = max(1, len(prepared.preprocessing.features))
    learned = _some(len(prepared.train), min(baselines.MOST_ROWS, max(1, baselines.MOST_NUMBERS // width)))
    found["baselines"] = baselines_of(spec, compared, prepared.train, learned, unseen or parts)
    finite: dict[str, Any] = _finite(found)
    return finite


def _sample(
    spec: TrainingSpec,
    metrics: Sequence[MetricName],
    examples: Examples,
    logits: Tensor,
    scaling: TargetScaling | None,
    thresholds: Sequence[float] | None,
) -> Sample | None:
    rows = _some(len(logits), MOST_ROWS)
    device = logits.device
    scores = scores_of(spec, logits[rows.to(device)], scaling)
    if not bool(scores.isfinite().all()):
        return None
    judged = judge(spec, scores, examples.without_inputs(rows.to(device)), thresholds)
    return Sample(examples, rows, judged, measure_all(metrics, judged))


def _some(rows: int, most: int) -> Tensor:
    """Ascending; all, or as many as may be, drawn."""
    if rows <= most:
        return torch.arange(rows)
    drawn = np.random.Generator(np.random.PCG64(SEED)).choice(rows, most, replace=False, shuffle=False)
    return torch.from_numpy(np.sort(drawn))


def _metrics(spec: TrainingSpec, classes: int) -> list[MetricName]:
    """Those of the task; without probabilities, those that need none."""
    asked = spec.training.metrics or []
    assert spec.task != "auto", "a resolved spec has its task"
    able = [name for name in metrics_of(spec.task, classes) if name not in ONLY_ASKED or name in asked]
    if spec.task != "regression" and output_of(spec).activation == "linear":
        able = [name for name in able if name not in ("brier", "log_loss")]
    return able


def _loss(spec: TrainingSpec, sample: Sample, logits: Tensor, unit: float) -> Interval:
    """The mean of the rows' losses, by what each counts in it."""
    rows = sample.rows.to(logits.device)
    each = row_losses(spec.training.loss, output_of(spec).activation)
    losses = each(logits[rows], sample.examples.target[rows]).detach().cpu().double() * unit
    given = sample.examples.weight
    weight = torch.ones(len(rows), dtype=torch.float64) if given is None else given[rows].cpu().double()
    scale: intervals.Scale = "any" if isinstance(spec.training.loss, Poisson | Gamma) else "from_0"
    return of_mean(losses, weight, scale)


def _importance(spec: TrainingSpec, network: Network, prepared: Prepared, unit: float) -> dict[str, Any] | None:
    """On validation rows; where there are none, on those that were trained on."""
    of = "validation" if len(prepared.validation) else "train"
    examples = prepared.validation if len(prepared.validation) else prepared.train
    fitted = prepared.preprocessing
    inputs = len(fitted.features) + sum(one.dimension for one in fitted.embeddings)
    columns, rows, repeats = importance.rows_of(network, inputs, len(fitted.inputs), len(examples))
    some = examples.of(_some(len(examples), rows).to(examples.target.device))
    found = importance_of(spec, network, fitted, some, repeats, columns, unit)
    return None if found is None else {"of": of, **found}


def _row_numbers(prepared: Prepared, part: str) -> NDArray[np.int64]:
    rows: Rows = getattr(prepared.parts, part)
    return rows


def _finite(value: Any) -> Any:
    """JSON has no NaN: null for what is no number."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return value


__all__ = ["report_of"]

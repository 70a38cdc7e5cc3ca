"""What was predicted of some rows, beside what is so: the form in which every page of the report reads both."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.spec import TrainingSpec
from core.spec.losses import Quantile
from core.spec.metrics import Task
from worker.trainer.examples import Examples
from worker.trainer.predictions import activated
from worker.trainer.scaling import TargetScaling
from worker.trainer.thresholds import given_thresholds


@dataclass(frozen=True)
class Judged:
    """Of several quantiles, `scores` has the middle one, as the metrics have."""

    task: Task
    scores: Tensor  # (rows, classes), (rows, labels) float32, probabilities or margins; (rows, targets) float64 numbers
    target: Tensor  # (rows,) int64 classes; (rows, labels), (rows, targets) float64
    said: Tensor  # (rows,) int64 classes; (rows, labels) bool; the numbers themselves
    weight: Tensor  # (rows,) float64: what each row counts in metrics
    is_weighted: bool
    quantiles: Tensor | None = None  # (rows, targets, quantiles) float64

    def __len__(self) -> int:
        return len(self.target)

    def of(self, rows: Tensor) -> "Judged":
        quantiles = None if self.quantiles is None else self.quantiles[rows]
        scores, target, said, weight = (one[rows] for one in (self.scores, self.target, self.said, self.weight))
        return Judged(self.task, scores, target, said, weight, self.is_weighted, quantiles)


def scores_of(spec: TrainingSpec, logits: Tensor, scaling: TargetScaling | None) -> Tensor:
    """(rows, units) logits as the metrics see them: probabilities, margins of hinge from 0 to 1, numbers in the
    target's own units. Two classes have a column each."""
    output = spec.network.output
    assert output is not None, "a resolved spec has its output"
    found = activated(logits, output.activation)
    if output.activation == "linear" and spec.task != "regression":
        found = (1 + found) / 2
    if scaling is not None:
        found = scaling.undone(found)
    if spec.task == "classification" and found.shape[1] == 1:
        found = torch.cat([1 - found, found], 1)
    return found


def judge(spec: TrainingSpec, scores: Tensor, examples: Examples, thresholds: Sequence[float] | None = None) -> Judged:
    """`scores` as of `scores_of`; what is said goes by the thresholds, those of the spec unless given."""
    assert spec.task != "auto", "a resolved spec has its task"
    scores, target = scores.detach().cpu(), examples.measured_target.cpu()
    weight = examples.sample_weight
    counts = torch.ones(len(target), dtype=torch.float64) if weight is None else weight.cpu().double()
    limits = thresholds or given_thresholds(spec)
    quantiles: Tensor | None = None
    match spec.task:
        case "classification":
            scores = scores.float()
            if target.dtype != torch.int64:  # one-hot or soft targets, or the two classes of a sigmoid
                target = target.argmax(1) if target.shape[1] > 1 else target[:, 0].round().long()
            said = scores.argmax(1) if limits is None else (scores[:, 1] > torch.tensor(limits).to(scores)).long()
        case "multilabel":
            scores, target = scores.float(), target.double()
            said = scores > (0.5 if limits is None else torch.tensor(limits).to(scores))
        case "regression":
            target = target.double()
            levels = scores.double().reshape(len(scores), len(spec.targets), -1)
            if isinstance(spec.training.loss, Quantile):
                quantiles = levels
            said = scores = levels[:, :, levels.shape[2] // 2]
    return Judged(spec.task, scores, target, said, counts, weight is not None, quantiles)

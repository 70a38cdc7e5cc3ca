"""From what was asked to what will be done: every default written out against the dataset's profile.

Arithmetic only, so that the API can refuse here what would otherwise fail in the worker minutes later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from core import errors
from core.profile import Column, Warning
from core.resolve import findings
from core.resolve.choices import categories
from core.resolve.columns import named
from core.resolve.features import resolve_features
from core.resolve.folds import folds_fit
from core.resolve.held_out import HeldOut, fits_held_out, has_texts, with_targets, without_shares
from core.resolve.memory import memory_needed
from core.resolve.output import resolve_network
from core.resolve.outputs import fits_keras
from core.resolve.split import may_be_features, ranks_whole_table, resolve_split, rows_of, rows_suffice
from core.resolve.start import fits, taken_over
from core.resolve.target import resolve_target, target_scale
from core.resolve.trace import memory_of_trace
from core.resolve.training import drawn_rows, resolve_training
from core.resolve.widths import input_width
from core.spec import TrainingSpec
from core.spec.data import HeldOutPart, PartName
from core.spec.network import MAX_PARAMETERS, parameter_count
from core.spec.training import BestThreshold
from core.start import Start


@dataclass(frozen=True)
class Resolved:
    spec: TrainingSpec
    outputs: dict[str, Any]  # task, classes, names
    warnings: list[Warning]
    memory: int  # bytes the training process may take
    parameters: int
    inputs: int  # width of the first layer's input
    embeddings: list[tuple[int, int]]  # rows and width of each table of learned vectors
    rows: dict[PartName, int]  # that have a target, by part; about so many where moments or groups stay together
    drawn: int  # rows of an epoch: those that train, and those drawn again; about so many


def resolve(
    spec: TrainingSpec,
    columns: Sequence[Column],
    rows: int,
    start: Start | None = None,
    held_out: Mapping[HeldOutPart, HeldOut] = MappingProxyType({}),
) -> Resolved:
    """The spec with every default written out; what it does not say is as in the job that it starts from. The parts
    that are `held_out` have datasets of their own.

    Raises a `DataInvalid` that says what the dataset lacks.
    """
    by_name = {column.name: column for column in columns}
    warnings: list[Warning] = []
    if start is not None:
        spec = taken_over(spec, start)
    target = resolve_target(spec, by_name, rows, warnings, start)
    weight = None if spec.sample_weight is None else _sample_weight(spec.sample_weight, target.columns, by_name)
    taken = {*spec.targets, *([weight.name] if weight else [])}
    candidates = may_be_features(columns, spec.split, spec.features)
    used = resolve_features(spec.features, taken, candidates, by_name, rows, warnings)
    network, output, loss = resolve_network(spec.network, target, spec.training.loss)
    with_target = rows - max(column.missing for column in target.columns)
    asked_split = without_shares(spec.split, held_out)
    rows_suffice(asked_split, with_target)
    split = resolve_split(asked_split, target, by_name, warnings)
    folds_fit(split, spec.training, target, by_name, with_target, warnings)
    validates = bool(split.validation or split.folds) or "validation" in held_out
    resolved = spec.model_copy(
        update={
            "task": target.task,
            "target_scale": target_scale(spec.target_scale, target, loss),
            "features": used,
            "split": split,
            "network": network,
            "training": resolve_training(spec.training, loss, target, validates, with_target, warnings),
        }
    )
    if start is not None:
        fits(resolved, start)
    fits_held_out(resolved, target, by_name, held_out)
    warnings += findings.find(spec, resolved, target, by_name, rows)

    inputs = sum(input_width(by_name[name], used.columns[name]) for name in used.include or [])
    embeddings = [
        (categories(by_name[name]) + 1, choice.dimension)
        for name, choice in used.columns.items()
        if choice.dimension is not None
    ]
    if spec.outputs:
        fits_keras(network, output, inputs, embeddings)
    embedded = sum(vectors * dimension for vectors, dimension in embeddings)
    parameters = parameter_count(network.layers or [], output, inputs) + embedded
    if parameters > MAX_PARAMETERS:
        raise errors.ResourcesExceeded(
            f"The network has {parameters:,} parameters; at most {MAX_PARAMETERS:,} are accepted.",
            parameters=parameters,
            limit=MAX_PARAMETERS,
        )
    measured = sum(dataset.rows for dataset in held_out.values())
    reads_table = ranks_whole_table(split, by_name) or has_texts(resolved, by_name, held_out)
    parts = rows_of(split, with_target, {part: with_targets(target, other) for part, other in held_out.items()})
    memory = memory_needed(
        resolved, output, parameters, inputs, rows + measured, train=parts["train"], reads_table=reads_table
    )
    if spec.trace is not None:
        memory += memory_of_trace(spec.trace, network, parameters, inputs)
    outputs = {"task": target.task, "classes": target.classes, "names": spec.targets}
    if (threshold := resolved.training.threshold) is not None:
        number = 0.5 if isinstance(threshold, BestThreshold) else threshold  # until it is chosen
        outputs["thresholds"] = [number] * (len(spec.targets) if target.task == "multilabel" else 1)
    drawn = drawn_rows(resolved.training, target, parts["train"])
    return Resolved(resolved, outputs, warnings, memory, parameters, inputs, embeddings, parts, drawn)


def _sample_weight(name: str, targets: Sequence[Column], by_name: dict[str, Column]) -> Column:
    column = named(name, by_name, "/spec/sample_weight")
    is_unusable = column.number_row is None or column in targets or column.missing
    if is_unusable or (column.minimum or 0.0) < 0 or column.maximum == 0:
        raise errors.SampleWeightInvalid(
            column=name,
            type=column.type,
            missing=column.missing,
            minimum=column.minimum,
            errors=[
                {
                    "pointer": "/spec/sample_weight",
                    "code": errors.SampleWeightInvalid.code,
                    "message": errors.SampleWeightInvalid.title(),
                }
            ],
        )
    return column

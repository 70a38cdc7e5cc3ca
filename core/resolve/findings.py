"""What in the data would spoil a training, found in the profile by arithmetic once target and features are known."""

from collections.abc import Iterable, Mapping, Sequence

from core.profile import Column, Warning
from core.resolve.target import Target
from core.resolve.training import label
from core.spec import TrainingSpec
from core.spec.features import Features

LEAK = 0.97  # of `predicts`: the strongest honest columns of 280 real tables reach 0.96 (`docs/profile.md`)
DOMINANT = 0.9  # of the rows: a class that is right so often when it is always said
RARE = 0.1  # of the rows that each class would have if all had the same
FEWEST = 5  # rows of a class: of less, validation by the default share sees none
SHOWN = 10  # classes
DO = "add it to `features.exclude`"


def find(
    asked: TrainingSpec, resolved: TrainingSpec, target: Target, by_name: Mapping[str, Column], rows: int
) -> list[Warning]:
    """`asked` is the spec as sent, `resolved` the one with its features written out."""
    features = [by_name[name] for name in resolved.features.include or []]
    return [
        *_leaks(target, features),
        *(constant_feature(column, DO) for column in features if column.distinct == 1 and not column.missing),
        *_id_like_features(features, rows),
        *_dates(asked.features, [by_name[name] for name in by_name if name not in asked.targets]),
        *_classes(resolved, target),
    ]


def _leaks(target: Target, features: Sequence[Column]) -> Iterable[Warning]:
    """A feature that tells the target all alone. An id is one because the rows are sorted, and is found as an id."""
    usual = {column.name for column in features if column.id_like is None and column.type != "datetime"}
    found: dict[str, Warning] = {}
    for column in target.columns:
        for one in column.associations:
            if one.predicts < LEAK or one.column not in usual or one.column in found:
                continue
            how = (
                f"its ranks follow from those of this column (R2 {one.predicts:.3f})"
                if target.task == "regression"
                else f"{one.predicts:.1%} of the errors that the most common class would make are avoided"
            )
            found[one.column] = Warning(
                code="target_leak",
                message=f"This column alone tells the target: {how}. If it is known no earlier than the target, or "
                f"made from it, leave it out: add it to `features.exclude`.",
                column=one.column,
                evidence={"target": column.name, "predicts": one.predicts, "strength": one.strength, "at_least": LEAK},
            )
    return found.values()


def constant_feature(column: Column, then: str) -> Warning:
    """`then` is what was done about it, or what to do."""
    return Warning(
        code="constant_feature",
        message=f"The column has one single value, so nothing can be learned from it: {then}.",
        column=column.name,
        evidence={"distinct": 1},
    )


def id_like_feature(column: Column, rows: int, then: str) -> Warning:
    """`then` is what was done about it, or what to do."""
    return Warning(
        code="id_like_feature",
        message=f"The column looks like an id of the row, and what is learned from it holds for no other row: {then}.",
        column=column.name,
        evidence={"mark": column.id_like, "distinct": column.distinct, "rows": rows},
    )


def _id_like_features(features: Sequence[Column], rows: int) -> Iterable[Warning]:
    if len(features) > 1:
        yield from (id_like_feature(column, rows, DO) for column in features if column.id_like is not None)


def _dates(asked: Features, columns: Iterable[Column]) -> Iterable[Warning]:
    for column in columns:
        wanted = column.name not in asked.exclude and (asked.include is None or column.name in asked.include)
        if column.date_format is None or not wanted:
            continue
        is_number = column.type == "integer"
        taken_as = "a number" if is_number else "a category" if column.code_row is not None else "text, and left out"
        yield Warning(
            code="date_as_number" if is_number else "date_as_text",
            message=f"The values are dates ({column.date_format}), taken as {taken_as}. Send them as ISO 8601, such as "
            "2024-01-31, or add the column to `features.exclude`.",
            column=column.name,
            evidence={"format": column.date_format},
        )


def _classes(resolved: TrainingSpec, target: Target) -> Iterable[Warning]:
    for column in target.columns:
        if target.task == "regression" or target.is_spread or not column.counts or column.values is None:
            continue
        total = sum(column.counts)
        rows = {label(value)[:64]: count for value, count in zip(column.values, column.counts, strict=True)}
        ordered = sorted(rows.items(), key=lambda pair: pair[1])
        (rarest, fewest), (common, most) = ordered[0], ordered[-1]
        uneven = most >= DOMINANT * total or fewest < RARE * total / len(rows)
        if uneven and resolved.training.class_weights is None and resolved.training.oversample is None:
            yield Warning(
                code="class_imbalance",
                message=f"`{common}` are {most / total:.1%} of the rows, and `{rarest}` {fewest / total:.1%}: saying "
                f"`{common}` always is right that often, so accuracy and loss say little of the rare ones. Set "
                "`training.class_weights` or `training.oversample` to `balanced`, or watch a metric that counts each "
                "class the same.",
                column=column.name,
                evidence={"shares": {name: round(count / total, 6) for name, count in _ends(ordered)}},
            )
        if few := [pair for pair in ordered if pair[1] < FEWEST]:
            yield Warning(
                code="too_few_rows_of_a_class",
                message=f"{len(few)} of {len(rows)} classes have fewer than {FEWEST} rows, such as `{rarest}` with "
                f"{fewest}: they can hardly be learned, and not be measured. Send more rows of them, or join them to "
                "another class.",
                column=column.name,
                evidence={"rows": dict(few[:SHOWN]), "classes": len(few)},
            )


def _ends(ordered: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """The largest and the smallest, where there are too many to show."""
    if len(ordered) <= SHOWN:
        return ordered[::-1]
    return [*ordered[: -SHOWN // 2 - 1 : -1], *ordered[: SHOWN // 2][::-1]]

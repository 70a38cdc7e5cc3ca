"""Predictions as they are answered: a JSON object a row, or columns; and what should be known of the rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
from pydantic import BaseModel, Field
from pydantic_core import to_json

from core.learned import text

MAX_WARNINGS = 1000  # in one answer, over all rows
MAX_ROWS_NAMED = 10  # for each warning of an answer in columns

WarningCode = Literal["unseen_category", "out_of_range", "missing_column"]


class RowWarning(BaseModel):
    code: WarningCode
    column: str
    policy: str = Field(
        description="What was done: `imputed`, `own_category` (that of missing values), `rare` (that of rare ones), "
        "`unknown` (the vector of unknown ones), `no_category` (all its features are 0), `used_as_it_is`, `clipped`."
    )
    imputed: Any = Field(default=None, description="The value that was put there, with the policy `imputed`.")
    minimum: Any = Field(default=None, description="The least value of the training rows.")
    maximum: Any = Field(default=None, description="The largest value of the training rows.")


class Prediction(BaseModel):
    """Of one row: what belongs to the task of the job."""

    label: Any = Field(default=None, description="Classification: the class, of the JSON type that the target has.")
    labels: list[str] | None = Field(default=None, description="Multilabel: those that are said.")
    probabilities: dict[str, float] | None = Field(default=None, description="Of each class or label.")
    scores: dict[str, float] | None = Field(default=None, description="Those, with the loss `hinge`.")
    value: float | None = Field(default=None, description="Regression of one target.")
    values: dict[str, float | None] | None = Field(default=None, description="Regression of several targets.")
    quantiles: dict[str, Any] | None = Field(
        default=None, description="By quantile; of several targets, by target and quantile."
    )
    warnings: list[RowWarning]


class PredictionsRead(BaseModel):
    predictor: str | None = Field(default=None, description="The name that was asked, if one was.")
    job_id: str = Field(description="The job whose network has answered.")
    predictions: list[Prediction] | None = Field(default=None, description="In the order of the rows.")
    omitted_warnings: int | None = Field(
        default=None, description=f"Warnings beyond the first {MAX_WARNINGS:,} of the answer, where there are more."
    )


@dataclass(frozen=True)
class Scores:
    """(rows, ...) what the network says, and what follows: see `Network.predict`."""

    rows: list[Any]
    places: list[Any]


@dataclass
class Warnings:
    """What was found by column and kind: [(warning, its rows), ...]"""

    found: list[tuple[dict[str, Any], Sequence[int]]] = field(default_factory=list)

    def add(self, code: WarningCode, column: str, rows: Sequence[int], facts: dict[str, Any]) -> None:
        if rows:
            self.found.append(({"code": code, "column": column, **facts}, rows))

    def by_row(self) -> tuple[dict[int, list[dict[str, Any]]], int]:
        """Those of each row, and how many there are beyond the first `MAX_WARNINGS`."""
        by_row: dict[int, list[dict[str, Any]]] = {}
        left = MAX_WARNINGS
        for warning, rows in self.found:
            for row in rows[:left]:
                by_row.setdefault(row, []).append(warning)
            left -= min(left, len(rows))
        return by_row, max(0, sum(len(rows) for _, rows in self.found) - MAX_WARNINGS)

    def summary(self) -> list[dict[str, Any]]:
        return [
            {**warning, "rows": len(rows), "first_rows": list(rows[:MAX_ROWS_NAMED])}
            for warning, rows in self.found[:MAX_WARNINGS]
        ]


def as_rows(scores: Scores, said: dict[str, Any], warnings: Warnings, heads: dict[str, Any]) -> bytes:
    by_row, omitted = warnings.by_row()
    found = list(_each(scores, said))
    for place, prediction in enumerate(found):
        prediction["warnings"] = by_row.get(place, [])
    answer = {**heads, "predictions": found, **({"omitted_warnings": omitted} if omitted else {})}
    return _json(answer)


def as_lines(scores: Scores, said: dict[str, Any], warnings: Warnings) -> bytes:
    """A prediction a line."""
    by_row, _ = warnings.by_row()
    return b"".join(
        _json({**prediction, "warnings": by_row.get(place, [])}) + b"\n"
        for place, prediction in enumerate(_each(scores, said))
    )


def as_columns(scores: Scores, said: dict[str, Any], warnings: Warnings, heads: dict[str, Any]) -> bytes:
    """Everything of all rows beside each other: a fraction of the bytes."""
    names, classes = said["targets"], said["classes"]
    match said["task"]:
        case "classification":
            found = {"classes": classes, "labels": [classes[place] for place in scores.places]}
        case "multilabel":
            found = {"targets": names, "labels": scores.places}
        case _:
            found = {"targets": names}
    if said["quantiles"]:
        found["quantiles"] = said["quantiles"]
    name = "values" if said["scores"] == "quantiles" else said["scores"]
    return _json({**heads, **found, name: scores.rows, "warnings": warnings.summary()})


def _json(answer: dict[str, Any]) -> bytes:
    """What is not finite as null. orjson takes a third of the time, and refuses whole numbers of more than 64 bits."""
    try:
        return orjson.dumps(answer)
    except TypeError:
        return to_json(answer, inf_nan_mode="null")


def _each(scores: Scores, said: dict[str, Any]) -> Iterator[dict[str, Any]]:
    names, quantiles = said["targets"], [str(one) for one in said["quantiles"]]
    match said["task"]:
        case "classification":
            classes = said["classes"]
            keys, name = [text(one) for one in classes], said["scores"]
            for row, place in zip(scores.rows, scores.places, strict=True):
                yield {"label": classes[place], name: dict(zip(keys, row, strict=True))}
        case "multilabel":
            name = said["scores"]
            for row, above in zip(scores.rows, scores.places, strict=True):
                labels = [label for label, is_said in zip(names, above, strict=True) if is_said]
                yield {"labels": labels, name: dict(zip(names, row, strict=True))}
        case _:
            several = "quantiles" if quantiles else "values"
            for row in scores.rows:
                values = [dict(zip(quantiles, one, strict=True)) for one in row] if quantiles else row
                if len(names) > 1:
                    yield {several: dict(zip(names, values, strict=True))}
                else:
                    yield {"quantiles" if quantiles else "value": values[0]}

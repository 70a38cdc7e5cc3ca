"""Which rows train, and on what."""

import math
from typing import Annotated, Any, Literal

from pydantic import Field, Strict, model_validator

from core.spec.values import INTEGRAL, ColumnName, Part, Seed, Share

HeldOutPart = Literal["validation", "test"]
PartName = Literal["train", "validation", "test"]


IN_FOLDS = ("auto", "random", "stratified", "group")  # methods that can draw folds
MAX_FOLDS_SEED = 2**32 - 1  # of scikit-learn's draw
BY_COLUMN = ("time", "group", "column")  # methods that read which rows go where from a column
PART_WORDS: dict[str, PartName] = {
    "train": "train",
    "training": "train",
    "valid": "validation",
    "validation": "validation",
    "val": "validation",
    "test": "test",
}


def part_named(value: Any) -> PartName | None:
    """The part that a cell of a split column says, in capitals or not; None where it says none."""
    return PART_WORDS.get(value.strip().lower()) if isinstance(value, str) else None


class Split(Part):
    method: Literal["auto", "random", "stratified", "time", "group", "column", "last"] = Field(
        default="auto",
        description="`auto` is stratified for classes of two rows and more, else random. `time`: the latest rows by "
        "the column `by` test, those before them validate; rows of one moment stay together. `group`: rows with the "
        "same value of `by` are in one part. `column`: `by` says `train`, `validation` or `test` of each row. `last`: "
        "the last rows, in their order.",
    )
    by: ColumnName | None = Field(
        default=None,
        description="The column of `time`, `group` and `column`; a feature only where `features` names it.",
    )
    validation: Share = Field(
        default=0.2,
        description="Share of the rows that measures, and is never trained on; about so many where moments or groups "
        "stay together; with `column`, what that says.",
    )
    test: Share = Field(
        default=0.0, description="Share of the rows that is looked at once, with the kept weights; as `validation`."
    )
    folds: Annotated[int, Strict(), Field(ge=2, le=100), INTEGRAL] | None = Field(
        default=None,
        description="Cross-validation: the rows that do not test are drawn into so many parts, and for each of them a "
        "network is trained on the others and measured on it; then the network of the job is trained on all of them. "
        "In the place of `validation`, with `random`, `stratified` and `group`.",
    )
    seed: Seed = Field(default=0, description="Of the draw of rows or groups.")

    @model_validator(mode="before")
    @classmethod
    def folds_validate_themselves(cls, sent: Any) -> Any:
        """Where nothing else is said, no other rows validate."""
        return {"validation": 0.0, **sent} if isinstance(sent, dict) and sent.get("folds") is not None else sent

    @model_validator(mode="after")
    def rows_are_left_to_train_on(self) -> "Split":
        if self.validation + self.test >= 1:
            raise ValueError("`validation` and `test` together leave no rows to train on")
        return self

    @model_validator(mode="after")
    def by_what(self) -> "Split":
        if (self.by is not None) != (self.method in BY_COLUMN):
            raise ValueError("`by` names the column of the methods `time`, `group` and `column`, and of no other")
        return self

    @model_validator(mode="after")
    def folds_are_drawn_and_validate(self) -> "Split":
        if self.folds is None:
            return self
        if self.method not in IN_FOLDS:
            raise ValueError("`folds` are drawn: `method` must be `random`, `stratified` or `group`, or left out")
        if self.validation:
            raise ValueError("each of the `folds` validates in its turn: leave `validation` out, or say 0")
        if self.seed > MAX_FOLDS_SEED:
            raise ValueError(f"the `seed` of `folds` is at most {MAX_FOLDS_SEED}")
        return self

    def sizes(self, rows: int) -> tuple[int, int]:
        """How many of so many rows validate and test; where moments or groups stay together, about so many."""
        if self.method == "last":  # as Keras rounds its validation_split
            return rows - math.floor(rows * (1 - self.validation)), rows - math.floor(rows * (1 - self.test))
        return round(rows * self.validation), round(rows * self.test)

    def steps_after_folds(self, steps: int) -> int:
        """Weight updates at most on all rows, where so many are those on the rows of all folds but one."""
        folds = self.folds or 0
        return -(-steps * folds // (folds - 1))


class Resources(Part):
    threads: Annotated[int, Strict(), Field(ge=1, le=64), INTEGRAL] = Field(
        default=1, description="CPU threads of the training process. More than 1 helps wide networks only."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="`auto` is the GPU of the worker where it has one."
    )

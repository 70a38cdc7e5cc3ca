"""Which rows train, and on what."""

from typing import Annotated, Literal

from pydantic import Field, Strict, model_validator

from core.spec.values import INTEGRAL, Part, Seed, Share


class Split(Part):
    method: Literal["auto", "random", "stratified"] = Field(
        default="auto", description="`auto` is stratified for classes of two rows and more, else random."
    )
    validation: Share = Field(default=0.2, description="Share of the rows that measures, and is never trained on.")
    test: Share = Field(default=0.0, description="Share of the rows that is looked at once, with the kept weights.")
    seed: Seed = Field(default=0, description="Of the draw of rows.")

    @model_validator(mode="after")
    def rows_are_left_to_train_on(self) -> "Split":
        if self.validation + self.test >= 1:
            raise ValueError("`validation` and `test` together leave no rows to train on")
        return self


class Resources(Part):
    threads: Annotated[int, Strict(), Field(ge=1, le=64), INTEGRAL] = Field(
        default=1, description="CPU threads of the training process. More than 1 helps wide networks only."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="`auto` is the GPU of the worker where it has one."
    )

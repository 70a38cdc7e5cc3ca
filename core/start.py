"""The network of an earlier job, as where a training begins."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from core.spec import TrainingSpec

JOB_ID = r"^job_[0-9a-z]{26}$"
BEST, LAST, PREPROCESSING = "weights.safetensors", "last.safetensors", "preprocessing.json"


class StartFrom(BaseModel):
    """Trains on from the network of an earlier job, with a fresh optimizer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    job_id: str = Field(pattern=JOB_ID, description="A job of this project that has left weights.")
    weights: Literal["best", "last"] = Field(
        default="best", description="Those that it kept, or those that it ended with."
    )
    preprocessing: Literal["keep", "refit"] = Field(
        default="keep",
        description="`keep`: its features, their fitted values and its classes. `refit`: all of that from this job's "
        "own spec and rows; the network must have the same shape.",
    )


class Start(StartFrom):
    """A `StartFrom` as the job's row has it: with all that is needed of the earlier job, which may be deleted."""

    spec: TrainingSpec  # resolved
    outputs: dict[str, Any]  # task, classes, names
    files: dict[str, Any]  # "weights" and "preprocessing" -> {sha256, bytes}

"""Small data in the body of a job: its rows, or the name of a table that comes with the server."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from core import storage
from core.dialect import Format
from core.ids import new_id
from core.storage import StoredFile, upload_key

SAMPLES = Path(__file__).parent / "samples"
Sample = Literal["iris", "wine", "breast_cancer", "digits", "diabetes", "penguins"]


class InlineDataset(BaseModel):
    """`{"rows": [{...}]}`, `{"columns": [...], "rows": [[...]]}` or `{"sample": "iris"}`."""

    model_config = ConfigDict(extra="forbid")

    columns: list[str] | None = Field(default=None, description="The names, where the rows are lists.")
    rows: list[dict[str, Any] | list[Any]] | None = Field(
        default=None, min_length=1, description="Objects, or lists of as many values as there are columns."
    )
    sample: Sample | None = Field(default=None, description="A well-known table; `api/samples/README.md` names them.")

    @model_validator(mode="after")
    def one_form(self) -> "InlineDataset":
        if (self.rows is None) is (self.sample is None) or (self.sample and self.columns is not None):
            raise ValueError('is one of {"rows": [{...}]}, {"columns": [...], "rows": [[...]]} and {"sample": "iris"}')
        kind = dict if self.columns is None else list
        if not all(isinstance(row, kind) for row in self.rows or ()):
            raise ValueError("rows are objects; they are lists where `columns` has their names")
        if self.columns is not None and any(len(row) != len(self.columns) for row in self.rows or ()):
            raise ValueError("each row has as many values as there are names in `columns`")
        return self

    @property
    def format(self) -> Format:
        return "json" if self.sample is None else "csv"

    @property
    def shown_name(self) -> str:
        return f"{self.sample or 'rows'}.{self.format}"

    def store(self) -> tuple[str, StoredFile]:
        """Puts it into storage as an upload; returns the id that its dataset will have."""
        if self.sample is not None:
            data = (SAMPLES / f"{self.sample}.csv").read_bytes()
        else:
            data = json.dumps(self.model_dump(exclude_none=True), ensure_ascii=False).encode()
        dataset_id = new_id("ds")
        storage.storage().put({upload_key(dataset_id): data})
        return dataset_id, storage.of_bytes(data)

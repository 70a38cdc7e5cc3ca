"""What a training leaves behind: weights, preprocessing, spec and report, each a pure function of spec, data and
fingerprint, so that the same training gives the same SHA-256."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rfc8785
from safetensors.torch import save_file
from torch import Tensor

from core import faults
from worker.trainer.order import TableOrder
from worker.trainer.preprocessing import Preprocessing
from worker.trainer.split import Parts


def write(
    folder: Path, order: TableOrder, preprocessing: Preprocessing, weights: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """`weights` are tensors by name of the file: those that are kept, and others."""
    faults.point("artifacts.before_write")
    folder.mkdir()
    (folder / "preprocessing.json").write_bytes(_canonical(preprocessing.model_dump(mode="json")))
    (folder / "spec.json").write_bytes(_canonical(order.spec.model_dump(mode="json")))

    for file, tensors in weights.items():
        whole = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        save_file(whole, folder / f"{file}.safetensors", metadata=header_of(preprocessing, order.spec.version))


def header_of(preprocessing: Preprocessing, spec_version: int) -> dict[str, str]:
    """What a file of weights says of itself. One key: safetensors writes its metadata in hash order, and with more the
    file's SHA-256 would be random.
    """
    header = {
        "classes": preprocessing.target.classes,
        "preprocessing_sha256": hashlib.sha256(_canonical(preprocessing.model_dump(mode="json"))).hexdigest(),
        "spec_version": spec_version,
        "task": preprocessing.target.task,
    }
    return {"backpropd": _canonical(header).decode()}


def write_report(folder: Path, report: Mapping[str, Any], parts: Parts) -> None:
    faults.point("artifacts.before_write")
    rows: dict[str, Any] = {
        "numbered_from": 0,
        "train": len(parts.train),
        "validation": parts.validation.tolist(),
        "test": parts.test.tolist(),
    }
    if parts.folds:
        rows["folds"] = [fold.tolist() for fold in parts.folds]
    (folder / "report.json").write_bytes(_canonical({**report, "rows": rows}))


def write_trace(folder: Path, found: Any) -> None:
    """In the order in which it happened, which canonical JSON would lose."""
    (folder / "trace.json").write_text(json.dumps(found, ensure_ascii=False, allow_nan=False, separators=(",", ":")))


def _canonical(value: Any) -> bytes:
    """Canonical JSON (RFC 8785): one text for one value."""
    return rfc8785.dumps(value)

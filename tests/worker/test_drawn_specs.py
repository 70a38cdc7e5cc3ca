"""500 specs drawn from the documented ranges: they validate, every word occurs, and each trains, resumes and leaves
every artifact behind. The first ones are tried in `make test`, all of them in `make test-long`.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
import torch
from pydantic import BaseModel, ValidationError
from safetensors import safe_open

from core.errors import DataInvalid
from core.resolve import Resolved, resolve
from core.spec import TrainingSpec
from core.spec.network import ActivationLayer, AnyLayer, BatchNorm, Dense, LayerNorm, Residual, RmsNorm
from tests.worker.drawn_specs import ELSEWHERE, Drawn, draw
from tests.worker.drawn_tables import KINDS
from tests.worker.factories import Listener, Read, order_for, read
from worker.trainer import fit as loop
from worker.trainer.main import train
from worker.trainer.messages import ARTIFACTS, CheckpointWritten, Drained, Trained
from worker.trainer.order import TrainingOrder

DRAWN = draw(500)
IN_EVERY_RUN = 30
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")  # tensors that no step moves
FILES = {"weights.safetensors", "preprocessing.json", "spec.json", "report.json"}
THAT_PREDICT = {"network.onnx", "network.py", "score_numpy.py"}
WHERE_THERE_IS_SUCH = {"trace.json", "last.safetensors", "train.py"}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Read]:
    folder = tmp_path_factory.mktemp("tables")
    return {kind.name: read(folder / kind.name, kind.lines, "jsonl") for kind in KINDS}


def _resolved(drawn: Drawn, table: Read) -> Resolved | None:
    try:
        return resolve(TrainingSpec.model_validate(drawn.spec), table.columns, table.rows)
    except (ValidationError, DataInvalid):
        return None


def test_nearly_all_drawn_specs_are_accepted(tables: dict[str, Read]) -> None:
    refused = [drawn for drawn in DRAWN if _resolved(drawn, tables[drawn.kind.name]) is None]

    assert len(refused) <= 0.05 * len(DRAWN), refused[:3]


def test_every_word_of_every_literal_occurs_in_accepted_specs(tables: dict[str, Read]) -> None:
    accepted = [drawn.spec for drawn in DRAWN if _resolved(drawn, tables[drawn.kind.name]) is not None]

    found = Counter(word for spec in accepted for word in _words(TrainingSpec.model_validate(spec)))

    known = {(words, word) for words in _literals(TrainingSpec, set()) for word in words}
    assert len(known) > 150
    assert {word: found[word] for word in known if found[word] < 5} == {}


def _literals(wanted: Any, seen: set[type]) -> Iterator[tuple[Any, ...]]:
    """All `Literal`s that a type is made of."""
    if get_origin(wanted) is Literal:
        yield get_args(wanted)
    elif isinstance(wanted, type) and issubclass(wanted, BaseModel):
        if wanted not in seen:
            seen.add(wanted)
            for name, field in wanted.model_fields.items():
                yield from () if name in ELSEWHERE else _literals(field.annotation, seen)
    else:
        for one in get_args(wanted):
            yield from _literals(one, seen)


def _words(part: BaseModel) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The words that were said in a part and in those that it is made of, each with its `Literal`."""
    for name in part.model_fields_set:
        yield from _words_of(getattr(part, name), type(part).model_fields[name].annotation)


def _words_of(value: Any, wanted: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    origin, arguments = get_origin(wanted), get_args(wanted)
    if isinstance(value, BaseModel):
        yield from _words(value)
    elif origin is Literal:
        if value in arguments:
            yield arguments, value
    elif origin is Annotated:
        yield from _words_of(value, arguments[0])
    elif origin in (Union, UnionType):
        for one in arguments:
            yield from _words_of(value, one)
    elif origin is list and isinstance(value, list):
        for item in value:
            yield from _words_of(item, arguments[0])
    elif origin is dict and isinstance(value, Mapping):
        for item in value.values():
            yield from _words_of(item, arguments[1])


@pytest.mark.parametrize("number", range(IN_EVERY_RUN))
def test_a_drawn_spec_trains_resumes_and_leaves_every_artifact(
    tmp_path: Path, tables: dict[str, Read], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _trains_resumes_and_leaves_every_artifact(DRAWN[number], tables, tmp_path, monkeypatch)


@pytest.mark.long
@pytest.mark.parametrize("number", range(IN_EVERY_RUN, len(DRAWN)))
def test_all_other_drawn_specs_do_so_too(
    tmp_path: Path, tables: dict[str, Read], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _trains_resumes_and_leaves_every_artifact(DRAWN[number], tables, tmp_path, monkeypatch)


def _trains_resumes_and_leaves_every_artifact(
    drawn: Drawn, tables: dict[str, Read], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tables[drawn.kind.name]
    resolved = _resolved(drawn, table)
    if resolved is None:
        pytest.skip("refused, as a few may be")
    spec = _without_a_missing_gpu(drawn.spec)
    moments = str(table.folder / "moments.npy")
    order, whole = order_for(folder / "whole", table, spec, moments=moments), Listener()

    train(order, whole)
    monkeypatch.setattr(loop, "FIRST_STEP_SECONDS", 0.0)
    checkpoint = _drained_after_the_first_step(order_for(folder / "first", table, spec, moments=moments))
    resumed = order_for(folder / "second", table, spec, moments=moments, checkpoint=str(checkpoint))
    train(resumed, Listener())

    assert isinstance(whole.last, Trained)
    assert whole.last.failed is None
    _wrote_every_artifact(order, resolved, table)
    assert _bits(order) == _bits(resumed)


def _without_a_missing_gpu(spec: dict[str, Any]) -> dict[str, Any]:
    if torch.cuda.is_available():
        return spec
    return {**spec, "resources": {**spec.get("resources", {}), "device": "cpu"}}


def _drained_after_the_first_step(order: TrainingOrder) -> Path:
    heard = Listener(order="drain")
    train(order, heard)
    *_, written, drained = heard.said
    assert isinstance(written, CheckpointWritten)
    assert isinstance(drained, Drained)
    checkpoint = Path(order.folder) / written.folder
    assert json.loads((checkpoint / "state.json").read_text())["at"]["step"] == 1
    return checkpoint


def _wrote_every_artifact(order: TrainingOrder, resolved: Resolved, table: Read) -> None:
    folder, spec = Path(order.folder) / ARTIFACTS, order.spec
    names = {file.name for file in folder.iterdir()}
    always = FILES | THAT_PREDICT | {"state_dict.pt"}
    assert always <= names <= always | WHERE_THERE_IS_SUCH

    assert TrainingSpec.model_validate_json((folder / "spec.json").read_text()) == spec
    assert resolve(spec, table.columns, table.rows).spec == spec

    report = json.loads((folder / "report.json").read_text())
    parts = {"validation": spec.split.validation and not spec.training.refit, "test": spec.split.test}
    assert {"train", *(part for part, share in parts.items() if share)} == {*report} & {"train", *parts}
    for part in {"train", *parts} & {*report}:
        assert math.isfinite(report[part]["loss"])
        assert {*report[part]} <= {"rows", "loss", *(spec.training.metrics or [])}

    parity = report["parity"]
    assert {*parity} == {"unit", "predict.py", *THAT_PREDICT}
    assert all(parity[name]["rows"] > table.rows for name in THAT_PREDICT)
    assert all(one["max_difference"] <= one["tolerance"] for name, one in parity.items() if name != "unit")
    assert len((folder / "network.py").read_text().splitlines()) < 60

    described = json.loads((folder / "preprocessing.json").read_text())
    embedded = [one["dimension"] for one in described["inputs"] if one["type"] == "embedding"]
    with safe_open(folder / "weights.safetensors", "np") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    names, after = _numbered(spec.network.layers or [], len(described["features"]) + sum(embedded))
    output = spec.network.output
    assert output is not None
    last = {f"{after}.weight", *([f"{after}.bias"] if output.bias else [])}
    assert {*weights} == {*names, *last, *(f"embeddings.{place}.weight" for place in range(len(embedded)))}
    count = sum(tensor.size for name, tensor in weights.items() if not name.endswith(BUFFERS))
    assert count <= resolved.parameters


def _numbered(layers: Sequence[AnyLayer], width: int) -> tuple[list[str], int]:
    """The keys of an `nn.Sequential` of these layers, every activation a module of its own, and the next number."""
    keys: list[str] = []
    number = 0
    for layer in layers:
        match layer:
            case Dense():
                keys += [f"{number}.weight", *([f"{number}.bias"] if layer.bias else [])]
                width = layer.units
                if layer.activation.name != "linear":
                    number += 1
                    keys += [f"{number}.weight"] * (layer.activation.name == "prelu")
            case ActivationLayer():
                keys += [f"{number}.weight"] * (layer.activation.name == "prelu")
            case BatchNorm():
                keys += [f"{number}.{name}" for name in ("weight", "bias", *BUFFERS)]
            case LayerNorm():
                keys += [f"{number}.weight", f"{number}.bias"]
            case RmsNorm():
                keys += [f"{number}.weight"]
            case Residual():
                keys += [f"{number}.block.{key}" for key in _numbered(layer.layers, width)[0]]
                after = [inner.units for inner in layer.layers if isinstance(inner, Dense)][-1:]
                keys += [f"{number}.projection.weight"] * (after not in ([], [width]))
                width = after[0] if after else width
        number += 1
    return keys, number


def _bits(order: TrainingOrder) -> dict[str, str]:
    """The SHA-256 of each artifact."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in (Path(order.folder) / ARTIFACTS).iterdir()
    }

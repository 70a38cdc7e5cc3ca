"""Files that predict by themselves: each agrees with the network, opens where its libraries alone are, and is not left
where it is wrong."""

import contextlib
import csv
import io
import json
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from core.errors import DataInvalid, ExportFailed
from tests.worker import words
from tests.worker.alone import only, run
from tests.worker.drawn_tables import KINDS
from tests.worker.factories import Listener, Read, order_for, read, table_text
from tests.worker.stored import order_of
from tests.worker.tables import FEW, FORMS, NAMES, folder_of, load
from worker.trainer.exports import network_file, onnx_file, onnx_inputs, onnx_network, predict_file
from worker.trainer.exports.scripts import SOURCES
from worker.trainer.main import train
from worker.trainer.messages import ARTIFACTS, BUNDLE, Trained
from worker.trainer.order import TrainingOrder

TRAINING = {"epochs": 2, "optimizer": {"name": "adam", "learning_rate": 0.01}}
PREDICTING = ["network.onnx", "network.py", "predict.py", "score_numpy.py"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Read:
    return read(tmp_path_factory.mktemp("table") / "data", table_text(250))


def _left(order: TrainingOrder) -> Path:
    """The folder of a training that has succeeded."""
    heard = Listener()
    train(order, heard)
    assert isinstance(heard.last, Trained)
    assert heard.last.failed is None
    return Path(order.folder) / ARTIFACTS


def _parity(folder: Path) -> dict[str, Any]:
    parity: dict[str, Any] = json.loads((folder / "report.json").read_text())["parity"]
    return {name: one for name, one in parity.items() if name != "unit"}


def _onnx(folder: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(folder / "network.onnx"), providers=["CPUExecutionProvider"])


# --- every word -------------------------------------------------------------------------------------------------------

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "gelu": [{"approximate": "tanh"}],
    "softplus": [{"beta": 3.0, "threshold": 1.0}],
    "elu": [{"alpha": 0.3}],
    "celu": [{"alpha": 0.3}],
    "prelu": [{"init": 0.6}],
    "hardtanh": [{"min_val": -0.2, "max_val": 0.4}],
    "threshold": [{"threshold": 0.1, "value": -0.5}],
}
ACTIVATIONS = [{"name": name, **options} for name in words.ACTIVATIONS for options in [{}, *OPTIONS.get(name, [])]]


@pytest.mark.parametrize("chosen", ACTIVATIONS, ids=str)
def test_every_activation_agrees_everywhere(tmp_path: Path, table: Read, chosen: Mapping[str, Any]) -> None:
    layers = [{"type": "dense", "units": 12, "activation": chosen}, {"type": "activation", "activation": chosen}]

    folder = _left(
        order_for(tmp_path / "job", table, {"target": "kind", "network": {"layers": layers}, "training": TRAINING})
    )

    parity = _parity(folder)
    assert sorted(parity) == PREDICTING
    assert all(one["max_difference"] <= one["tolerance"] == 1e-5 for one in parity.values())


@pytest.mark.parametrize("name", words.LAYERS)
def test_every_layer_agrees_everywhere(tmp_path: Path, table: Read, name: str) -> None:
    layers = [words.layer("dense"), words.layer(name), words.layer("dense", units=4, bias=False)]

    folder = _left(
        order_for(tmp_path / "job", table, {"target": "kind", "network": {"layers": layers}, "training": TRAINING})
    )

    assert all(one["max_difference"] <= one["tolerance"] == 1e-5 for one in _parity(folder).values())


@pytest.mark.parametrize("order", [[True, "true", "1"], ["1", 1, False], [1, 0, "true"]], ids=str)
def test_categories_of_several_types_are_told_apart_as_python_does(tmp_path: Path, order: list[Any]) -> None:
    generator = np.random.default_rng(0)
    cells = {
        "storeys": generator.integers(5, size=60).tolist(),
        "wet": [row % 3 == 0 for row in range(60)],
        "soil": [("1", "true", "sand")[row % 3] for row in range(60)],
        "y": ["a", "b", "b"] * 20,
    }
    columns = {name: {"encode": "ordinal", "order": order} for name in ("storeys", "wet", "soil")}
    spec = {"target": "y", "features": {"columns": columns}, "training": TRAINING}

    folder = _left(order_of(tmp_path / "job", cells, spec))

    assert all(one["max_difference"] <= one["tolerance"] == 1e-5 for one in _parity(folder).values())


# --- real tables ------------------------------------------------------------------------------------------------------


def _agrees_on_a_real_table(tmp_path: Path, name: str) -> None:
    """To predict its last column, or the one before, ...: the first that can be."""
    table = read(folder_of(tmp_path, name), FORMS["parquet"][1](load(name)), "parquet")
    for target in reversed(table.columns):
        with contextlib.suppress(DataInvalid):
            order = order_for(
                tmp_path / target.name.replace("/", "-"), table, {"target": target.name, "training": TRAINING}
            )
            break
    else:
        pytest.skip("no column of it can be predicted")

    folder = _left(order.model_copy(update={"moments": _existing(table.folder / "moments.npy")}))

    parity = _parity(folder)
    assert sorted(parity) == PREDICTING
    most = max(1e-4, 10 * _last_bit(table, order.spec.targets))
    assert all(one["max_difference"] <= one["tolerance"] <= most for one in parity.values()), parity
    assert parity["network.onnx"]["rows"] > table.rows


def _last_bit(table: Read, targets: list[str]) -> float:
    """Of float32, in deviations of the target: years near 1,940 with a deviation of 5.8 are told apart to 2.1e-5."""
    found = 0.0
    for column in table.columns:
        if column.name in targets and column.std and column.maximum is not None:
            found = max(found, float(np.spacing(np.float32(abs(column.maximum)))) / column.std)
    return found


def _existing(file: Path) -> str | None:
    return str(file) if file.exists() else None


@pytest.mark.parametrize("name", FEW)
def test_everything_agrees_on_every_row_of_a_real_table(tmp_path: Path, name: str) -> None:
    _agrees_on_a_real_table(tmp_path, name)


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in NAMES if name not in FEW])
def test_everything_agrees_on_every_row_of_all_real_tables(tmp_path: Path, name: str) -> None:
    _agrees_on_a_real_table(tmp_path, name)


# --- what a user does with them ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def numpy_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return only(tmp_path_factory.mktemp("libraries") / "numpy", "numpy", "safetensors")


@pytest.fixture(scope="module")
def onnxruntime_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return only(tmp_path_factory.mktemp("libraries") / "onnxruntime", "onnxruntime")


@pytest.fixture(scope="module")
def torch_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return only(tmp_path_factory.mktemp("libraries") / "torch", "torch", "safetensors")


def _unpacked(order: TrainingOrder) -> Path:
    """As `bundle.zip` has it: all in one folder."""
    folder = _left(order)
    for file in (Path(order.folder) / BUNDLE).iterdir():
        file.rename(folder / file.name)
    return folder


def test_both_scripts_reach_the_reported_accuracy_on_the_csv_that_was_sent(
    tmp_path: Path, table: Read, numpy_alone: Path, onnxruntime_alone: Path
) -> None:
    folder = _unpacked(order_for(tmp_path / "job", table, {"target": "kind", "training": {**TRAINING, "epochs": 10}}))
    (folder / "rows.csv").write_text(table_text(250))

    said = [
        [json.loads(line) for line in run(libraries, folder, script, "rows.csv").splitlines()]
        for script, libraries in (("score_numpy.py", numpy_alone), ("predict.py", onnxruntime_alone))
    ]

    report = json.loads((folder / "report.json").read_text())
    kinds = [row["kind"] for row in csv.DictReader(io.StringIO(table_text(250)))]
    for answers in said:
        right = [answers[row]["label"] == kinds[row] for row in report["rows"]["validation"]]
        assert sum(right) / len(right) == pytest.approx(report["validation"]["accuracy"])
    for by_numpy, by_onnx in zip(*said, strict=True):
        assert by_numpy["label"] == by_onnx["label"]
        assert by_numpy["probabilities"] == pytest.approx(by_onnx["probabilities"], abs=1e-5)


def test_both_scripts_read_the_words_for_missing_as_the_intake_does(
    tmp_path: Path, table: Read, numpy_alone: Path, onnxruntime_alone: Path
) -> None:
    folder = _unpacked(order_for(tmp_path / "job", table, {"target": "kind", "training": TRAINING}))
    (folder / "rows.csv").write_text("\ufeffheight,width,soil,wet\n1.5,NA,clay,true\n?,2,N/A,false\n", encoding="utf-8")
    (folder / "rows.json").write_text(
        """[{"height": 1.5, "width": null, "soil": "clay", "wet": true},
            {"height": null, "width": 2, "soil": null, "wet": false}]"""
    )

    for script, libraries in (("score_numpy.py", numpy_alone), ("predict.py", onnxruntime_alone)):
        assert run(libraries, folder, script, "rows.csv") == run(libraries, folder, script, "rows.json"), script


def test_an_empty_text_is_a_category_never_seen_to_both_scripts(tmp_path: Path, table: Read) -> None:
    folder = _unpacked(order_for(tmp_path / "job", table, {"target": "kind", "training": TRAINING}))
    row = {"height": 1.5, "width": 2, "wet": True}

    for script in ("score_numpy.py", "predict.py"):
        predict = runpy.run_path(str(folder / script))["predict"]
        missing, empty, unseen = predict([{**row, "soil": soil} for soil in (None, "", "lava")])
        assert empty == unseen, script
        assert missing != unseen, script


def test_dates_vectors_and_learned_vectors_are_read_from_json_lines(
    tmp_path: Path, numpy_alone: Path, onnxruntime_alone: Path
) -> None:
    kind = next(one for one in KINDS if one.name == "seven")
    every = ["elapsed", "year", "month", "day", "weekday", "hour", "minute"]
    columns = {
        "owner": {"encode": "embedding", "min_frequency": 5},
        "soil": {"encode": "ordinal", "missing_indicator": True, "scale": "quantile"},
        "sold_at": {"parts": every, "cyclic": ["month", "minute"], "missing_indicator": True},
        "day": {"parts": every, "cyclic": []},
        "photo": {"missing_indicator": True},
        "height": {"scale": "quantile"},
        "storeys": {"type": "category", "min_frequency": 20},
    }
    stored = read(tmp_path / "data", kind.lines, "jsonl")
    moments = str(stored.folder / "moments.npy")
    spec = {"target": "kind", "features": {"columns": columns}, "training": TRAINING}
    folder = _unpacked(order_for(tmp_path / "job", stored, spec, moments=moments))
    (folder / "rows.jsonl").write_text(kind.lines)

    said = [
        [json.loads(line) for line in run(libraries, folder, script, "rows.jsonl").splitlines()]
        for script, libraries in (("score_numpy.py", numpy_alone), ("predict.py", onnxruntime_alone))
    ]

    report = json.loads((folder / "report.json").read_text())
    rows = [json.loads(line) for line in kind.lines.splitlines()]
    for answers in said:
        right = [answers[row]["label"] == rows[row]["kind"] for row in report["rows"]["validation"]]
        assert sum(right) / len(right) == pytest.approx(report["validation"]["accuracy"])
    for by_numpy, by_onnx in zip(*said, strict=True):
        assert by_numpy["probabilities"] == pytest.approx(by_onnx["probabilities"], abs=1e-5)


THREE_LINES = """
from network import build, predict
from safetensors.torch import load_file

network = build()
network.load_state_dict(load_file("weights.safetensors"))
network.eval()

import sys, torch
print(predict(network, torch.zeros(2, 9)).tolist())
print(sorted({name.partition(".")[0] for name in sys.modules} & {"worker", "core", "numpy", "onnx", "sklearn"}))
"""


def test_three_lines_open_the_network_where_there_is_torch_and_safetensors_alone(
    tmp_path: Path, table: Read, torch_alone: Path
) -> None:
    folder = _left(order_for(tmp_path / "job", table, {"target": "kind", "training": TRAINING}))

    printed = run(torch_alone, folder, "-c", THREE_LINES).splitlines()

    assert np.array(json.loads(printed[0])).sum(1) == pytest.approx([1, 1])
    assert printed[1] == "[]"


def test_torch_opens_the_state_dict_by_weights_only(tmp_path: Path, table: Read) -> None:
    folder = _left(order_for(tmp_path / "job", table, {"target": "kind", "training": TRAINING}))

    opened = torch.load(folder / "state_dict.pt", weights_only=True)

    weights = load_file(folder / "weights.safetensors")
    assert opened.keys() == weights.keys()
    assert all(torch.equal(opened[name], weights[name]) for name in weights)


def test_the_largest_network_is_still_under_60_lines(tmp_path: Path, table: Read) -> None:
    block = [
        words.layer("dense", units=8, activation="gelu"),
        words.layer("gaussian_noise"),
        words.layer("batch_norm"),
    ] * 5
    layers = [{"type": "residual", "layers": block}] * 64
    columns = {"soil": {"encode": "embedding"}}
    spec = {
        "target": "kind",
        "network": {"layers": layers},
        "features": {"columns": columns},
        "training": {"epochs": 1},
    }

    folder = _left(order_for(tmp_path / "job", table, spec))

    assert len((folder / "network.py").read_text().splitlines()) < 60


# --- the ONNX file ----------------------------------------------------------------------------------------------------


def test_the_onnx_file_is_valid_and_takes_raw_columns(tmp_path: Path, table: Read) -> None:
    folder = _left(order_for(tmp_path / "job", table, {"target": "kind", "training": TRAINING}))

    onnx.checker.check_model(str(folder / "network.onnx"), full_check=True)
    session = _onnx(folder)

    assert [(one.name, one.type, one.shape) for one in session.get_inputs()] == [
        ("height", "tensor(float)", ["rows", 1]),
        ("width", "tensor(float)", ["rows", 1]),
        ("soil", "tensor(string)", ["rows", 1]),
        ("wet", "tensor(string)", ["rows", 1]),
    ]
    assert [(one.name, one.type, one.shape) for one in session.get_outputs()] == [
        ("label", "tensor(string)", ["rows"]),
        ("probabilities", "tensor(float)", ["rows", 3]),
    ]
    numbers, texts = {"height": 0.1, "width": np.nan}, {"soil": "", "wet": "true"}
    feeds = {name: np.array([[cell]], np.float32) for name, cell in numbers.items()}
    feeds |= {name: np.array([[cell]], object) for name, cell in texts.items()}
    label, probabilities = session.run(None, feeds)
    assert label[0] == ["ash", "birch", "cedar"][int(probabilities.argmax())]


def test_more_than_a_hundred_columns_of_numbers_are_one_block(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    cells = {f"c{place}": generator.normal(size=60) for place in range(101)}
    order = order_of(
        tmp_path / "job", {**cells, "numbers": ["a", "b"] * 30, "y": ["no", "yes", "yes"] * 20}, {"target": "y"}
    )

    folder = _left(order)

    session = _onnx(folder)
    assert {one.name: one.shape for one in session.get_inputs()} == {"numbers_": ["rows", 101], "numbers": ["rows", 1]}
    said = json.loads(session.get_modelmeta().custom_metadata_map["backpropd"])
    assert said["inputs"][0] == {"name": "numbers_", "type": "numbers", "columns": [*cells]}


def test_columns_may_have_any_name(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    names = ["values", "label", ".1", "..", "probabilities", 'a b"c\\d', "Größe", "numbers"]
    cells = {name: generator.normal(size=60) for name in names}

    classes = _left(order_of(tmp_path / "one", {**cells, "y": ["no", "yes"] * 30}, {"target": "y"}))
    numbers = _left(order_of(tmp_path / "two", {**cells, "y": generator.normal(size=60)}, {"target": "y"}))

    assert [one.name for one in _onnx(classes).get_outputs()] == ["label_", "probabilities_"]
    assert [one.name for one in _onnx(numbers).get_outputs()] == ["values_"]


def test_an_empty_text_that_is_a_category_is_not_a_missing_value(tmp_path: Path) -> None:
    cells = {"soil": ["", "sand", None] * 20, "y": ["a", "b", "c"] * 20}
    order = order_of(
        tmp_path / "job",
        cells,
        {"target": "y", "training": {"epochs": 60, "optimizer": {"name": "adam", "learning_rate": 0.05}}},
    )

    folder = _left(order)

    session = _onnx(folder)
    missing = json.loads(session.get_modelmeta().custom_metadata_map["backpropd"])["inputs"][0]["missing"]
    labels = session.run(["label"], {"soil": np.array([[""], ["sand"], [missing]], object)})[0]
    assert labels.tolist() == ["a", "b", "c"]


def test_names_are_never_code(tmp_path: Path) -> None:
    breaks = ['"""\nraise SystemExit\n"""', "{rows}", "'];raise SystemExit;['", "\\", "é\u2028\N{GRINNING FACE}"]
    cells: dict[str, Any] = {name: [*breaks, "x"] * 10 for name in breaks}

    classes = _left(order_of(tmp_path / "one", {**cells, "y": breaks * 12}, {"target": "y"}))
    numbers = _left(order_of(tmp_path / "two", {**cells, "'y'\n": np.arange(60.0)}, {"target": "'y'\n"}))

    assert sorted(_parity(classes)) == sorted(_parity(numbers)) == PREDICTING


@pytest.mark.parametrize(
    ("classes", "kind"), [([False, True], "tensor(bool)"), ([1, 2, 3], "tensor(int64)"), (["x", "y"], "tensor(string)")]
)
def test_a_label_keeps_the_type_of_the_target(tmp_path: Path, classes: list[Any], kind: str) -> None:
    target = [classes[row % len(classes)] for row in range(60)]
    cells = {"x": np.arange(60.0), "y": target}

    folder = _left(order_of(tmp_path / "job", cells, {"target": "y", "task": "classification"}))

    assert _onnx(folder).get_outputs()[0].type == kind


def test_a_label_is_said_above_the_threshold_of_the_job(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=80)
    y = ["yes" if value > 0.8 else "no" for value in x + generator.normal(size=80)]
    spec = {"target": "y", "training": {**TRAINING, "threshold": 0.15}}

    folder = _unpacked(order_of(tmp_path / "job", {"x": x, "y": y}, spec))

    label, probabilities = _onnx(folder).run(None, {"x": x[:, None].astype(np.float32)})
    above = probabilities[:, 1] > 0.15
    assert 0 < above.sum() < 80
    assert not (probabilities[above, 1] > 0.5).all()
    assert [one == "yes" for one in label] == above.tolist()
    for script in ("score_numpy.py", "predict.py"):
        answers = runpy.run_path(str(folder / script))["predict"]([{"x": value} for value in x.tolist()])
        assert [one["label"] for one in answers] == label.tolist()


# --- faults -----------------------------------------------------------------------------------------------------------


def _wrong_relu(graph: Any, name: str, values: str) -> str:
    return values


def _wrong_places(fitted: Any) -> tuple[dict[str, int], str]:
    return dict.fromkeys(map(str, fitted.categories), 0), ""


def _raise(*_: Any, **__: Any) -> Any:
    raise ValueError("planted")


FAULTS: list[tuple[str, Any, str, Any]] = [
    ("network.onnx", onnx_network, "_plain", _wrong_relu),
    ("network.onnx", onnx_inputs, "category_texts", _wrong_places),
    ("network.onnx", onnx_file, "forward", _raise),
    ("network.py", network_file, "_output", lambda outcome: "x.sigmoid()"),
    ("network.py", network_file, "_output", lambda outcome: "x["),
    ("predict.py", predict_file, "BODY", predict_file.BODY.replace('one["missing"]', '"sand"')),
    ("predict.py", predict_file, "BODY", "def predict(rows, session): return []"),
    ("state_dict.pt", torch, "save", _raise),
]


@pytest.mark.parametrize(("name", "place", "attribute", "fault"), FAULTS)
def test_a_fault_in_an_exporter_fails_the_job_by_its_name(
    tmp_path: Path, table: Read, name: str, place: Any, attribute: str, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    order, heard = order_for(tmp_path / "job", table, {"target": "kind", "training": TRAINING}), Listener()
    monkeypatch.setattr(place, attribute, fault)

    train(order, heard)

    failed = heard.last.failed
    assert (failed["problem"], failed["facts"]["artifact"]) == (ExportFailed.__name__, name)
    assert failed["detail"].startswith(name)
    kept = {file.name for folder in (ARTIFACTS, BUNDLE) for file in (Path(order.folder) / folder).iterdir()}
    assert name not in kept
    assert {"weights.safetensors", "preprocessing.json", "spec.json", "report.json", "README.md"} <= kept


PLANTED = [
    ("np.maximum(x, 0)", "np.maximum(x, -0.01)"),
    (
        '[x, missing.astype(np.float32)] if fitted["missing_indicator"] else [x]',
        "[x, x][: 1 + fitted['missing_indicator']]",
    ),
    ('np.float32(fitted["imputed"]), x)', "np.float32(0), x)"),
]


@pytest.mark.parametrize("fault", PLANTED)
def test_a_fault_in_what_the_numpy_script_is_made_of_fails_the_job(
    tmp_path: Path, table: Read, fault: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = {name: written.replace(*fault) for name, written in SOURCES.items()}
    assert changed != SOURCES
    monkeypatch.setattr("worker.trainer.exports.scripts.SOURCES", changed)
    order, heard = order_for(tmp_path / "job", table, {"target": "kind", "training": TRAINING}), Listener()

    train(order, heard)

    assert heard.last.failed["facts"]["artifact"] == "score_numpy.py"

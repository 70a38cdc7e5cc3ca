"""An update laid open: the numbers of the formulas, those of the training itself, and no trace of the looking."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.spec.optimizers import AnyOptimizer
from core.spec.training import Trace
from core.spec.values import names_of
from tests.worker.factories import (
    NOTHING,
    Listener,
    Read,
    digest,
    examples,
    order_for,
    read,
    spec_for,
    state_for,
    table_text,
)
from worker.trainer.examples import Examples
from worker.trainer.fit import begin_noise, fit
from worker.trainer.main import train
from worker.trainer.messages import ARTIFACTS, CheckpointWritten, Drained, Trained
from worker.trainer.preparation import Prepared
from worker.trainer.preprocessing import Preprocessing, Target
from worker.trainer.split import Parts
from worker.trainer.trace import lay_open

XOR = "a,b,y\n" + "0.5,1.0,no\n1.0,-0.5,yes\n-1.0,0.5,yes\n-0.5,-1.0,no\n"
RAW = {"columns": {"a": {"scale": "none"}, "b": {"scale": "none"}}}
SIGMOID = {"type": "dense", "units": 3, "activation": "sigmoid", "l2": 0.01}
BINARY = [SIGMOID, {"type": "dense", "units": 1, "activation": "sigmoid"}]
EVERYTHING = [
    {"type": "gaussian_noise", "stddev": 0.1},
    {"type": "dense", "units": 8, "activation": "tanh"},
    {"type": "batch_norm"},
    {"type": "dropout", "rate": 0.5},
    {"type": "residual", "layers": [{"type": "dense", "units": 6, "activation": "prelu"}, {"type": "layer_norm"}]},
    {"type": "activation", "activation": "rrelu"},
    {"type": "residual", "layers": [{"type": "rms_norm"}, {"type": "dense", "units": 6}]},
    {"type": "activation", "activation": "linear"},
    {"type": "dense", "units": 5, "activation": "selu"},
    {"type": "alpha_dropout", "rate": 0.2},
    {"type": "gaussian_dropout", "rate": 0.2},
]
ROWS = examples(40)
EMBEDDED = {"columns": {"soil": {"encode": "embedding", "dimension": 2}}}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Read:
    return read(tmp_path_factory.mktemp("table") / "data", table_text(60))


@pytest.fixture(scope="module")
def xor(tmp_path_factory: pytest.TempPathFactory) -> Read:
    return read(tmp_path_factory.mktemp("xor") / "data", XOR)


def asked(
    layers: list[dict[str, Any]], at: list[int], rows: int = 4, target: Any = "kind", **training: Any
) -> dict[str, Any]:
    return {
        "target": target,
        "split": {"validation": 0.0},
        "network": {"layers": layers},
        "training": {"epochs": 3, "batch_size": 100, **training},
        "trace": {"epochs": at, "rows": rows},
    }


def traced(folder: Path, table: Read, spec: dict[str, Any], **changes: Any) -> list[dict[str, Any]]:
    """What a job of this spec writes into `trace.json`."""
    heard = Listener()
    train(order_for(folder, table, spec, **changes), heard)
    assert isinstance(heard.last, Trained)
    return list(json.loads((folder / ARTIFACTS / "trace.json").read_text()))


def weights(folder: Path) -> bytes:
    return (folder / ARTIFACTS / "weights.safetensors").read_bytes()


def prepared(train: Examples) -> Prepared:
    """Four features and three classes, all rows to train on."""
    target = Target(names=["kind"], task="classification", classes=["a", "b", "c"])
    fitted = Preprocessing(inputs=[], features=["a", "b", "c", "d"], target=target)
    nothing = np.arange(0)
    return Prepared(fitted, Parts(np.arange(len(train)), nothing, nothing), train, NOTHING, NOTHING)


def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def of_layer(trace: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(one for one in trace if one["layer"] == name)


# --- by the formulas ----------------------------------------------------------------------------------------------


def test_every_number_is_that_of_the_formulas(tmp_path: Path, xor: Read) -> None:
    spec = asked(BINARY, [1], target="y", optimizer={"name": "sgd", "learning_rate": 0.5})

    [trace] = traced(tmp_path / "job", xor, {**spec, "features": RAW})

    # Rumelhart, Hinton and Williams 1986: delta of the output, then delta of the hidden units, then both matrices.
    before = {name: np.array(one["before"]) for name, one in trace["update"]["parameters"].items()}
    x = np.array([[0.5, 1.0], [1.0, -0.5], [-1.0, 0.5], [-0.5, -1.0]])
    y = np.array([[0.0], [1.0], [1.0], [0.0]])
    z = x @ before["0.weight"].T + before["0.bias"]
    h = sigmoid(z)
    logits = h @ before["2.weight"].T + before["2.bias"]
    p = sigmoid(logits)
    losses = -(y * np.log(p) + (1 - y) * np.log(1 - p)).ravel()
    of_logits = (p - y) / 4
    of_h = of_logits @ before["2.weight"]
    of_z = of_h * h * (1 - h)
    gradients = {
        "2.weight": of_logits.T @ h,
        "2.bias": of_logits.sum(0),
        "0.weight": of_z.T @ x + 2 * 0.01 * before["0.weight"],
        "0.bias": of_z.sum(0),
    }
    assert [trace[name] for name in ("epoch", "step", "rows")] == [1, 1, [0, 1, 2, 3]]
    assert list(trace["inputs"][0].items()) == [("a", 0.5), ("b", 1.0)]
    assert trace["target"] == y.tolist()
    hidden, output = trace["forward"]
    assert (hidden["layer"], hidden["type"], hidden["activation"]) == ("0", "dense", "sigmoid")
    assert (output["layer"], output["type"], output["activation"]) == ("2", "output", "sigmoid")
    shown = {
        "pre-activations": (hidden["pre_activations"], z),
        "activations": (hidden["activations"], h),
        "logits": (trace["logits"], logits),
        "predictions": (trace["predictions"], p),
        "loss of each row": (trace["loss"]["rows"], losses),
        "loss": (trace["loss"]["mean"], losses.mean()),
        "penalty": (trace["loss"]["penalty"], 0.01 * (before["0.weight"] ** 2).sum()),
        "gradient by logits": (trace["backward"]["logits"], of_logits),
        "gradient by activations": (trace["backward"]["layers"][0]["activations"], of_h),
        "gradient by pre-activations": (trace["backward"]["layers"][0]["pre_activations"], of_z),
    }
    for name, gradient in gradients.items():
        moved = trace["update"]["parameters"][name]
        shown[f"gradient by {name}"] = (trace["backward"]["parameters"][name], gradient)
        shown[f"{name} after"] = (moved["after"], before[name] - 0.5 * gradient)
        shown[f"{name} moved"] = (moved["difference"], -0.5 * gradient)
    for name, (found, expected) in shown.items():
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6, err_msg=name)
    assert (output["pre_activations"], output["activations"]) == (trace["logits"], trace["predictions"])


def test_numbers_are_the_shortest_decimals_of_their_bits(tmp_path: Path, xor: Read) -> None:
    layer = {**SIGMOID, "weight_initializer": {"name": "constant", "value": 0.1}}

    [trace] = traced(tmp_path / "job", xor, asked([layer, *BINARY[1:]], [1], target="y"))

    assert trace["update"]["parameters"]["0.weight"]["before"] == [[0.1, 0.1]] * 3


def test_weighted_rows_count_by_their_weight(tmp_path: Path, table: Read) -> None:
    spec = asked([SIGMOID], [1], class_weights={"ash": 5.0, "birch": 0.5})

    [trace] = traced(tmp_path / "job", table, spec)

    loss = trace["loss"]
    assert len(set(loss["weights"])) > 1
    assert loss["mean"] == pytest.approx(np.average(loss["rows"], weights=loss["weights"]), rel=1e-5)


def test_gradients_are_shown_as_computed_and_as_clipped(tmp_path: Path, table: Read) -> None:
    [trace] = traced(tmp_path / "job", table, asked([SIGMOID], [1], clip_norm=0.01, optimizer="sgd"))

    computed, clipped = trace["backward"]["parameters"], trace["update"]["clipped"]
    length = np.sqrt(sum(np.square(one).sum() for one in computed.values()))
    assert length > 0.02
    for name, one in computed.items():
        np.testing.assert_allclose(clipped[name], np.array(one) * 0.01 / length, rtol=1e-3, atol=1e-8)
        moved = np.array(trace["update"]["parameters"][name]["difference"])
        np.testing.assert_allclose(moved, -trace["update"]["learning_rate"] * np.array(clipped[name]), atol=1e-6)


# --- every kind of layer ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_everything(tmp_path_factory: pytest.TempPathFactory, table: Read) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("everything") / "job"
    [trace] = traced(folder, table, {**asked(EVERYTHING, [2], rows=8), "features": EMBEDDED})
    return trace


def test_every_layer_is_there_by_its_name_in_the_weights_file(of_everything: dict[str, Any]) -> None:
    layers = [(one["layer"], one["type"]) for one in of_everything["forward"]]

    assert layers == [
        ("embeddings.0", "embedding"),
        ("0", "gaussian_noise"),
        ("1", "dense"),
        ("3", "batch_norm"),
        ("4", "dropout"),
        ("5.projection", "dense"),
        ("5.block.0", "dense"),
        ("5.block.2", "layer_norm"),
        ("5", "residual"),
        ("6", "activation"),
        ("7.block.0", "rms_norm"),
        ("7.block.1", "dense"),
        ("7", "residual"),
        ("8", "activation"),
        ("9", "dense"),
        ("11", "alpha_dropout"),
        ("12", "gaussian_dropout"),
        ("13", "output"),
    ]
    assert [one["layer"] for one in of_everything["backward"]["layers"]] == [name for name, _ in layers[-2::-1]]
    assert set(of_everything["inputs"][0]) == {"height", "width", "width=", "soil", "wet=false", "wet=true"}


def test_the_chain_rule_holds_at_every_matrix(of_everything: dict[str, Any]) -> None:
    forward, backward = of_everything["forward"], of_everything["backward"]
    into = {"1": "0", "5.projection": "4", "5.block.0": "4", "7.block.1": "7.block.0", "9": "8"}

    for name, before in into.items():
        of_sums = np.array(of_layer(backward["layers"], name)["pre_activations"])
        values = np.array(of_layer(forward, before)["activations"])

        np.testing.assert_allclose(backward["parameters"][f"{name}.weight"], of_sums.T @ values, rtol=1e-4, atol=1e-6)
    last = np.array(backward["logits"]).T @ np.array(of_layer(forward, "12")["activations"])
    np.testing.assert_allclose(backward["parameters"]["13.weight"], last, rtol=1e-4, atol=1e-6)


def test_layers_are_as_in_training(of_everything: dict[str, Any]) -> None:
    forward = of_everything["forward"]
    normed = np.array(of_layer(forward, "3")["activations"])
    dropped = np.array(of_layer(forward, "4")["activations"])
    shortcut, block, both = (
        np.array(of_layer(forward, name)["activations"]) for name in ("5.projection", "5.block.2", "5")
    )

    np.testing.assert_allclose(normed.mean(0), of_everything_bias(of_everything), atol=1e-4)
    assert 0.2 < (dropped == 0).mean() < 0.8
    np.testing.assert_allclose(dropped[dropped != 0], 2 * normed[dropped != 0], rtol=1e-5)
    np.testing.assert_allclose(both, shortcut + block, rtol=1e-4, atol=1e-6)


def of_everything_bias(trace: dict[str, Any]) -> Any:
    """The mean of a unit after batch norm."""
    return np.array(trace["update"]["parameters"]["3.bias"]["before"])


@pytest.mark.parametrize(
    ("target", "more"),
    [
        (["height", "width"], {}),
        ("height", {"loss": {"name": "quantile", "quantiles": [0.1, 0.9]}}),
        ("kind", {"loss": "focal", "class_weights": "balanced"}),
        ("wet", {"accumulate": 3, "batch_size": 8, "ema_decay": 0.9}),
        ("kind", {"precision": "bfloat16", "class_weights": "balanced"}),
    ],
)
def test_every_kind_of_target_is_traced(tmp_path: Path, table: Read, target: Any, more: dict[str, Any]) -> None:
    spec = asked(EVERYTHING, [1, 3], target=target, **more)

    first, last = traced(tmp_path / "job", table, spec)

    assert (first["epoch"], last["epoch"]) == (1, 3)
    assert len(first["loss"]["rows"]) == len(first["logits"]) == len(first["target"]) == 4
    mean = np.average(first["loss"]["rows"], weights=first["loss"].get("weights"))
    assert mean == pytest.approx(first["loss"]["mean"], rel=1e-5)
    assert first["update"]["parameters"] != last["update"]["parameters"]


def test_matrices_in_sixteen_bits_are_traced(tmp_path: Path, table: Read) -> None:
    [trace] = traced(tmp_path / "job", table, asked([SIGMOID], [1], precision="bfloat16"))

    before = np.array(trace["update"]["parameters"]["0.weight"]["before"])
    exact = np.array([list(row.values()) for row in trace["inputs"]]) @ before.T
    np.testing.assert_allclose(trace["forward"][0]["pre_activations"], exact, atol=0.05)


def test_what_overflows_is_null() -> None:
    layer = {"type": "dense", "units": 2, "weight_initializer": {"name": "constant", "value": 10.0}}
    spec = spec_for([layer]).model_copy(update={"trace": Trace(rows=1)})
    huge = Examples(torch.full((3, 4), 3e38), torch.zeros(3, dtype=torch.int64))

    trace = lay_open(spec, state_for(spec), prepared(huge))

    assert None in trace["logits"][0]
    assert trace["loss"]["mean"] is None
    assert json.loads(json.dumps(trace, allow_nan=False)) == trace


# --- the same as the training -------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", names_of(AnyOptimizer))
def test_a_traced_update_of_all_rows_is_the_update_that_follows(tmp_path: Path, optimizer: str) -> None:
    few = read(tmp_path / "data", table_text(20))
    # More iterations of L-BFGS make a rounding error large, and the training has the rows in another order.
    chosen = {"name": "lbfgs", "max_iter": 3} if optimizer == "lbfgs" else optimizer

    traces = traced(tmp_path / "job", few, asked([SIGMOID], [1, 2, 3], 32, optimizer=chosen, schedule="cosine"))

    for earlier, later in pairwise(traces):
        assert later["step"] == earlier["step"] + 1
        for name, moved in earlier["update"]["parameters"].items():
            np.testing.assert_allclose(
                moved["after"], later["update"]["parameters"][name]["before"], rtol=1e-4, atol=1e-6, err_msg=name
            )
    assert len({trace["update"]["learning_rate"] for trace in traces}) == 3


def test_bounded_weights_are_shown_after_the_bound(tmp_path: Path, table: Read) -> None:
    [trace] = traced(tmp_path / "job", table, asked([{**SIGMOID, "max_norm": 0.2}], [1]))

    lengths = np.linalg.norm(trace["update"]["parameters"]["0.weight"]["after"], axis=1)
    np.testing.assert_allclose(lengths, 0.2, rtol=1e-3)


def test_the_noise_is_that_of_seed_and_epoch() -> None:
    spec = spec_for([{"type": "dropout", "rate": 0.5}], seed=3).model_copy(update={"trace": Trace(rows=32)})
    state = state_for(spec)

    trace = lay_open(spec, state, prepared(ROWS))

    begin_noise(spec, 1, torch.device("cpu"))
    expected = state.network.train()(ROWS.features[:32]).detach().numpy()
    assert np.array_equal(np.array(trace["logits"], np.float32), expected)


@pytest.mark.parametrize("optimizer", names_of(AnyOptimizer))
def test_looking_changes_not_one_bit(tmp_path: Path, table: Read, optimizer: str) -> None:
    spec = {**asked(EVERYTHING, [1, 2, 3], optimizer=optimizer, batch_size=16), "features": EMBEDDED}
    blind = {name: part for name, part in spec.items() if name != "trace"}

    traced(tmp_path / "traced", table, spec)
    train(order_for(tmp_path / "blind", table, blind), Listener())

    assert weights(tmp_path / "traced") == weights(tmp_path / "blind")
    assert not (tmp_path / "blind" / ARTIFACTS / "trace.json").exists()


@pytest.mark.parametrize("optimizer", names_of(AnyOptimizer))
def test_looking_moves_neither_weights_nor_memory_nor_generator(optimizer: str) -> None:
    layers = [{"type": "dense", "units": 6}, {"type": "batch_norm"}, {"type": "dropout", "rate": 0.5}]
    spec = spec_for(layers, optimizer=optimizer, epochs=2).model_copy(update={"trace": Trace()})
    state = state_for(spec)
    list(
        fit(spec.model_copy(update={"training": spec.training.model_copy(update={"epochs": 1})}), ROWS, NOTHING, state)
    )
    torch.manual_seed(7)
    before = torch.get_rng_state(), digest(state.network.state_dict()), digest(state.updater.state())

    lay_open(spec, state, prepared(ROWS))

    assert torch.equal(torch.get_rng_state(), before[0])
    assert (digest(state.network.state_dict()), digest(state.updater.state())) == before[1:]
    assert state.network.training


def test_epochs_beyond_the_end_are_absent(tmp_path: Path, xor: Read) -> None:
    stop = {"target_loss": 100.0}

    traces = traced(tmp_path / "job", xor, asked(BINARY, [1, 2, 50], target="y", stop=stop))

    assert [trace["epoch"] for trace in traces] == [1]


def test_a_refit_goes_on_counting(tmp_path: Path, table: Read) -> None:
    spec = asked([SIGMOID], [1, 3, 4, 5, 6], refit=True) | {"split": {"validation": 0.5}}

    traces = traced(tmp_path / "job", table, spec)

    initial = traces[0]["update"]["parameters"]["0.bias"]["before"]
    assert [trace["epoch"] for trace in traces][:3] == [1, 3, 4]
    assert [trace["step"] for trace in traces][:3] == [1, 3, 1]
    assert traces[2]["update"]["parameters"]["0.bias"]["before"] == initial


def test_an_interrupted_job_leaves_the_same_trace(tmp_path: Path, table: Read) -> None:
    spec = {**asked(EVERYTHING, [1, 2, 3], batch_size=16, epochs=4), "features": EMBEDDED}
    whole = traced(tmp_path / "whole", table, spec)

    for after in (1, 2):
        heard = Listener("drain", after_epochs=after)
        train(order_for(tmp_path / f"drained-{after}", table, spec), heard)
        assert isinstance(heard.last, Drained)
        [written] = [one for one in heard.said if isinstance(one, CheckpointWritten)]
        saved = str(tmp_path / f"drained-{after}" / written.folder)

        assert traced(tmp_path / f"resumed-{after}", table, spec, checkpoint=saved) == whole

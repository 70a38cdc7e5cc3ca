"""What is monitored and measured, what rows count, how often is logged, and how much memory that takes."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import errors
from core.profile import Column
from core.spec.metrics import CLASS_METRICS, METRICS, NUMBER_METRICS, OF_LABELS, PROBABILITY_METRICS
from tests.core.columns import LENGTH, PENGUINS, SEX, SPECIES, WIDTH, boolean, category, integers, number, resolved


def test_without_validation_rows_the_training_loss_is_watched() -> None:
    assert resolved(PENGUINS, split={"validation": 0}).spec.training.stop.monitor == "train_loss"
    assert resolved(PENGUINS).spec.training.stop.monitor == "valid_loss"


@pytest.mark.parametrize(("epochs", "log_every"), [(50, 1), (10_000, 1), (10_001, 2), (20_000, 2), (100_000, 10)])
def test_a_log_holds_at_most_ten_thousand_epochs(epochs: int, log_every: int) -> None:
    assert resolved(PENGUINS, training={"epochs": epochs}).spec.training.log_every == log_every


def test_a_chosen_log_interval_is_kept() -> None:
    assert resolved(PENGUINS, training={"log_every": 7}).spec.training.log_every == 7


COUNTS = st.integers(1, 10**5)
WIDTHS = st.lists(st.integers(1, 512), min_size=1, max_size=4)


@settings(max_examples=50, deadline=None)
@given(COUNTS, COUNTS, WIDTHS, st.integers(1, 512))
def test_more_of_anything_never_needs_less_memory(batch: int, rows: int, hidden: list[int], more: int) -> None:
    def needed(batch: int, rows: int, hidden: list[int], **training: Any) -> int:
        training |= {"batch_size": batch}
        split = {"validation": 0}
        return resolved(PENGUINS, rows=rows, network={"hidden": hidden}, training=training, split=split).memory

    least = needed(batch, rows, hidden)
    assert needed(batch + more, rows, hidden) >= least
    assert needed(batch, rows + more, hidden) > least
    assert needed(batch, rows, [width + more for width in hidden]) >= least  # or what loads the rows takes more
    assert needed(batch, rows, [*hidden, hidden[-1]]) >= least
    assert needed(batch, rows, hidden, ema_decay=0.9) >= least
    assert needed(batch, rows, hidden, optimizer="lbfgs") >= least
    assert least > 16 * 1024 * 1024


# --- when it ends -------------------------------------------------------------------------------------------------


def test_a_training_of_which_nothing_is_said_ends_when_it_gets_no_better() -> None:
    training = resolved(PENGUINS, training={"batch_size": 16, "stop": {"monitor": "valid_accuracy"}}).spec.training

    assert (training.epochs, training.stop.patience) == (100, 15)


@pytest.mark.parametrize(
    ("asked", "patience"),
    [
        ({"epochs": 100}, None),
        ({"steps": 500}, None),
        ({"schedule": "cosine"}, None),
        ({"stop": {"target_loss": 0.01}}, None),
        ({"stop": {"max_seconds": 5}}, None),
        ({"stop": {"patience": None}}, None),
        ({"stop": {"patience": 3}}, 3),
        ({"epochs": 10, "stop": {"patience": 3}}, 3),
    ],
    ids=str,
)
def test_what_was_said_of_its_end_is_all(asked: dict[str, Any], patience: int | None) -> None:
    assert resolved(PENGUINS, training=asked).spec.training.stop.patience == patience


def test_without_validation_rows_all_epochs_are_trained() -> None:
    assert resolved(PENGUINS, split={"validation": 0}).spec.training.stop.patience is None


# --- monitors -----------------------------------------------------------------------------------------------------


def test_without_validation_rows_all_that_watches_them_watches_the_training_rows() -> None:
    stop = {"monitor": "val_accuracy", "target_monitor": "val_loss", "target_loss": 0.1}
    schedule = {"name": "reduce_on_plateau", "monitor": "valid_f1"}

    training = resolved(
        PENGUINS, split={"validation": 0}, training={"stop": stop, "schedule": schedule, "refit": True}
    ).spec.training

    assert (training.stop.monitor, training.stop.target_monitor) == ("train_accuracy", "train_loss")
    assert training.schedule.monitor == "train_f1"  # type: ignore[union-attr]
    assert not training.refit, "there are no validation rows to train on as well"


def test_a_plateau_is_of_what_stops_unless_it_says_otherwise() -> None:
    schedule = {"name": "reduce_on_plateau"}

    found = resolved(PENGUINS, training={"schedule": schedule, "stop": {"monitor": "valid_f1"}}).spec.training
    own = resolved(PENGUINS, training={"schedule": schedule | {"monitor": "train_loss"}}).spec.training

    assert found.schedule.monitor == "valid_f1"  # type: ignore[union-attr]
    assert own.schedule.monitor == "train_loss"  # type: ignore[union-attr]


def test_what_is_monitored_is_measured() -> None:
    schedule = {"name": "reduce_on_plateau", "monitor": "train_recall"}

    training = resolved(PENGUINS, training={"stop": {"monitor": "valid_f1"}, "schedule": schedule}).spec.training
    asked = resolved(PENGUINS, training={"metrics": ["f1"], "stop": {"monitor": "valid_f1"}}).spec.training

    assert training.metrics == ["accuracy", "recall", "f1"]
    assert asked.metrics == ["f1"]


# --- metrics ------------------------------------------------------------------------------------------------------

FLAGS = [boolean("wet"), boolean("warm")]
TARGETS: list[tuple[str | list[str], set[str]]] = [
    ("species", {*CLASS_METRICS, *PROBABILITY_METRICS} - {"top_3_accuracy", "top_5_accuracy"}),
    (["wet", "warm"], set(OF_LABELS)),
    ("width", set(NUMBER_METRICS)),
]


@pytest.mark.parametrize(("target", "legal"), TARGETS)
def test_a_metric_is_legal_or_refused_with_those_that_are(target: str | list[str], legal: set[str]) -> None:
    columns = [LENGTH, WIDTH, SPECIES, *FLAGS]

    for name in METRICS:
        if name in legal:
            assert resolved(columns, target, training={"metrics": [name]}).spec.training.metrics == [name]
        else:
            with pytest.raises(errors.IncompatibleMetric) as refused:
                resolved(columns, target, training={"metrics": [name]})
            assert set(refused.value.detail.partition("are: ")[2].rstrip(".").split(", ")) == legal


@pytest.mark.parametrize(
    ("training", "pointer"),
    [
        ({"metrics": ["accuracy", "rmse"]}, "/spec/training/metrics/1"),
        ({"stop": {"monitor": "valid_rmse"}}, "/spec/training/stop/monitor"),
        (
            {"schedule": {"name": "reduce_on_plateau", "monitor": "train_r2"}},
            "/spec/training/schedule/monitor",
        ),
        ({"loss": "hinge", "metrics": ["roc_auc"]}, "/spec/training/metrics/0"),
        ({"loss": "hinge", "stop": {"monitor": "valid_log_loss"}}, "/spec/training/stop/monitor"),
    ],
)
def test_a_metric_that_does_not_fit_is_pointed_at(training: dict[str, Any], pointer: str) -> None:
    with pytest.raises(errors.IncompatibleMetric) as refused:
        resolved(PENGUINS, training=training)

    assert refused.value.errors[0]["pointer"] == pointer


# --- what rows count ----------------------------------------------------------------------------------------------


def test_a_sample_weight_is_no_feature() -> None:
    found = resolved([*PENGUINS, number("trust", minimum=0.0, maximum=3.0)], sample_weight="trust")

    assert found.spec.sample_weight == "trust"
    assert found.spec.features.include == ["length", "width", "sex"]


@pytest.mark.parametrize(
    "column",
    [
        number("trust", minimum=-0.5, maximum=3.0),
        number("trust", minimum=0.0, maximum=0.0),
        number("trust", minimum=0.0, maximum=3.0, missing=1),
        category("trust", "high", "low"),
        boolean("trust"),
    ],
)
def test_a_sample_weight_is_numbers_from_0_in_every_row(column: Column) -> None:
    with pytest.raises(errors.SampleWeightInvalid) as refused:
        resolved([*PENGUINS, column], sample_weight="trust")

    assert refused.value.facts["column"] == "trust"
    assert refused.value.errors[0]["pointer"] == "/spec/sample_weight"


def test_the_target_is_no_sample_weight() -> None:
    with pytest.raises(errors.SampleWeightInvalid):
        resolved([LENGTH, integers("y", 2)], "y", sample_weight="y")


def test_an_unknown_sample_weight_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(errors.ColumnNotFound) as refused:
        resolved(PENGUINS, sample_weight="widht")

    [found] = refused.value.errors
    assert (found["pointer"], found["suggestion"]) == ("/spec/sample_weight", "width")


def test_a_sample_weight_cannot_be_a_feature() -> None:
    with pytest.raises(errors.ColumnNotFound) as refused:
        resolved(PENGUINS, sample_weight="width", features={"include": ["length", "width"]})

    assert refused.value.errors[0]["pointer"] == "/spec/features/include/1"


def test_class_weights_name_classes() -> None:
    weights = {"adelie": 2.0, "gentoo": 1}

    assert resolved(PENGUINS, training={"class_weights": weights}).spec.training.class_weights == weights
    assert resolved(PENGUINS, training={"class_weights": "balanced"}).spec.training.class_weights == "balanced"


@pytest.mark.parametrize(("target", "weights"), [(boolean("y"), {"true": 2.0}), (integers("y", 2), {"1": 2.0})])
def test_classes_that_are_no_texts_are_named_as_in_json(target: Column, weights: dict[str, float]) -> None:
    found = resolved([LENGTH, target], "y", task="classification", training={"class_weights": weights})

    assert found.spec.training.class_weights == weights


def test_a_weight_of_a_class_that_is_not_there_is_refused() -> None:
    with pytest.raises(errors.ClassNotFound) as refused:
        resolved(PENGUINS, training={"class_weights": {"adelie": 1, "do/do": 2}})

    assert refused.value.errors[0]["pointer"] == "/spec/training/class_weights/do~1do"


@pytest.mark.parametrize("target", ["width", ["wet", "warm"], ["zero", "one"]])
def test_class_weights_need_classes_in_one_column(target: str | list[str]) -> None:
    columns = [LENGTH, WIDTH, *FLAGS, integers("zero", 2), integers("one", 2)]
    loss = "cross_entropy" if target == ["zero", "one"] else "auto"

    with pytest.raises(errors.DataInvalid) as refused:
        resolved(columns, target, training={"class_weights": "balanced", "loss": loss})

    assert refused.value.errors[0]["pointer"] == "/spec/training/class_weights"


def test_lbfgs_has_nothing_to_accumulate() -> None:
    with pytest.raises(errors.DataInvalid) as refused:
        resolved(PENGUINS, training={"optimizer": "lbfgs", "accumulate": 2})

    assert refused.value.errors[0]["pointer"] == "/spec/training/accumulate"


# --- rows drawn again, thresholds ---------------------------------------------------------------------------------


def _refused_at(columns: list[Column], target: str | list[str], **training: Any) -> str:
    with pytest.raises(errors.DataInvalid) as refused:
        resolved(columns, target, training=training)
    return str(refused.value.errors[0]["pointer"])


@pytest.mark.parametrize(
    ("target", "training"),
    [
        ("width", {}),
        (["wet", "warm"], {}),
        ("species", {"class_weights": "balanced"}),
        ("species", {"optimizer": "lbfgs"}),
    ],
)
def test_rows_that_cannot_sensibly_be_drawn_again_are_not(target: str | list[str], training: dict[str, Any]) -> None:
    columns = [LENGTH, WIDTH, SPECIES, *FLAGS]

    assert _refused_at(columns, target, oversample="balanced", **training) == "/spec/training/oversample"


def test_rows_are_drawn_again_beside_weights_that_somebody_chose() -> None:
    training = resolved(PENGUINS, training={"oversample": 0.5, "class_weights": {"gentoo": 2}}).spec.training

    assert (training.oversample, training.class_weights) == (0.5, {"gentoo": 2})


def test_an_epoch_has_as_many_rows_as_are_drawn() -> None:
    uneven = [LENGTH, category("species", "adelie", "gentoo", counts=[120, 30])]

    assert resolved(uneven, split={"validation": 0}).drawn == 150
    assert resolved(uneven, split={"validation": 0}, training={"oversample": "balanced"}).drawn == 240
    assert resolved(uneven, split={"validation": 0}, training={"oversample": 0.5}).drawn == 180


def test_two_classes_and_labels_have_a_threshold() -> None:
    columns = [LENGTH, WIDTH, SPECIES, SEX, *FLAGS]
    labels = resolved(columns, ["wet", "warm"], training={"threshold": 0.2})

    assert resolved(columns, "sex").spec.training.threshold == 0.5
    assert resolved(columns, "sex").outputs["thresholds"] == [0.5]
    assert (labels.spec.training.threshold, labels.outputs["thresholds"]) == (0.2, [0.2, 0.2])
    for other in ("species", "width"):
        assert resolved(columns, other).spec.training.threshold is None
        assert "thresholds" not in resolved(columns, other).outputs
    assert resolved(columns, "sex", training={"loss": "hinge"}).spec.training.threshold is None


@pytest.mark.parametrize(
    ("target", "training", "pointer"),
    [
        ("species", {"threshold": 0.5}, ""),
        ("width", {"threshold": {"metric": "f1"}}, ""),
        ("sex", {"threshold": 0.5, "loss": "hinge"}, ""),
        (["wet", "warm"], {"threshold": {"metric": "cohen_kappa"}}, "/metric"),
    ],
)
def test_a_threshold_of_nothing_is_refused(target: Any, training: dict[str, Any], pointer: str) -> None:
    columns = [LENGTH, WIDTH, SPECIES, SEX, *FLAGS]

    assert _refused_at(columns, target, **training) == f"/spec/training/threshold{pointer}"


def test_a_threshold_of_the_training_rows_is_warned_of() -> None:
    chosen = {"threshold": {"metric": "f1_score"}}

    alone = resolved(PENGUINS, "sex", split={"validation": 0}, training=chosen)

    assert "threshold_on_training_rows" in [warning.code for warning in alone.warnings]
    assert resolved(PENGUINS, "sex", training=chosen).warnings == []
    assert alone.spec.training.threshold.metric == "f1"  # type: ignore[union-attr]

"""The loop: what it does to the weights, and what it reports."""

import math
from typing import Any

import pytest
import torch
from torch.nn import functional

from core.spec import TrainingSpec
from tests.worker import words
from tests.worker.factories import NOTHING, digest, epochs_of, examples, spec_for, state_for, without_timing
from worker.trainer import fit as loop
from worker.trainer.examples import Examples
from worker.trainer.fit import EpochDone, StepDone, fit
from worker.trainer.layers import Linear

DENSE = {"type": "dense", "units": 16, "activation": "relu"}
DROPOUT = {"type": "dropout", "rate": 0.5}
BATCH_NORM = {"type": "batch_norm"}
TRAIN, VALIDATION = examples(100), examples(40, seed=1)


def _orders(spec: TrainingSpec, rows: int, epochs: int) -> list[list[int]]:
    """The rows of each epoch, in the order in which they are seen."""
    network = state_for(spec).network
    return [torch.cat(loop.updates_of(spec, epoch, rows, network)).tolist() for epoch in range(1, epochs + 1)]


def test_a_toy_set_is_learned() -> None:
    spec = spec_for([DENSE], epochs=60, optimizer={"name": "adam", "learning_rate": 0.01})
    easy = Examples(TRAIN.features + 4 * functional.one_hot(TRAIN.target, 4)[:, :4], TRAIN.target)

    facts = epochs_of(spec, train=easy)

    assert facts[0]["train_loss"] > 0.7
    assert facts[-1]["train_loss"] < 0.05


def test_one_batch_of_gradient_descent_is_the_textbook_step() -> None:
    spec = spec_for(epochs=1, batch_size=1000, optimizer={"name": "sgd", "learning_rate": 0.1})
    state = state_for(spec)
    weight, bias = (parameter.detach().double().requires_grad_() for parameter in state.network.parameters())
    functional.cross_entropy(TRAIN.features.double() @ weight.T + bias, TRAIN.target).backward()

    epochs_of(spec, state)

    assert weight.grad is not None
    moved = next(state.network.parameters()).double()
    assert torch.allclose(moved, weight - 0.1 * weight.grad, atol=1e-6)


def test_train_loss_is_the_mean_over_rows_not_over_batches() -> None:
    spec = spec_for(epochs=1, batch_size=64, optimizer={"name": "sgd", "learning_rate": 1e-30})
    state = state_for(spec)
    with torch.no_grad():
        expected = functional.cross_entropy(state.network(TRAIN.features), TRAIN.target).item()

    facts = epochs_of(spec, state)

    assert facts[0]["train_loss"] == pytest.approx(expected, abs=1e-6)


def test_valid_loss_is_that_of_the_weights_after_the_epoch() -> None:
    spec = spec_for([DENSE, DROPOUT], epochs=2, metrics=["accuracy"])
    state = state_for(spec)

    facts = epochs_of(spec, state, validation=VALIDATION)

    with torch.no_grad():
        logits = state.network.eval()(VALIDATION.features)
    assert facts[-1]["valid_loss"] == functional.cross_entropy(logits, VALIDATION.target).item()
    assert facts[-1]["valid_accuracy"] == (logits.argmax(1) == VALIDATION.target).double().mean().item()


def test_metrics_of_the_training_rows_are_of_the_rows_as_they_were_seen() -> None:
    spec = spec_for(epochs=1, batch_size=32, metrics=["accuracy"], optimizer={"name": "sgd", "learning_rate": 1e-30})
    state = state_for(spec)
    with torch.no_grad():
        right = state.network(TRAIN.features).argmax(1) == TRAIN.target

    facts = epochs_of(spec, state)

    assert facts[0]["train_accuracy"] == right.double().mean().item()


def test_every_row_is_seen_once_an_epoch_and_in_another_order_each_time() -> None:
    first, second = _orders(spec_for(), 50, 2)

    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second


def test_the_order_depends_on_the_seed_and_the_epoch_alone() -> None:
    orders = _orders(spec_for(seed=1), 50, 3)
    torch.manual_seed(99)

    assert _orders(spec_for([DENSE], seed=1, batch_size=7, accumulate=2, epochs=9), 50, 3) == orders
    assert _orders(spec_for(seed=2), 50, 3) != orders


def test_batch_norm_passes_over_a_last_batch_of_one_row() -> None:
    spec = spec_for([DENSE, BATCH_NORM], epochs=2, batch_size=33)

    facts = epochs_of(spec)

    assert [one["step"] for one in facts] == [3, 6]
    assert all(math.isfinite(one["train_loss"]) for one in facts)


def test_without_batch_norm_a_last_batch_of_one_row_is_trained_on() -> None:
    facts = epochs_of(spec_for([DENSE], epochs=1, batch_size=33))

    assert facts[0]["step"] == 4


def test_a_batch_larger_than_the_rows_takes_all_of_them() -> None:
    facts = epochs_of(spec_for([DENSE], epochs=4, batch_size=1_000_000))

    assert [one["step"] for one in facts] == [1, 2, 3, 4]


def test_the_weights_do_not_depend_on_who_used_the_global_generator_before() -> None:
    spec = spec_for([DENSE, DROPOUT], epochs=2)
    ends = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        state = state_for(spec)
        epochs_of(spec, state)
        ends.append(digest(state.network.state_dict()))

    assert ends[0] == ends[1]


def test_a_long_epoch_gives_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "STEP_SECONDS", 0.0)
    monkeypatch.setattr(loop, "FIRST_STEP_SECONDS", 0.0)
    spec = spec_for(epochs=1, batch_size=40, optimizer={"name": "sgd", "learning_rate": 0.25})

    said = list(fit(spec, TRAIN, NOTHING, state_for(spec)))

    assert [type(one) for one in said] == [StepDone, StepDone, EpochDone]
    assert [one.facts["step"] for one in said] == [1, 2, 3]
    assert said[0].facts["epoch"] == 1
    assert said[0].facts["learning_rate"] == 0.25
    assert said[0].facts["train_loss"] > 0


def test_epochs_do_not_depend_on_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_for([DENSE], epochs=2)
    quiet = epochs_of(spec)
    monkeypatch.setattr(loop, "STEP_SECONDS", 0.0)
    monkeypatch.setattr(loop, "FIRST_STEP_SECONDS", 0.0)

    talkative = epochs_of(spec)

    assert list(map(without_timing, quiet)) == list(map(without_timing, talkative))


@pytest.mark.parametrize("layers", [[DENSE], [DENSE, BATCH_NORM, DROPOUT]], ids=["dense", "noisy"])
def test_looking_at_a_step_changes_nothing(layers: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_for(layers, epochs=2)
    quiet, talkative = state_for(spec), state_for(spec)
    epochs_of(spec, quiet)
    monkeypatch.setattr(loop, "STEP_SECONDS", 0.0)

    epochs_of(spec, talkative)

    assert digest(talkative.network.state_dict()) == digest(quiet.network.state_dict())


def test_an_epoch_says_how_long_gradient_weights_and_their_step_are() -> None:
    spec = spec_for(epochs=1, batch_size=100, optimizer={"name": "sgd", "learning_rate": 0.1}, log_layers=True)
    state = state_for(spec)
    before = [parameter.detach().clone() for parameter in state.network.parameters()]

    (facts,) = epochs_of(spec, state)

    after = [parameter.detach() for parameter in state.network.parameters()]
    length = math.sqrt(sum(float(one.square().sum()) for one in before))
    moved = math.sqrt(sum(float((new - old).square().sum()) for new, old in zip(after, before, strict=True)))
    assert facts["weight_norm"] == pytest.approx(length, rel=1e-5)
    assert facts["update_ratio"] == pytest.approx(moved / length, rel=1e-3)
    assert facts["gradient_norm"] == pytest.approx(moved / 0.1, rel=1e-3)
    assert [layer["name"] for layer in facts["layers"]] == ["0"]


def test_units_that_say_the_same_of_every_row_are_dead() -> None:
    spec = spec_for([DENSE], epochs=1, optimizer={"name": "sgd", "learning_rate": 1e-30}, log_layers=True)
    state = state_for(spec)
    first = state.network.steps[0]
    assert isinstance(first, Linear)
    with torch.no_grad():
        first.weight[:4], first.bias[:4] = 0.0, -1.0

    (facts,) = epochs_of(spec, state)

    assert facts["dead_units"] == 4 / 16
    assert facts["layers"][0]["dead_units"] == 4 / 16


# --- several batches an update ------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_accumulated_batches_have_the_gradient_of_one_batch_of_all_their_rows(weighted: bool, l2: float) -> None:
    weight = torch.rand(100, generator=torch.Generator().manual_seed(3)) + 0.1 if weighted else None
    train = Examples(TRAIN.features.double(), TRAIN.target, weight=None if weight is None else weight.double())
    layers = [{**DENSE, "activation": "tanh", "l2": l2}]
    optimizer = {"name": "sgd", "learning_rate": 0.5, "momentum": 0.9}
    ends = []
    for sizes in ({"batch_size": 10, "accumulate": 4}, {"batch_size": 40}):
        spec = spec_for(layers, epochs=3, optimizer=optimizer, **sizes)
        state = state_for(spec, dtype=torch.float64)
        facts = epochs_of(spec, state, train)
        ends.append((list(state.network.parameters()), [one["train_loss"] for one in facts], facts[-1]["step"]))

    (ours, our_losses, our_steps), (theirs, their_losses, their_steps) = ends
    assert our_steps == their_steps == 9
    assert our_losses == pytest.approx(their_losses, abs=1e-12)
    for mine, its in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, its, rtol=0, atol=1e-12)


def test_batch_norm_passes_over_a_last_part_of_one_row() -> None:
    spec = spec_for([DENSE, BATCH_NORM], epochs=2, batch_size=11, accumulate=4)

    facts = epochs_of(spec)

    assert [one["step"] for one in facts] == [3, 6]
    assert all(math.isfinite(one["train_loss"]) for one in facts)


# --- what bounds gradients and weights ----------------------------------------------------------------------------


def _step_of(**training: Any) -> list[torch.Tensor]:
    """How far one update of gradient descent at a rate of 1 moves each parameter."""
    spec = spec_for([DENSE], epochs=1, batch_size=100, optimizer={"name": "sgd", "learning_rate": 1.0}, **training)
    state = state_for(spec)
    before = [parameter.detach().clone() for parameter in state.network.parameters()]
    epochs_of(spec, state, Examples(TRAIN.features * 20, TRAIN.target))
    return [old - new.detach() for old, new in zip(before, state.network.parameters(), strict=True)]


def test_a_gradient_longer_than_clip_norm_is_scaled_down_and_keeps_its_direction() -> None:
    whole = torch.cat([one.flatten() for one in _step_of()])

    clipped = torch.cat([one.flatten() for one in _step_of(clip_norm=0.5)])

    assert whole.norm() > 1
    assert clipped.norm().item() == pytest.approx(0.5, rel=1e-4)
    assert functional.cosine_similarity(whole, clipped, 0).item() == pytest.approx(1, abs=1e-5)


def test_a_gradient_shorter_than_clip_norm_is_left_alone() -> None:
    for mine, its in zip(_step_of(clip_norm=1e6), _step_of(), strict=True):
        assert torch.equal(mine, its)


def test_clip_value_bounds_each_element() -> None:
    for clipped, whole in zip(_step_of(clip_value=0.05), _step_of(), strict=True):
        torch.testing.assert_close(clipped, whole.clamp(-0.05, 0.05), rtol=0, atol=1e-6)


def test_the_gradient_is_reported_as_it_was_before_clipping() -> None:
    chosen: dict[str, Any] = {"epochs": 1, "batch_size": 100, "optimizer": {"name": "sgd", "learning_rate": 1.0}}

    (whole,), (clipped,) = (epochs_of(spec_for([DENSE], **chosen, **clip)) for clip in ({}, {"clip_norm": 1e-3}))

    assert clipped["gradient_norm"] == whole["gradient_norm"] > 1e-2


def test_penalties_move_weights_and_leave_train_loss_alone() -> None:
    chosen: dict[str, Any] = {"epochs": 1, "batch_size": 100, "optimizer": {"name": "sgd", "learning_rate": 0.5}}
    plain, penalised = spec_for([DENSE], **chosen), spec_for([{**DENSE, "l1": 0.01, "l2": 0.02}], **chosen)
    one, other = state_for(plain), state_for(penalised)
    start = next(one.network.parameters()).detach().clone()

    (without,), (facts,) = epochs_of(plain, one), epochs_of(penalised, other)

    ends = [next(state.network.parameters()).detach() for state in (one, other)]
    torch.testing.assert_close(ends[0] - ends[1], 0.5 * (0.01 * start.sign() + 0.04 * start), rtol=0, atol=1e-6)
    after = ends[1]
    assert facts["train_loss"] == without["train_loss"]
    assert facts["penalty"] == pytest.approx(float(0.01 * after.abs().sum() + 0.02 * after.square().sum()), rel=1e-5)
    assert "penalty" not in without


def test_max_norm_bounds_the_weights_into_each_unit_after_every_step() -> None:
    spec = spec_for([{**DENSE, "max_norm": 0.3}], epochs=3, optimizer={"name": "sgd", "learning_rate": 1.0})
    state = state_for(spec)

    epochs_of(spec, state)

    first, output = (one for one in state.network.steps if isinstance(one, Linear))
    assert first.weight.norm(dim=1).max().item() == pytest.approx(0.3, abs=1e-5)
    assert output.weight.norm(dim=1).max() > 0.3


# --- the running average ------------------------------------------------------------------------------------------


def test_the_average_is_that_of_the_weights_after_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "STEP_SECONDS", 0.0)
    monkeypatch.setattr(loop, "FIRST_STEP_SECONDS", 0.0)
    spec = spec_for([DENSE], epochs=2, batch_size=30, ema_decay=0.7)
    state = state_for(spec)
    expected = [parameter.detach().clone() for parameter in state.network.parameters()]

    for done in fit(spec, TRAIN, NOTHING, state):
        assert done.facts["step"] == state.at.step
        expected = [
            0.7 * mean + 0.3 * now.detach() for mean, now in zip(expected, state.network.parameters(), strict=True)
        ]

    assert state.average is not None
    for mine, its in zip(state.average, expected, strict=True):
        torch.testing.assert_close(mine, its, rtol=0, atol=1e-6)


def test_the_average_is_measured_and_kept_and_the_weights_train_on() -> None:
    chosen: dict[str, Any] = {"epochs": 4, "optimizer": {"name": "sgd", "learning_rate": 0.5}}
    plain, averaged = spec_for([DENSE], **chosen), spec_for([DENSE], ema_decay=0.9, **chosen)
    one, other = state_for(plain), state_for(averaged)

    without, facts = epochs_of(plain, one, validation=VALIDATION), epochs_of(averaged, other, validation=VALIDATION)

    assert digest(other.network.state_dict()) == digest(one.network.state_dict())
    assert [epoch["train_loss"] for epoch in facts] == [epoch["train_loss"] for epoch in without]
    assert all(mine["valid_loss"] != its["valid_loss"] for mine, its in zip(facts, without, strict=True))
    kept = state_for(averaged).network
    kept.load_state_dict(other.weights())
    with torch.no_grad():
        loss = functional.cross_entropy(kept.eval()(VALIDATION.features), VALIDATION.target).item()
    assert loss == facts[-1]["valid_loss"]


# --- steps --------------------------------------------------------------------------------------------------------


def test_steps_end_the_training_in_mid_epoch() -> None:
    spec = spec_for([DENSE], epochs=5, batch_size=25, steps=6, metrics=["accuracy"])
    state = state_for(spec)

    facts = epochs_of(spec, state, validation=VALIDATION)

    assert [(one["epoch"], one["step"]) for one in facts] == [(1, 4), (2, 6)]
    assert facts[-1].keys() == facts[0].keys()
    assert state.at.stop_reason == "completed"


def test_steps_beyond_the_epochs_change_nothing() -> None:
    few, many = spec_for([DENSE], epochs=2), spec_for([DENSE], epochs=2, steps=10_000)

    assert list(map(without_timing, epochs_of(many))) == list(map(without_timing, epochs_of(few)))


# --- what has no number -------------------------------------------------------------------------------------------


def test_one_row_trains() -> None:
    facts = epochs_of(spec_for([DENSE], epochs=3), train=examples(1))

    assert [one["step"] for one in facts] == [1, 2, 3]
    assert facts[-1]["train_loss"] < facts[0]["train_loss"]


def test_a_batch_of_one_class_trains() -> None:
    one_class = Examples(TRAIN.features, torch.ones(100, dtype=torch.int64))
    optimizer = {"name": "adam", "learning_rate": 0.05}
    spec = spec_for([DENSE], epochs=10, optimizer=optimizer, metrics=["accuracy", "roc_auc"])

    facts = epochs_of(spec, train=one_class, validation=one_class)

    assert facts[-1]["valid_accuracy"] > 0.9
    assert "valid_roc_auc" not in facts[-1]


def test_logits_are_kept_only_where_metrics_ask_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "FIRST_STEP_SECONDS", 0.0)
    asked, not_asked = spec_for(epochs=1, metrics=["accuracy"]), spec_for(epochs=1)
    states = [state_for(asked), state_for(not_asked)]
    for spec, state in zip((asked, not_asked), states, strict=True):
        next(fit(spec, TRAIN, NOTHING, state))

    assert [len(state.seen) for state in states] == [1, 0]


def test_a_network_may_have_nothing_but_embedded_categories() -> None:
    codes = torch.randint(1, 4, (100, 1), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    rows = Examples(torch.empty(100, 0), codes[:, 0].long() - 1, codes)
    spec = spec_for([DENSE], epochs=30, optimizer={"name": "adam", "learning_rate": 0.05})
    state = state_for(spec, inputs=0, embeddings=[(3, 2)])

    facts = epochs_of(spec, state, rows, rows)

    assert facts[-1]["train_loss"] < 0.1
    assert not state.network.embeddings[0].weight[0].any()


@pytest.mark.parametrize("optimizer", words.OPTIMIZERS)
def test_the_vector_of_unknown_categories_stays_zero(optimizer: str) -> None:
    codes = torch.randint(1, 4, (100, 1), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    rows = Examples(TRAIN.features, TRAIN.target, codes)
    chosen = {"name": optimizer} | ({} if optimizer == "lbfgs" else {"weight_decay": 0.1})
    spec = spec_for([DENSE], epochs=2, optimizer=chosen)
    state = state_for(spec, embeddings=[(3, 2)])
    before = state.network.embeddings[0].weight.detach().clone()

    epochs_of(spec, state, rows)

    after = state.network.embeddings[0].weight.detach()
    assert not after[0].any()
    assert (after[1:] != before[1:]).all()


def test_the_widest_output_there_can_be_trains() -> None:
    units = 65_536
    rows = Examples(TRAIN.features[:20], torch.arange(20) * 3000)
    spec = spec_for(units=units, epochs=1, batch_size=10, metrics=["accuracy", "brier"])

    (facts,) = epochs_of(spec, train=rows, validation=rows)

    assert facts["valid_loss"] == pytest.approx(math.log(units), rel=0.1)
    assert facts["valid_accuracy"] <= 0.1

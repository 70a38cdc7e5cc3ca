"""bfloat16: matrices are multiplied in 16 bits; weights, loss, gradients and predictions stay in 32."""

from typing import Any

import pytest
import torch
from torch.nn import functional

from tests.worker import words
from tests.worker.factories import NOTHING, examples, spec_for, state_for
from tests.worker.words import PAIRS, batch
from worker.trainer.examples import Examples
from worker.trainer.fit import EpochDone, fit

DENSE = {"type": "dense", "units": 16, "activation": "relu"}
TRAIN, VALIDATION = examples(100), examples(40, seed=1)


def _fit(spec: Any, train: Examples = TRAIN, validation: Examples = NOTHING, **of_state: Any) -> tuple[Any, Any]:
    state = state_for(spec, **of_state)
    facts = [done.facts for done in fit(spec, train, validation, state) if isinstance(done, EpochDone)]
    assert state.at.stop_reason == "completed"
    assert all(tensor.dtype != torch.bfloat16 for tensor in state.network.state_dict().values())
    return state, facts


@pytest.mark.parametrize("name", words.ACTIVATIONS)
def test_every_activation_trains(name: str) -> None:
    _fit(spec_for([{**DENSE, "activation": name}, DENSE], precision="bfloat16", epochs=1))


@pytest.mark.parametrize("name", words.LAYERS)
def test_every_layer_trains(name: str) -> None:
    _fit(spec_for([DENSE, words.layer(name), DENSE], precision="bfloat16", epochs=1, accumulate=2))


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize(("name", "output"), PAIRS)
def test_every_loss_is_that_of_single_precision_but_for_the_bits_of_the_logits(
    name: str, output: str, weighted: bool
) -> None:
    target = batch(name, output, rows=100)[1]
    target = target.float() if target.is_floating_point() else target
    weight = torch.rand(100, generator=torch.Generator().manual_seed(1)) + 0.1 if weighted else None
    rows = Examples(TRAIN.features, target, weight=weight)
    chosen: dict[str, Any] = {"loss": name, "activation": output, "epochs": 1, "batch_size": 50}

    (_, (low,)), (_, (single,)) = (
        _fit(spec_for([DENSE], precision=precision, **chosen), rows) for precision in ("bfloat16", "float32")
    )

    assert low["train_loss"] == pytest.approx(single["train_loss"], rel=0.02)
    assert low["train_loss"] != torch.tensor(low["train_loss"]).bfloat16().item()


@pytest.mark.parametrize("name", words.OPTIMIZERS)
def test_every_optimizer_moves_single_precision_weights(name: str) -> None:
    _, facts = _fit(spec_for([DENSE], precision="bfloat16", epochs=3, optimizer={"name": name}))

    assert facts[-1]["train_loss"] < facts[0]["train_loss"]


def test_embedded_categories_and_metrics_of_both_parts_work() -> None:
    codes = torch.randint(4, (100, 2), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    train = Examples(TRAIN.features, TRAIN.target, codes)
    spec = spec_for([DENSE], precision="bfloat16", metrics=["accuracy", "roc_auc", "log_loss", "brier"])

    _, facts = _fit(spec, train, train, embeddings=[(3, 2), (3, 5)])

    assert {f"{rows}_{name}" for rows in ("train", "valid") for name in spec.training.metrics or []} <= facts[0].keys()


def test_validation_is_measured_in_single_precision() -> None:
    spec = spec_for([DENSE], precision="bfloat16", epochs=2)

    state, facts = _fit(spec, validation=VALIDATION)

    with torch.no_grad():
        loss = functional.cross_entropy(state.network.eval()(VALIDATION.features), VALIDATION.target).item()
    assert facts[-1]["valid_loss"] == loss


def test_a_toy_set_is_learned() -> None:
    spec = spec_for([DENSE], precision="bfloat16", epochs=60, optimizer={"name": "adam", "learning_rate": 0.01})
    easy = Examples(TRAIN.features + 4 * functional.one_hot(TRAIN.target, 4)[:, :4], TRAIN.target)

    _, facts = _fit(spec, easy)

    assert facts[-1]["train_loss"] < 0.05

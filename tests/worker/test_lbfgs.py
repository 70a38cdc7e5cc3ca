"""L-BFGS, interrupted: a line search that ends one bit elsewhere is another training."""

from pathlib import Path

import pytest

from tests.worker.factories import NOTHING, digest, examples, spec_for, state_for
from worker.trainer import state as states
from worker.trainer.fit import fit


@pytest.mark.parametrize("units", range(3, 8))
def test_interrupted_after_an_epoch_it_ends_with_the_same_bits(tmp_path: Path, units: int) -> None:
    """A checkpoint's tensors lie at other addresses for each width."""
    spec = spec_for([{"type": "dense", "units": units, "activation": "tanh"}], optimizer="lbfgs", epochs=2)
    train, whole = examples(50), state_for(spec)
    list(fit(spec, train, NOTHING, whole))

    first, second = state_for(spec), state_for(spec)
    next(fit(spec, train, NOTHING, first))
    states.save(first, tmp_path / "checkpoint")
    states.restore(second, tmp_path / "checkpoint")
    list(fit(spec, train, NOTHING, second))

    assert whole.at.step == second.at.step == 2
    assert digest(whole.network.state_dict()) == digest(second.network.state_dict())

"""One question, from order to answer: a single update laid open, or a training timed by a few batches."""

import json
from pathlib import Path

from worker.trainer import artifacts, processor
from worker.trainer.device import device_of
from worker.trainer.messages import ANSWER, Answered, Channel, Phase
from worker.trainer.order import PlanOrder, TraceOrder
from worker.trainer.preparation import prepare
from worker.trainer.start import before_the_first_step
from worker.trainer.timing import as_json, time_training
from worker.trainer.trace import lay_open


def trace(order: TraceOrder, channel: Channel) -> None:
    """Lays one update open, the first of a new optimizer, and says `Answered`.

    Raises a `DataInvalid` when the rows cannot be trained on.
    """
    spec = order.spec
    assert spec.trace is not None
    processor.set_up(spec.resources.threads)
    device = device_of(spec.resources)
    channel.say(Phase("loading_data"))

    prepared = prepare(order, device, refit=False, most=spec.trace.rows)
    now = before_the_first_step(order, prepared, device)

    folder = Path(order.folder) / ANSWER
    folder.mkdir()
    artifacts.write_trace(folder, lay_open(spec, now, prepared))
    channel.say(Answered())


def measure_plan(order: PlanOrder, mapped: int, channel: Channel) -> None:
    """Times a few batches of a training, and says `Answered`. `mapped` as in `time_training`.

    Raises a `DataInvalid` when the rows cannot be trained on.
    """
    channel.say(Phase("loading_data"))
    found = as_json(time_training(order, mapped))
    folder = Path(order.folder) / ANSWER
    folder.mkdir()
    (folder / "measured.json").write_text(json.dumps(found))
    channel.say(Answered())

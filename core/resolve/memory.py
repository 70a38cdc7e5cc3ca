"""What a training takes, by arithmetic."""

from core.resolve.trace import memory_of_trace
from core.spec import TrainingSpec
from core.spec.network import Output, widths
from core.spec.optimizers import (
    Adadelta,
    Adafactor,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    AnyOptimizer,
    Lbfgs,
    NAdam,
    RAdam,
    RMSprop,
    Sgd,
)

MIB = 1024 * 1024
SINGLE = 4  # bytes of a float32
COPIES_EXPORTED = 6  # of the weights at once, while `network.onnx` is made and opened; the optimizer is gone by then
BYTES_A_ROW = 128  # while a split is drawn, or a column read
READER = 256 * MIB  # of tables, for a column that is in no array


def memory_needed(
    spec: TrainingSpec, output: Output, parameters: int, inputs: int, rows: int, *, reads_table: bool
) -> int:
    """Bytes: weights, gradients, the optimizer's state and kept copies; activations of a batch; the data.

    Measured against real processes (`docs/performance.md`): 1.25 x the sum + 128 MiB covered all of them; 256 MiB is
    torch itself.
    """
    training = spec.training
    row = widths(spec.network.layers or [], output, inputs)
    batch = rows if isinstance(training.optimizer, Lbfgs) else min(training.batch_size, rows)
    copies = max(4 + slots(training.optimizer) + (2 if training.ema_decay else 0), COPIES_EXPORTED)
    state = SINGLE * (copies * parameters + 4 * batch * sum(row) + rows * (2 * (inputs + 2) + 3 * output.units))
    return int(1.25 * state) + (_of_reader(rows) if reads_table else 0) + 384 * MIB


def _of_reader(rows: int) -> int:
    return READER + BYTES_A_ROW * rows


def memory_of_update(spec: TrainingSpec, parameters: int, inputs: int, rows: int) -> int:
    """Bytes of one update that is traced: network and optimizer; of the table, a column at a time; what is written.

    Measured as above, on up to 1,000,000 rows and 500,000 numbers.
    """
    assert spec.trace is not None
    state = SINGLE * (8 + slots(spec.training.optimizer)) * parameters
    table = rows * (BYTES_A_ROW + 2 * SINGLE * len(spec.targets))
    written = memory_of_trace(spec.trace, spec.network, parameters, inputs)
    return int(1.25 * (state + table)) + (_of_reader(rows) if spec.split.by else 0) + written + 384 * MIB


def slots(optimizer: AnyOptimizer) -> int:
    """Numbers that an optimizer keeps for each parameter."""
    match optimizer:
        case Sgd():
            return 1 if optimizer.momentum else 0
        case Adam() | AdamW():
            return 3 if optimizer.amsgrad else 2
        case RMSprop():
            return 1 + bool(optimizer.momentum) + optimizer.centered
        case NAdam() | RAdam() | Adamax() | Adadelta():
            return 2
        case Adagrad() | Adafactor():
            return 1
        case Lbfgs():
            return 2 * optimizer.history_size + 6

"""What a training takes, by arithmetic."""

from collections.abc import Sequence

from core.resolve.trace import memory_of_trace
from core.spec import TrainingSpec
from core.spec.activations import Plain
from core.spec.network import AnyLayer, Dense, Output, flat
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
BYTES_A_ROW = 128  # while a split by a column or folds are drawn, or a column read
READER = 256 * MIB  # of tables, for a column that is in no array
# Measured with torch 2.13 and glibc: of what is freed, the allocator keeps several times what is in use.
BASE = 20 * MIB  # pages of the forkserver that a child writes to, and what each training takes
MEASURING = 3 * MIB  # by scikit-learn
MEASURED_BY_US: frozenset[str] = frozenset({"accuracy", "rmse", "mae", "r2"})
COLUMNS_AT_ONCE = 64  # while columns become rows
TRAINED, TRAINED_BY_LBFGS = 3.5, 7.0  # times the activations of a batch: forward and backward
CAST = 1.5  # times the same, which bfloat16 keeps beside them
REPORTED_ROWS, REPORTED, A_REPORTED_ROW = 5_000, 3, 1024  # in the report: rows, copies of what goes in, bytes
CHECKED_ROWS, CHECKED = 2_000, 9  # by which files that predict are checked; copies of what goes in, in all their forms
PREDICTED_ROWS, PREDICTING = 8192, 96 * MIB  # at once; onnxruntime, and the writer of the file
EVALUATED_ROWS, EVALUATED = 1024, 2  # at once; times what goes into a layer and comes out


def memory_needed(
    spec: TrainingSpec, output: Output, parameters: int, inputs: int, rows: int, *, train: int, reads_table: bool
) -> int:
    """Bytes that a training process takes at its peak, beside what it shares with its forkserver: all rows,
    and the more of what trains, what evaluates and what reports; or the `train` rows, and what loads them; or what
    checks the files that predict.

    Measured against real processes by `benchmarks/plans.py`: within 30 % of each (`docs/performance.md`).
    """
    training = spec.training
    takes_all = isinstance(training.optimizer, Lbfgs)
    batch = train if takes_all else min(training.batch_size, train)
    hidden = _activations(spec.network.layers or [], inputs)
    a_row = SINGLE * (inputs + 4 * output.units) + BYTES_A_ROW // 4
    loading = train * (a_row + SINGLE * min(COLUMNS_AT_ONCE, inputs))
    copies = 4 + slots(training.optimizer, training.epochs) + (2 if training.ema_decay else 0)
    copies += (training.accumulate > 1) + (training.precision == "bfloat16")
    weights = SINGLE * max(copies, COPIES_EXPORTED) * parameters
    activations = (TRAINED_BY_LBFGS if takes_all else TRAINED) + CAST * (training.precision == "bfloat16")
    kept = int(SINGLE * batch * (inputs + activations * (sum(hidden) + output.units)))
    evaluated = SINGLE * min(EVALUATED_ROWS, rows) * EVALUATED * 2 * max([*hidden, output.units])
    reported = min(REPORTED_ROWS, rows) * (SINGLE * REPORTED * inputs + A_REPORTED_ROW)
    checked = SINGLE * CHECKED * min(CHECKED_ROWS, rows) * inputs
    drawn = BYTES_A_ROW * rows if spec.split.folds else 0
    measured = MEASURING if set(training.metrics or []) - MEASURED_BY_US else 0
    peak = max(loading, drawn, rows * a_row + weights + max(kept, evaluated, reported), weights + checked)
    return BASE + measured + peak + (_of_reader(rows) if reads_table else 0)


def _activations(layers: Sequence[AnyLayer], inputs: int) -> list[int]:
    """The width of whatever comes out of a layer or of its activation."""
    found, width = list[int](), inputs
    for layer in flat(layers):
        if isinstance(layer, Dense):
            width = layer.units
            found += [width] if layer.activation == Plain(name="linear") else [width, width]
        else:
            found.append(width)
    return found


def address_space(memory: int) -> int:
    """Bytes that a process may map which is planned to take so much: what is mapped is not all used, and a plan is not
    exact. Beyond this it is ended.
    """
    return int(1.25 * memory) + 256 * MIB


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


def memory_of_predictions(spec: TrainingSpec, network: int, rows: int) -> int:
    """Bytes of a process that predicts a table by a `network.onnx` of so many bytes, a batch at a time. By its columns,
    as the table may hold longer texts than the one that was trained on.
    """
    columns = len(spec.features.columns)
    width = max(
        [spec.network.output.units if spec.network.output else 1, *_activations(spec.network.layers or [], columns)]
    )
    batch = PREDICTED_ROWS * (BYTES_A_ROW * columns + SINGLE * 8 * width)
    has_words = any(choice.type in ("category", None) for choice in spec.features.columns.values())
    return BASE + PREDICTING + 3 * network + batch + (_of_reader(rows) if has_words else 0)


def slots(optimizer: AnyOptimizer, epochs: int = 100) -> int:
    """Numbers that an optimizer keeps for each parameter, at the end of so many epochs."""
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
            return 2 * min(optimizer.history_size, epochs * optimizer.max_iter) + 6

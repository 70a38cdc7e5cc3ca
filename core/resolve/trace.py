"""Whether an update can be laid open: every number of it is written down, so a network can be too large for that."""

from core import errors
from core.spec.network import BatchNorm, Network, flat, widths
from core.spec.training import Trace

MAX_NUMBERS = 500_000  # 6 MB of JSON
BYTES_A_NUMBER = 300  # while it becomes text


def memory_of_trace(trace: Trace, network: Network, parameters: int, inputs: int) -> int:
    """Bytes that writing it down takes.

    Raises `TraceTooLarge`, or `DataInvalid` where one row alone cannot pass through the network.
    """
    if trace.rows < 2 and any(isinstance(layer, BatchNorm) for layer in flat(network.layers or [])):
        raise errors.DataInvalid("Batch norm needs at least 2 rows to trace; a single row has no variance.")
    numbers = len(trace.epochs) * _numbers(trace.rows, network, parameters, inputs)
    if numbers > MAX_NUMBERS:
        raise errors.TraceTooLarge(
            f"Traced, {len(trace.epochs)} updates of {trace.rows} rows and {parameters:,} parameters are about "
            f"{numbers:,} numbers; at most {MAX_NUMBERS:,} are accepted. Trace fewer epochs or rows, or a smaller "
            "network.",
            numbers=numbers,
            limit=MAX_NUMBERS,
            parameters=parameters,
        )
    return BYTES_A_NUMBER * numbers


def _numbers(rows: int, network: Network, parameters: int, inputs: int) -> int:
    """Of each parameter there are gradient, before, after and difference; of each unit, for each row, pre-activation,
    activation, and the gradients of both."""
    assert network.output is not None, "a resolved network has its output"
    return 4 * (parameters + rows * sum(widths(network.layers or [], network.output, inputs)))

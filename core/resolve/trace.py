"""Whether an update can be laid open: every number of it is written down, so a network can be too large for that."""

from core import errors
from core.spec.network import BatchNorm, Network, Output, flat, widths
from core.spec.training import Trace

MAX_NUMBERS = 500_000  # 6 MB of JSON
BYTES_A_NUMBER = 300  # while it becomes text


def memory_of_trace(trace: Trace, network: Network, output: Output, parameters: int, inputs: int) -> int:
    """Bytes that writing it down takes.

    Of each parameter there are gradient, before, after and difference; of each unit, for each row, pre-activation,
    activation, and the gradients of both. Raises `TraceTooLarge`, or `DataInvalid` where one row alone cannot pass
    through the network.
    """
    layers = network.layers or []
    if trace.rows < 2 and any(isinstance(layer, BatchNorm) for layer in flat(layers)):
        raise errors.DataInvalid("Batch norm needs at least 2 rows to trace; a single row has no variance.")
    numbers = 4 * len(trace.epochs) * (parameters + trace.rows * sum(widths(layers, output, inputs)))
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

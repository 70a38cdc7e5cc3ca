"""Whether the files that `outputs` asks for can be written."""

from collections.abc import Sequence

from core import errors
from core.spec.in_keras import keras_config
from core.spec.network import Network, Output


def fits_keras(network: Network, output: Output, inputs: int, embeddings: Sequence[object]) -> None:
    """Raises `NotInKeras`."""
    if embeddings:
        raise errors.NotInKeras(
            "A `Sequential` of Keras has one input, and embedded categories are another: encode them as `one_hot` or "
            "`ordinal`, or leave the Keras files out of `outputs`."
        )
    keras_config(network.layers or [], output, inputs)

"""A Keras 3 model, as `to_json()` or the `config.json` of a `.keras` file has it, to a spec."""

from collections.abc import Mapping
from typing import Any

from core.importers.keras_compile import read_compile
from core.importers.keras_fit import read_fit
from core.importers.keras_layers import read_layers
from core.importers.notes import Config, Imported, Notes


def from_keras(
    model: Mapping[str, Any],
    compiled: Mapping[str, Any] | None,
    fitted: Mapping[str, Any] | None,
    target: str | list[str],
) -> Imported:
    """`compiled` and `fitted` are what `compile` and `fit` were given; a compiled model says the first by itself.

    Raises `ModelNotMappable` with all that has no counterpart, or would silently train another network.
    """
    notes = Notes()
    whole = Config(notes, model, ("model",), "model")
    whole.skip("class_name", "config", "module", "registered_name", "build_config", "compile_config")
    whole.finish()
    chain = read_layers(notes, model, ("model",))
    own = model.get("compile_config")
    if compiled is not None:
        config = Config(notes, compiled, ("compile",), "compile")
        if own:
            notes.say(
                "not_mapped", "model.compile_config", ("model", "compile_config"), "`compile` stands in its place."
            )
    else:
        config = Config(notes, own if isinstance(own, dict) else {}, ("model", "compile_config"), "compile")
    spec = read_compile(notes, chain, config, target)
    if fitted is None:
        notes.say("not_mapped", "fit", ("fit",), "Not said: split, epochs and batch size are the defaults here.")
        said: dict[str, Any] = {"training": {}}
    else:
        rate = spec["training"].get("optimizer", {}).get("learning_rate", 1.0)
        said = read_fit(Config(notes, fitted, ("fit",), "fit"), rate)
    scale = "standard" if chain.scales else "none"
    note = (
        "The `Normalization` layer standardises."
        if chain.scales
        else "There is no scaling in the model, so there is none."
    )
    notes.say("mapped", "features", ("model",), note)
    spec["features"] = {kind: {"scale": scale} for kind in ("numbers", "vectors", "datetimes")}
    spec["training"] |= said.pop("training")
    return notes.imported({**spec, **said})

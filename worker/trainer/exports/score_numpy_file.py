"""`score_numpy.py`: predictions with numpy and safetensors alone."""

from collections.abc import Iterator, Sequence
from typing import assert_never

from core.spec.activations import (
    AnyActivation,
    Celu,
    Elu,
    Gelu,
    Hardtanh,
    LeakyRelu,
    Plain,
    PlainName,
    Prelu,
    Rrelu,
    Shrink,
    Softplus,
    Threshold,
)
from core.spec.network import BatchNorm, LayerNorm, OutputActivation, RmsNorm
from worker.trainer.exports.outcome import Outcome, said_of
from worker.trainer.exports.scripts import script
from worker.trainer.exports.steps import Activation, Block, Linear, Noise, Norm, Step
from worker.trainer.preprocessing import (
    CategoryInput,
    DatetimeInput,
    EmbeddingInput,
    Input,
    NumberInput,
    OrdinalInput,
    Preprocessing,
    VectorInput,
)

TITLE = """Predictions of this job's network with numpy and safetensors alone.

    python score_numpy.py rows.csv     # or .json, .jsonl: {"column": value, ...}, null where it is missing

It reads preprocessing.json and weights.safetensors in its own folder. In Python: `from score_numpy import predict`.
"""

BODY = '''
HERE = Path(__file__).parent
FITTED = json.loads((HERE / "preprocessing.json").read_text("utf-8"))
WEIGHTS = load_file(HERE / "weights.safetensors")
COLUMNS = {columns}
SAID = {{
{said}}}


def inputs(columns):
    """{{column: values of the rows}} -> (rows, features), and a (rows,) code of each category that has vectors."""
    features, codes = [], []
    for fitted in FITTED["inputs"]:
        values = columns[fitted["name"]]
{embedded}        features += COLUMNS[fitted["type"]](values, fitted)
    rows = len(next(iter(columns.values())))
    return np.stack(features, 1) if features else np.empty((rows, 0), np.float32), codes


def logits(features, codes=()):
    """(rows, features) -> (rows, units)"""
    w = WEIGHTS
    x = np.concatenate([features, *(w[f"embeddings.{{k}}.weight"][code] for k, code in enumerate(codes))], 1)
{layers}
    return x


def outputs(x):
    """(rows, units) -> {shape}"""
{output}
    return x


def scores(columns):
    """{{column: values of the rows}} -> {shape}"""
    return outputs(logits(*inputs(columns)))


def predict(rows):
    """[{{column: value}}, ...] -> a prediction for each."""
    columns = {{fitted["name"]: [row.get(fitted["name"]) for row in rows] for fitted in FITTED["inputs"]}}
    return answers(scores(columns), SAID) if rows else []


if __name__ == "__main__":
    for prediction in predict(read_rows(sys.argv[1])):
        print(json.dumps(prediction, ensure_ascii=False))
'''
EMBEDDED = """\
        if fitted["type"] == "embedding":
            codes.append(embedding(values, fitted))
            continue
"""


def score_numpy_source(preprocessing: Preprocessing, steps: Sequence[Step], outcome: Outcome) -> str:
    body = BODY.format(
        columns=columns_of(preprocessing),
        said="".join(f'    "{name}": {value!r},\n' for name, value in said_of(preprocessing, outcome).items()),
        embedded=EMBEDDED if preprocessing.embeddings else "",
        layers=_indented(_layers(steps)),
        shape=_shape(outcome),
        output=_indented(_output(outcome)),
    )
    return script(TITLE, body)


def columns_of(preprocessing: Preprocessing) -> str:
    """The functions that make columns of each type ready, as a dictionary in Python."""
    functions = {one.type: _function(one) for one in preprocessing.inputs if not isinstance(one, EmbeddingInput)}
    return "{" + ", ".join(f'"{kind}": {name}' for kind, name in functions.items()) + "}"


def _function(one: Input) -> str:
    match one:
        case NumberInput():
            return "number"
        case VectorInput():
            return "vector"
        case CategoryInput():
            return "category"
        case OrdinalInput():
            return "ordinal"
        case DatetimeInput():
            return "moment"
        case EmbeddingInput():
            return "embedding"
        case _:
            assert_never(one)


def _indented(lines: Iterator[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)


def _layers(steps: Sequence[Step]) -> Iterator[str]:
    for step in steps:
        match step:
            case Linear():
                yield f'x = linear(x, w, "{step.key}")'
            case Activation():
                if (applied := _activation(step.key, step.chosen)) != "x":
                    yield f"x = {applied}"
            case Noise():
                pass
            case Norm(chosen=BatchNorm() | LayerNorm() | RmsNorm()):
                yield f'x = {step.chosen.type}(x, w, "{step.key}", {step.chosen.eps!r})'
            case Block():
                yield "shortcut = x" if step.projection is None else f'shortcut = linear(x, w, "{step.projection.key}")'
                yield from _layers(step.steps)
                yield "x = shortcut + x"
            case _:
                assert_never(step)


def _activation(key: str, chosen: AnyActivation) -> str:
    match chosen:
        case Plain(name=name):
            return _plain(name)
        case LeakyRelu(name="leaky_relu"):
            return f"leaky_relu(x, {chosen.negative_slope!r})"
        case Prelu(name="prelu"):
            return f'leaky_relu(x, w["{key}.weight"])'
        case Rrelu(name="rrelu"):
            return f"leaky_relu(x, {(chosen.lower + chosen.upper) / 2!r})"
        case Elu(name="elu") | Celu(name="celu"):
            return f"{chosen.name}(x, {chosen.alpha!r})"
        case Gelu(name="gelu"):
            return "gelu_tanh(x)" if chosen.approximate == "tanh" else "gelu(x)"
        case Softplus(name="softplus"):
            return f"softplus(x, {chosen.beta!r}, {chosen.threshold!r})"
        case Hardtanh(name="hardtanh"):
            return f"hardtanh(x, {chosen.min_val!r}, {chosen.max_val!r})"
        case Shrink():
            return _shrink(chosen)
        case Threshold(name="threshold"):
            return f"threshold(x, {chosen.threshold!r}, {chosen.value!r})"
        case _:
            assert_never(chosen)


def _plain(name: PlainName) -> str:
    match name:
        case "linear":
            return "x"
        case "tanh":
            return "np.tanh(x)"
        case "relu" | "relu6" | "selu" | "silu" | "mish" | "hardswish" | "hardsigmoid" | "sigmoid" | "logsigmoid":
            return f"{name}(x)"
        case "softsign" | "tanhshrink":
            return f"{name}(x)"
        case _:
            assert_never(name)


def _shrink(chosen: Shrink) -> str:
    match chosen.name:
        case "hardshrink" | "softshrink":
            return f"{chosen.name}(x, {chosen.lambd!r})"
        case _:
            assert_never(chosen.name)


def _output(outcome: Outcome) -> Iterator[str]:
    if (applied := _activated(outcome.activation)) != "x":
        yield f"x = {applied}"
    if outcome.form == "classes" and outcome.units == 1:
        other = "-x" if outcome.activation == "linear" else "1 - x"
        yield f"x = np.concatenate([{other}, x], 1)"
    if outcome.form == "quantiles":
        yield f"x = x.reshape(len(x), {len(outcome.names)}, {len(outcome.quantiles)})"
    if outcome.scaling is not None:
        shape = "[:, None]" if outcome.form == "quantiles" else ""
        yield 'scaling = FITTED["target"]["scaling"]'
        for name in ("scale", "center"):
            yield f'{name} = np.array([one["{name}"] for one in scaling], np.float32){shape}'
        yield "x = x * scale + center"


def _activated(activation: OutputActivation) -> str:
    match activation:
        case "softmax" | "sigmoid":
            return f"{activation}(x)"
        case "exp":
            return "np.exp(x)"
        case "linear":
            return "x"
        case _:
            assert_never(activation)


def _shape(outcome: Outcome) -> str:
    match outcome.form:
        case "classes":
            return f"{outcome.scores} (rows, classes)"
        case "labels":
            return f"{outcome.scores} (rows, labels)"
        case "values":
            return "(rows, targets)"
        case "quantiles":
            return "(rows, targets, quantiles)"
        case _:
            assert_never(outcome.form)

"""What the bundle has besides the artifacts: `predict.py`, which needs onnxruntime alone, and a README."""

from worker.trainer.exports.outcome import Outcome
from worker.trainer.exports.scripts import script
from worker.trainer.preprocessing import (
    CategoryInput,
    DatetimeInput,
    EmbeddingInput,
    NumberInput,
    OrdinalInput,
    Preprocessing,
    VectorInput,
)

MOST_SHOWN = 50  # columns in the README

TITLE = """Predictions of network.onnx with onnxruntime alone.

    python predict.py rows.csv     # or .json, .jsonl: {"column": value, ...}, null where it is missing

In Python: `from predict import predict`.
"""

BODY = '''
HERE = Path(__file__).parent


def feeds(columns, inputs):
    """What the network takes, of {column: values of the rows}; `inputs` are those of its metadata."""
    found = {}
    for one in inputs:
        name, kind = one["name"], one["type"]
        if kind == "numbers":
            found[name] = np.stack([numbers(columns[column]) for column in one["columns"]], 1)
        elif kind == "number":
            found[name] = numbers(columns[name])[:, None]
        elif kind == "vector":
            gap = [None] * one["size"]
            found[name] = np.stack([numbers(gap if value is None else value) for value in columns[name]])
        elif kind == "category":
            found[name] = np.array(strings(columns[name], one["missing"]), object)[:, None]
        else:
            found[name] = np.array([seconds(value) for value in columns[name]], np.int64)[:, None]
    return found


def predict(rows, session=None):
    """[{column: value}, ...] -> a prediction for each. For many calls, open a session once and give it."""
    session = session or ort.InferenceSession(str(HERE / "network.onnx"), providers=["CPUExecutionProvider"])
    said = json.loads(session.get_modelmeta().custom_metadata_map["backpropd"])
    names = [name for one in said["inputs"] for name in one.get("columns", [one["name"]])]
    columns = {name: [row.get(name) for row in rows] for name in names}
    scores = session.run([said["outputs"][said["scores"]]], feeds(columns, said["inputs"]))[0]
    return answers(scores, said)


if __name__ == "__main__":
    for prediction in predict(read_rows(sys.argv[1])):
        print(json.dumps(prediction, ensure_ascii=False))
'''

README = """# A trained network

{predicts}

| file | is |
|---|---|
| `network.onnx` | raw columns in, predictions out; its metadata `backpropd` name inputs, outputs and classes |
| `predict.py` | predictions with onnxruntime alone: `pip install onnxruntime`, `python predict.py rows.csv` |
| `score_numpy.py` | predictions with numpy and safetensors alone: `python score_numpy.py rows.csv` |
| `network.py` | the network in plain torch |
| `weights.safetensors` | its best weights; `last.safetensors`, where there is one: those of the last epoch |
| `preprocessing.json` | every fitted value: what becomes of each column, in order |
| `spec.json` | what was trained, with every default written out |
| `metrics.csv` | each epoch |
| `report.json` | losses and metrics with intervals, importance of the columns, baselines; the files' agreement |

In torch:

```python
from network import build
from safetensors.torch import load_file

network = build()
network.load_state_dict(load_file("weights.safetensors"))
network.eval()
```

## Columns

| column | takes |
|---|---|
{columns}
"""


def predict_source() -> str:
    return script(TITLE, BODY)


def readme(preprocessing: Preprocessing, outcome: Outcome) -> str:
    inputs = preprocessing.inputs
    lines = [f"| `{_cell(one.name)}` | {_takes(one)} |" for one in inputs[:MOST_SHOWN]]
    if len(inputs) > MOST_SHOWN:
        lines.append(f"| ... | {len(inputs) - MOST_SHOWN} more, in `preprocessing.json` |")
    return README.format(predicts=_predicts(preprocessing, outcome), columns="\n".join(lines))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("`", "'")


def _predicts(preprocessing: Preprocessing, outcome: Outcome) -> str:
    names = ", ".join(f"`{_cell(name)}`" for name in outcome.names[:MOST_SHOWN])
    if preprocessing.target.task == "classification":
        return f"It predicts one of {len(outcome.classes)} classes, from {len(preprocessing.inputs)} columns: {names}."
    return f"It predicts {names} from {len(preprocessing.inputs)} columns."


def _takes(
    one: NumberInput | CategoryInput | OrdinalInput | EmbeddingInput | DatetimeInput | VectorInput,
) -> str:
    match one:
        case NumberInput():
            return "a number"
        case VectorInput():
            return f"a list of {one.size} numbers"
        case DatetimeInput():
            return "a date or time, ISO 8601"
        case CategoryInput() | OrdinalInput() | EmbeddingInput():
            return f"one of {len(one.categories)} categories; another one is taken as unknown"

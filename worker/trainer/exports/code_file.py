"""`train.py`: one script in plain torch that trains the network of this job again, from the rows of its dataset."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from core.spec import TrainingSpec
from core.spec.activations import Prelu
from core.spec.in_code import not_in_code
from core.spec.initializers import (
    AnyBiasInitializer,
    AnyInitializer,
    Constant,
    Identity,
    Normal,
    Orthogonal,
    PlainBias,
    PlainInitializer,
    Uniform,
    VarianceScaling,
)
from core.spec.losses import BinaryCrossEntropy, CrossEntropy, Huber, Mae, Mse
from core.spec.network import AnyLayer, BatchNorm, Dense, Residual, Weighted, flat
from worker.trainer.exports.network_file import network_source
from worker.trainer.exports.outcome import outcome_of
from worker.trainer.exports.score_numpy_file import columns_of
from worker.trainer.exports.scripts import script
from worker.trainer.exports.steps import Activation, Block, Linear, Step, steps_of
from worker.trainer.initializers import LEFT_OF_DEVIATION
from worker.trainer.network import EMBEDDING_DEVIATION, PROJECTION
from worker.trainer.preprocessing import Preprocessing
from worker.trainer.schedules import Length, Plateau, factor
from worker.trainer.split import Parts

MOST_STEPS = 20_000  # whose rates are written out, where the rate moves
CLASSES = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "nadam": "NAdam", "radam": "RAdam", "adamax": "Adamax"}
CLASSES |= {"adagrad": "Adagrad", "adadelta": "Adadelta", "rmsprop": "RMSprop"}

TITLE = """Trains the network of this job again, with torch, numpy and safetensors alone.

    python train.py rows.csv     # or .json, .jsonl: all rows of the dataset, in its order

Preprocessing, rows of each part, initial weights, batches and noise are those of the job. It prints the losses of each
epoch up to the one whose weights the job kept, saves them as trained.safetensors, and says how far those of the job are
off, where weights.safetensors lies beside it. On another machine or version of torch the last bits differ. Of a .csv
with another dialect, DIALECT, ENCODING and MISSING say how it is written.
"""

BODY = '''
DIALECT, ENCODING = {{"delimiter": ",", "quotechar": '"'}}, "utf-8-sig"  # of a .csv
FITTED = json.loads({fitted!r})
COLUMNS = {columns}
VALIDATION = np.array({validation}, np.int64)  # rows, numbered from 0; those of neither part train
TEST = np.array({test}, np.int64)
SEED, EPOCHS, LEARNING_RATE = {seed}, {epochs}, {learning_rate!r}
BATCH, ACCUMULATE = {batch}, {accumulate}  # rows of a batch, and batches of an update
FACTORS = {factors}  # of the rate, by step; none where it stays
UNIT = {unit!r}  # losses are said in the target's own units
# What each tensor begins as, in the order in which it is drawn.
INITIAL = [
{initial}]
PENALTIES = {penalties}  # weights: (l1, l2)
LONGEST = {longest}  # weights into one unit, after each update

{network}

def table(file):
    """{{column: values}}, with None for what is missing"""
    if file.endswith(".csv"):
        with open(file, encoding=ENCODING, newline="") as lines:
            found = csv.DictReader(lines, **DIALECT)
            rows = [{{name: None if cell in MISSING else cell for name, cell in row.items()}} for row in found]
    else:
        rows = read_rows(file)
    return {{name: [row.get(name) for row in rows] for name in {{name: 0 for row in rows for name in row}}}}


def inputs(columns):
    """{{column: values of the rows}} -> (rows, features), and (rows, embeddings) codes where there are some."""
    features, codes = [], []
    for fitted in FITTED["inputs"]:
        values = columns[fitted["name"]]
        if fitted["type"] == "embedding":
            codes.append(embedding(values, fitted))
        else:
            features += COLUMNS[fitted["type"]](values, fitted)
    rows = len(next(iter(columns.values())))
    matrix = np.stack(features, 1) if features else np.empty((rows, 0), np.float32)
    return [torch.from_numpy(matrix), *([torch.from_numpy(np.stack(codes, 1))] if codes else [])]


def share(values):
    """Numbers, or true and false."""
    try:
        return numbers(values)
    except ValueError:
        found = places(values, [False, True], -1).astype(np.float32)
        return np.where(found < 0, np.float32(np.nan), found)


def targets(columns):
    """What the loss takes, and whether a row has it."""
    fitted = FITTED["target"]
    names, classes = fitted["names"], fitted["classes"]
    if classes and len(names) == 1:
        codes = places(columns[names[0]], classes, -1)
        known = codes >= 0
        return torch.from_numpy({codes}), known
    values = np.stack([share(columns[name]) for name in names], 1)
    known = ~np.isnan(values).any(1)
    if fitted.get("scaling"):
        affine = np.array([[one["center"], one["scale"]] for one in fitted["scaling"]], np.float32)
        values = (values - affine[:, 0]) / affine[:, 1]
    return torch.from_numpy(values), known


def begin(network):
    """The weights that the job began with."""
    tensors, generator = network.state_dict(), torch.Generator().manual_seed(SEED)
    for key, kind, a, b in INITIAL:
        tensor = tensors[key]
        if kind == "uniform":
            tensor.uniform_(a, b, generator=generator)
        elif kind == "normal":
            tensor.normal_(a, b, generator=generator)
        elif kind == "truncated_normal":
            nn.init.trunc_normal_(tensor, a, b, a - 2 * b, a + 2 * b, generator)
        elif kind == "orthogonal":
            nn.init.orthogonal_(tensor, a, generator)
        elif kind == "identity":
            tensor.copy_(torch.eye(*tensor.shape) * a)
        else:
            tensor.fill_(a)
        if key.startswith("embeddings."):
            tensor[0] = 0.0


def seed_of(epoch, of_noise):
    return int(np.random.SeedSequence((SEED, epoch, int(of_noise))).generate_state(1, np.uint64)[0])


def loss_of(logits, target):
    return {loss}


def train(file):
    columns = table(file)
    x, (y, known) = inputs(columns), targets(columns)
    chosen = np.setdiff1d(np.flatnonzero(known), np.concatenate([VALIDATION, TEST]))
    torch.set_num_threads({threads})
    network = build()
    with torch.no_grad():
        begin(network)
    weights = dict(network.named_parameters())
    optimizer = torch.optim.{optimizer}
    step = 0
    for epoch in range(1, EPOCHS + 1):
        network.train()
        order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(seed_of(epoch, False)))
{drop_last}        torch.default_generator.manual_seed(seed_of(epoch, True))
        total = 0.0
        for update in torch.split(torch.from_numpy(chosen)[order], BATCH * ACCUMULATE):
            if FACTORS:
                optimizer.param_groups[0]["lr"] = LEARNING_RATE * FACTORS[step]
            optimizer.zero_grad()
            for batch in torch.split(update, BATCH):
                loss = loss_of(network(*(one[batch] for one in x)), y[batch])
                total += loss.item() * len(batch)
                for key, (l1, l2) in PENALTIES.items():
                    loss = loss + l1 * weights[key].abs().sum() + l2 * weights[key].square().sum()
                (loss * (len(batch) / len(update))).backward()
{clip}            optimizer.step()
            step += 1
            with torch.no_grad():
                for key, longest in LONGEST.items():
                    weights[key].copy_(torch.renorm(weights[key], 2, 0, longest))
        said = f"epoch {{epoch}}: train_loss {{total / len(order) * UNIT:.6g}}"
        if len(VALIDATION):
            network.eval()
            with torch.no_grad():
                value = loss_of(network(*(one[VALIDATION] for one in x)), y[VALIDATION])
            said += f", valid_loss {{value.item() * UNIT:.6g}}"
        print(said)
    return network


if __name__ == "__main__":
    trained = {{key: tensor.contiguous() for key, tensor in train(sys.argv[1]).state_dict().items()}}
    save_file(trained, "trained.safetensors")
    kept = Path(__file__).with_name("weights.safetensors")
    if kept.exists():
        job = load_file(kept)
        apart = max(float((trained[key] - job[key]).abs().max()) for key in job if job[key].is_floating_point())
        print(f"weights are {{apart:.2g}} apart from those of the job, at most")
'''
DROP_LAST = """\
        if len(order) > 1 and len(order) % BATCH == 1:
            order = order[:-1]  # one row has no variance
"""
Drawn = tuple[str, str, float, float]  # key, kind, and its two numbers


@dataclass(frozen=True)
class Run:
    """What was done, besides what the spec says."""

    parts: Parts
    epochs: int  # until the weights that were kept
    started_anew: bool  # from initial weights, on rows of its own table
    unit: float


def code_of(spec: TrainingSpec, fitted: Preprocessing, run: Run) -> str | None:
    """None where the script would not train what the job has trained."""
    if not run.started_anew or any(not_in_code(spec)):
        return None
    training, layers, output = spec.training, spec.network.layers or [], spec.network.output
    assert output is not None, "a resolved spec has its output"
    outcome = outcome_of(spec, fitted.target)
    sizes = [(len(one.categories) + 1, one.dimension) for one in fitted.embeddings]
    steps = steps_of(layers, output, len(fitted.features) + sum(dimension for _, dimension in sizes))
    rows_an_update = training.batch_size * training.accumulate
    has_batch_norm, rows = any(isinstance(layer, BatchNorm) for layer in flat(layers)), len(run.parts.train)
    if has_batch_norm and rows > 1 and rows % training.batch_size == 1:
        rows -= 1
    updates = -(-rows // rows_an_update)
    moves = training.schedule.model_dump(exclude_defaults=True) != {"name": "constant"}
    if moves and updates * run.epochs > MOST_STEPS:
        return None
    length = Length(updates, updates * training.epochs)
    factors = (
        [factor(training.schedule, step, length, Plateau()) for step in range(updates * run.epochs)] if moves else []
    )
    weighted = list(zip(_linears(steps), [*_weighted(steps, layers), output], strict=True))
    drawn = [
        *_slopes(steps),
        *_of_embeddings(len(sizes)),
        *(one for step, chosen in weighted for one in _drawn(step, chosen)),
    ]
    network = network_source(len(fitted.features), sizes, steps, outcome).partition("from torch import nn\n")[2]
    body = BODY.format(
        fitted=fitted.model_dump_json(),
        columns=columns_of(fitted),
        validation=run.parts.validation.tolist(),
        test=run.parts.test.tolist(),
        seed=training.seed,
        epochs=run.epochs,
        batch=training.batch_size,
        accumulate=training.accumulate,
        learning_rate=training.optimizer.learning_rate,
        factors=factors,
        unit=run.unit,
        initial="".join(f"    {one!r},\n" for one in drawn),
        penalties={f"{step.key}.weight": (one.l1, one.l2) for step, one in weighted if one.l1 or one.l2},
        longest={f"{step.key}.weight": one.max_norm for step, one in weighted if one.max_norm is not None},
        network=network.strip() + "\n",
        codes="codes.astype(np.float32)[:, None]" if outcome.units == 1 else "codes",
        loss=_loss(spec),
        threads=spec.resources.threads,
        optimizer=_optimizer(spec),
        drop_last=DROP_LAST if has_batch_norm else "",
        clip=_clip(spec),
    )
    return script(TITLE, body)


def _linears(steps: Sequence[Step]) -> Iterator[Linear]:
    """In the order in which they are drawn."""
    for step in steps:
        if isinstance(step, Linear):
            yield step
        elif isinstance(step, Block):
            yield from _linears(step.steps)
            if step.projection is not None:
                yield step.projection


def _weighted(steps: Sequence[Step], layers: Sequence[AnyLayer]) -> Iterator[Weighted]:
    """What the spec says of each of them; not of the output."""
    blocks = iter([step for step in steps if isinstance(step, Block)])
    for layer in layers:
        if isinstance(layer, Dense):
            yield layer
        elif isinstance(layer, Residual):
            block = next(blocks)
            yield from _weighted(block.steps, layer.layers)
            if block.projection is not None:
                yield PROJECTION


def _slopes(steps: Sequence[Step]) -> Iterator[Drawn]:
    """What `prelu` begins with: nothing is drawn for it."""
    for step in steps:
        if isinstance(step, Block):
            yield from _slopes(step.steps)
        elif isinstance(step, Activation) and isinstance(step.chosen, Prelu):
            yield f"{step.key}.weight", "constant", step.chosen.init, 0.0


def _of_embeddings(count: int) -> Iterator[Drawn]:
    for place in range(count):
        yield f"embeddings.{place}.weight", "uniform", -EMBEDDING_DEVIATION, EMBEDDING_DEVIATION


def _drawn(step: Linear, chosen: Weighted) -> Iterator[Drawn]:
    yield (f"{step.key}.weight", *_begins_as(chosen.weight_initializer, step))
    if step.bias:
        yield (f"{step.key}.bias", *_begins_as(chosen.bias_initializer, step))


def _begins_as(chosen: AnyInitializer | AnyBiasInitializer, step: Linear) -> tuple[str, float, float]:
    match chosen:
        case PlainInitializer(name="zeros") | PlainBias(name="zeros"):
            return "constant", 0.0, 0.0
        case PlainInitializer(name="ones") | PlainBias(name="ones"):
            return "constant", 1.0, 0.0
        case PlainInitializer() | PlainBias():
            family, _, distribution = chosen.name.partition("_")
            scale = 2.0 if family == "he" else 1.0
            kind = "uniform" if distribution == "uniform" else "truncated_normal"
            return _scaled(step, scale, "fan_avg" if family == "glorot" else "fan_in", kind)
        case Constant():
            return "constant", chosen.value, 0.0
        case Identity():
            return "identity", chosen.gain, 0.0
        case Orthogonal():
            return "orthogonal", chosen.gain, 0.0
        case Normal():
            return chosen.name.removeprefix("random_"), chosen.mean, chosen.stddev
        case Uniform():
            return "uniform", chosen.minval, chosen.maxval
        case VarianceScaling():
            return _scaled(step, chosen.scale, chosen.mode, chosen.distribution)
        case _:
            assert_never(chosen)


def _scaled(step: Linear, scale: float, mode: str, distribution: str) -> tuple[str, float, float]:
    fan = {"fan_in": step.inputs, "fan_out": step.units, "fan_avg": (step.inputs + step.units) / 2}[mode]
    deviation = math.sqrt(scale / max(1.0, fan))
    match distribution:
        case "uniform":
            return "uniform", -math.sqrt(3.0) * deviation, math.sqrt(3.0) * deviation
        case "untruncated_normal":
            return "normal", 0.0, deviation
        case _:
            return "truncated_normal", 0.0, deviation / LEFT_OF_DEVIATION


def _loss(spec: TrainingSpec) -> str:
    match spec.training.loss:
        case CrossEntropy(label_smoothing=smoothing):
            return f"functional.cross_entropy(logits, target, label_smoothing={smoothing!r})"
        case BinaryCrossEntropy(label_smoothing=smoothing):
            target = f"target * {1 - smoothing!r} + {smoothing / 2!r}" if smoothing else "target"
            return f"functional.binary_cross_entropy_with_logits(logits, {target})"
        case Mse():
            return "functional.mse_loss(logits, target)"
        case Mae():
            return "functional.l1_loss(logits, target)"
        case Huber(delta=delta):
            return f"functional.huber_loss(logits, target, delta={delta!r})"
        case other:
            raise ValueError(f"{other.name} is in no script")


def _optimizer(spec: TrainingSpec) -> str:
    chosen = spec.training.optimizer
    options: dict[str, Any] = {name: getattr(chosen, name) for name in type(chosen).model_fields if name != "name"}
    options["lr"] = options.pop("learning_rate")
    said = ", ".join(f"{name}={value!r}" for name, value in options.items())
    return f"{CLASSES[chosen.name]}(network.parameters(), {said})"


def _clip(spec: TrainingSpec) -> str:
    training = spec.training
    if training.clip_value is not None:
        return f"            nn.utils.clip_grad_value_(network.parameters(), {training.clip_value!r})\n"
    if training.clip_norm is not None:
        return f"            nn.utils.clip_grad_norm_(network.parameters(), {training.clip_norm!r})\n"
    return ""

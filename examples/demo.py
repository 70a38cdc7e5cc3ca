"""The whole way, on real data: a fifth of the penguins is held back, the rest is uploaded and trained on, and what
comes back is checked with nothing but numpy.

`make demo` runs it. It starts its own `backpropd serve` in a temporary folder, and stops it again whatever happens.
Exits 0 only when every check held.
"""

import csv
import hashlib
import io
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text
from safetensors.numpy import load

PENGUINS = Path(__file__).parent / "penguins.csv"
TARGET = "species"
HELD_BACK, SEED = 0.2, 20261123

DENSE = {"type": "dense", "units": 64, "activation": "relu"}
SPEC = {
    "target": TARGET,
    "network": {"layers": [DENSE, DENSE, {"type": "dense", "units": 3, "activation": "softmax"}]},
    "training": {"loss": "categorical_crossentropy", "optimizer": "adam", "epochs": 200, "batch_size": 32},
}

LEAST_ACCURACY = 0.9  # on rows the server never saw; always naming the commonest species is right 44 times in 100
MOST_LOSS_DIFFERENCE = 1e-5  # between our forward pass and the server's: both are float32, summed in another order

Row = dict[str, str]

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)


class DemoFailed(Exception):
    """The demo cannot go on; the message says why."""


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that `serve` is stopped on the way out
    seen, held_back = hold_back(list(csv.DictReader(PENGUINS.open(newline=""))))
    try:
        with serve() as http:
            failed = run(http, seen, held_back)
    except (DemoFailed, httpx2.HTTPError) as reason:
        console.print(f"\n[bold red]The demo failed:[/] {reason}")
        return 1
    except KeyboardInterrupt:
        console.print("\nStopped.")
        return 130
    if failed:
        console.print(f"\n[bold red]The demo failed:[/] this did not hold: {'; '.join(failed)}")
        return 1
    show_next_steps()
    return 0


def run(http: httpx2.Client, seen: list[Row], held_back: list[Row]) -> list[str]:
    """Uploads, trains, downloads and checks; returns the names of the checks that did not hold."""
    dataset = answer(http.post("/v1/datasets", files={"file": (PENGUINS.name, as_csv(seen), "text/csv")}))
    while dataset["status"] == "processing":  # a worker that has just been started on a busy machine
        dataset = answer(http.get(f"/v1/datasets/{dataset['id']}"))
        time.sleep(0.1)
    console.print(f"uploaded   {dataset['rows']} of {len(seen) + len(held_back)} penguins as {dataset['id']}")
    console.print(f"held back  {len(held_back)} rows, drawn at random: the server never sees them")

    job = answer(http.post("/v1/jobs", json={"dataset_id": dataset["id"], "spec": SPEC}))
    console.print(f"submitted  {job['id']}: dense 64 relu, dense 64 relu, dense 3 softmax\n")
    end = follow(http, job)
    if end["status"] != "succeeded":
        raise DemoFailed(f"the job ended as {end['status']}: {end['error']}")

    listed = {one["name"]: one for one in answer(http.get(f"/v1/jobs/{job['id']}/artifacts"))["items"]}
    weights = http.get(f"/v1/jobs/{job['id']}/weights").raise_for_status()
    preprocessing = answer(http.get(f"/v1/jobs/{job['id']}/artifacts/preprocessing.json"))
    report = answer(http.get(f"/v1/jobs/{job['id']}/artifacts/report.json"))

    validation = [seen[number] for number in report["rows"]["validation"]]
    loss, accuracy = score(weights.content, preprocessing, validation)
    _, unseen_accuracy = score(weights.content, preprocessing, held_back)
    sha256, row = hashlib.sha256(weights.content).hexdigest(), listed["weights.safetensors"]
    etag = weights.headers["etag"].strip('"')
    difference = abs(loss - report["validation"]["loss"])
    same_accuracy = abs(accuracy - report["validation"]["accuracy"]) < 1e-9
    return show_results(
        [
            (
                "accuracy on the held back rows",
                f"{unseen_accuracy:.1%} of {len(held_back)}, at least {LEAST_ACCURACY:.0%} expected",
                unseen_accuracy >= LEAST_ACCURACY,
            ),
            ("size of the weights", f"{len(weights.content):,} bytes", len(weights.content) == row["bytes"]),
            ("SHA-256 of the weights", sha256, None),
            ("SHA-256 in the ETag", "the same" if etag == sha256 else etag, etag == sha256),
            (
                "SHA-256 in the list of artifacts",
                "the same" if row["sha256"] == sha256 else row["sha256"],
                row["sha256"] == sha256,
            ),
            ("validation loss, server", f"{report['validation']['loss']:.9f}", None),
            ("validation loss, numpy, same rows", f"{loss:.9f}", None),
            (
                "difference",
                f"{difference:.1e}, must be below {MOST_LOSS_DIFFERENCE:.0e}",
                difference < MOST_LOSS_DIFFERENCE,
            ),
            (
                "validation accuracy",
                f"server {report['validation']['accuracy']:.4f}, numpy {accuracy:.4f}",
                same_accuracy,
            ),
        ]
    )


# --- what a client needs to use the weights: numpy, and what the two files say ----------------------------------------


def score(weights: bytes, preprocessing: dict[str, Any], rows: list[Row]) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of the downloaded network on raw rows."""
    logits = forward(load(weights), features_of(preprocessing, rows))
    classes = np.array([preprocessing["target"]["classes"].index(row[TARGET]) for row in rows])
    logits = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    loss = -log_probabilities[np.arange(len(rows)), classes].mean()
    return float(loss), float((logits.argmax(axis=1) == classes).mean())


def features_of(preprocessing: dict[str, Any], rows: list[Row]) -> np.ndarray:
    """Raw rows -> (rows, features): numbers imputed and scaled, categories one-hot, as they were fitted."""
    columns = []
    for fitted in preprocessing["inputs"]:
        values = [None if row[fitted["name"]] == "NA" else row[fitted["name"]] for row in rows]
        if fitted["type"] == "number":
            raw = np.array([fitted["imputed"] if value is None else float(value) for value in values], np.float32)
            scaling = fitted["scaling"]
            columns.append((raw - np.float32(scaling["center"])) / np.float32(scaling["scale"]))
        else:
            columns += [np.array([value == one for value in values], np.float32) for one in fitted["categories"]]
    return np.stack(columns, axis=1)


def forward(weights: dict[str, np.ndarray], features: np.ndarray) -> np.ndarray:
    """(rows, features) -> (rows, classes) logits. Keys are places in an `nn.Sequential`: `0.weight`, `0.bias`, ..."""
    layers = sorted({int(name.split(".")[0]) for name in weights})
    for layer in layers:
        features = features @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"]
        if layer != layers[-1]:
            features = np.maximum(features, 0)
    return features


# --- the rows ---------------------------------------------------------------------------------------------------------


def hold_back(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """The rows to upload, in their order, and a simple random fifth that stays here."""
    chosen = set(random.Random(SEED).sample(range(len(rows)), round(len(rows) * HELD_BACK)))
    return (
        [row for number, row in enumerate(rows) if number not in chosen],
        [rows[number] for number in sorted(chosen)],
    )


def as_csv(rows: list[Row]) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


# --- the server -------------------------------------------------------------------------------------------------------


@contextmanager
def serve() -> Iterator[httpx2.Client]:
    """`backpropd serve` on a free port, with a data folder that goes away with it."""
    with tempfile.TemporaryDirectory(prefix="backpropd-demo-") as folder:
        data_dir, log = Path(folder) / "data", Path(folder) / "serve.log"
        # Settings of another installation must not reach this one: it would train in their database.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("BACKPROPD_", "AWS_"))}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [Path(sys.executable).with_name("backpropd"), "serve", "--port", "0", "--data-dir", data_dir],
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a Ctrl-C is ours: we stop it in order
            )
        try:
            url = wait_for_greeting(process, log)
            key = (data_dir / "initial-api-key").read_text().strip()
            console.print(f"serving    {url}")
            with httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as http:
                yield http
        finally:
            process.terminate()
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for_greeting(process: subprocess.Popen[bytes], log: Path) -> str:
    """The URL that `serve` says it is at, once it is healthy."""
    deadline = time.monotonic() + 90
    while "Ctrl-C stops it" not in (text := log.read_text(errors="replace")):
        if process.poll() is not None:
            raise DemoFailed(f"`backpropd serve` ended with {process.returncode}:\n{text[-2000:]}")
        if time.monotonic() > deadline:
            raise DemoFailed(f"`backpropd serve` was not ready within 90 s:\n{text[-2000:]}")
        time.sleep(0.05)
    return text.split("is serving at ")[1].split()[0]


def answer(response: httpx2.Response) -> dict[str, Any]:
    if response.status_code >= 400:
        raise DemoFailed(f"{response.request.method} {response.request.url.path} answered {response.text}")
    return dict(response.json())


# --- the live loss ----------------------------------------------------------------------------------------------------


def follow(http: httpx2.Client, job: dict[str, Any]) -> dict[str, Any]:
    """Shows the event stream as it comes, to its end; returns what the end says."""
    epochs = SPEC["training"]["epochs"]  # type: ignore[index]
    shown = LiveLoss(epochs) if console.is_terminal else PrintedLoss(epochs)
    with shown:
        for event in read_events(http, job["id"]):
            if event["type"] == "epoch":
                shown.epoch(event["data"])
            elif event["type"] == "end":
                return dict(event["data"])
    raise DemoFailed("the event stream stopped before its `end`")


def read_events(http: httpx2.Client, job_id: str) -> Iterator[dict[str, Any]]:
    """Server-Sent Events: the `data:` lines hold one JSON object each."""
    with http.stream("GET", f"/v1/jobs/{job_id}/events", headers={"Accept": "text/event-stream"}) as stream:
        stream.raise_for_status()
        for line in stream.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


class PrintedLoss:
    """For a log: a line now and then."""

    def __init__(self, epochs: int) -> None:
        self._epochs, self._every = epochs, max(1, epochs // 10)

    def __enter__(self) -> "PrintedLoss":
        return self

    def __exit__(self, *_: object) -> None:
        console.print()

    def epoch(self, facts: dict[str, Any]) -> None:
        if facts["epoch"] == 1 or facts["epoch"] % self._every == 0:
            losses = f"train_loss {facts['train_loss']:.5f}  valid_loss {facts['valid_loss']:.5f}"
            console.print(f"epoch {facts['epoch']:>4}/{self._epochs}  {losses}")


class LiveLoss:
    """For a terminal: a bar of epochs, and both losses as curves."""

    WIDTH, HEIGHT = 36, 6

    def __init__(self, epochs: int) -> None:
        self._bar = Progress(TextColumn("epoch"), BarColumn(None), MofNCompleteColumn(), console=console)
        self._task = self._bar.add_task("", total=epochs)
        self._epochs, self._losses = epochs, {"train_loss": [], "valid_loss": []}  # type: ignore[var-annotated]
        self._live = Live(console=console, refresh_per_second=15, get_renderable=self._picture)

    def __enter__(self) -> "LiveLoss":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        console.print()

    def epoch(self, facts: dict[str, Any]) -> None:
        self._bar.update(self._task, completed=facts["epoch"])
        for name, losses in self._losses.items():
            losses.append(facts[name])

    def _picture(self) -> Group:
        curves = Table.grid(padding=(0, 4))
        curves.add_row(*(self._titled_curve(name, losses) for name, losses in self._losses.items()))
        return Group(self._bar, curves)

    def _titled_curve(self, name: str, losses: list[float]) -> Text:
        newest = f"{losses[-1]:.5f}" if losses else ""
        return Text.assemble((name, "bold"), f"  {newest}  (log scale)\n{self._curve(losses)}")

    def _curve(self, losses: list[float]) -> str:
        """The losses on a logarithmic scale, in eighths of a block; what is still to come stays empty."""
        blocks = " ▁▂▃▄▅▆▇█" if console.encoding.startswith("utf") else " .:-=+*##"
        logs = [math.log(max(loss, 1e-12)) for loss in losses]
        low, high = min(logs, default=0.0), max(logs, default=0.0)
        heights = []
        for place in range(self.WIDTH):
            here = logs[place * self._epochs // self.WIDTH :][:1]
            share = (here[0] - low) / (high - low) if here and high > low else 0.0
            heights.append(1 + round((8 * self.HEIGHT - 1) * share) if here else 0)
        return "\n".join(
            "".join(blocks[min(8, max(0, height - 8 * line))] for height in heights)
            for line in reversed(range(self.HEIGHT))
        )


# --- the end ----------------------------------------------------------------------------------------------------------


def show_results(results: list[tuple[str, str, bool | None]]) -> list[str]:
    """Prints what was found; a result with a verdict is a check. Returns the checks that did not hold."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, found, held in results:
        verdict = {None: "", True: "[green]ok[/]", False: "[bold red]FAILED[/]"}[held]
        table.add_row(name, Text(found, overflow="fold"), verdict)
    console.print(table)
    return [f"{name} ({found})" for name, found, held in results if held is False]


def show_next_steps() -> None:
    console.print(
        r"""
[bold]All checks held.[/] By hand, in one terminal:

  .venv/bin/backpropd serve

and in another:

  export BACKPROPD_URL=http://127.0.0.1:8000 BACKPROPD_API_KEY=$(cat backpropd-data/initial-api-key)
  auth="Authorization: Bearer $BACKPROPD_API_KEY"
  curl -H "$auth" -F file=@examples/penguins.csv -F 'spec={"target": "species"}' "$BACKPROPD_URL/v1/jobs"
  job=$(curl -sH "$auth" "$BACKPROPD_URL/v1/jobs?limit=1" | grep -o 'job_[0-9a-z]*' | head -1)
  curl -NH "$auth" -H 'Accept: text/event-stream' "$BACKPROPD_URL/v1/jobs/$job/events"
  curl -H "$auth" -o weights.safetensors "$BACKPROPD_URL/v1/jobs/$job/weights"

Next: your own table in place of the penguins; every field of the spec is at http://127.0.0.1:8000/docs .
The forward pass that checked these weights is `features_of` and `forward` in examples/demo.py.""",
        markup=True,
    )


if __name__ == "__main__":
    sys.exit(main())

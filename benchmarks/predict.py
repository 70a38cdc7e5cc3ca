"""How fast the API predicts: one row at a time over HTTP, many rows in one call, and a stored dataset.

One client on a warm server. The stored dataset is compared with onnxruntime alone, on one thread, from arrays that lie
in memory.
"""

import argparse
import io
import json
import random
import sys
import time
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
from figures import Figure, report
from serving import DATABASES, Serve, percentile, serving, stop_on_sigterm

ONE_ROW_TARGET = 5.0  # ms, at the median
MANY_ROWS_TARGET = 80_000.0  # rows a second
STORED_TARGET = 0.5  # of onnxruntime alone
COLUMNS, PIXELS = 30, 784
ROWS_AT_ONCE = 8192  # of onnxruntime alone, as the worker


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: benchmarks/predict.py --requests 500 --rows 40000 --stored 200000",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--requests", type=int, default=300, help="single rows that are measured (default: %(default)s)"
    )
    parser.add_argument("--rows", type=int, default=80_000, help="rows in one call (default: %(default)s)")
    parser.add_argument("--calls", type=int, default=5, help="such calls (default: %(default)s)")
    parser.add_argument("--stored", type=int, default=1_000_000, help="rows of the dataset (default: %(default)s)")
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a target is missed")
    asked = parser.parse_args()
    stop_on_sigterm()

    with serving(asked.database) as serve:
        numbers, pixels = trained(serve, numbers_table(2000)), trained(serve, pixels_table(300))
        figures = [
            *one_row(serve, f"{COLUMNS} columns", numbers, {"rows": [number_row(random.Random(1))]}, asked.requests),
            *one_row(serve, f"a vector of {PIXELS}", pixels, {"X": [pixel_row(random.Random(1))]}, asked.requests),
            *many_rows(serve, numbers, asked.rows, asked.calls),
            *stored(serve, numbers, asked.stored),
        ]
    return report(f"Predictions over {asked.database}", figures, as_json=asked.json, strict=asked.strict)


# --- what is trained ------------------------------------------------------------------------------------------------


def number_row(draw: random.Random) -> dict[str, float]:
    return {f"x{place:02d}": round(draw.gauss(0, 1), 4) for place in range(COLUMNS)}


def pixel_row(draw: random.Random) -> list[float]:
    return [draw.randrange(256) / 255 for _ in range(PIXELS)]


def numbers_table(rows: int) -> bytes:
    draw = random.Random(0)
    lines = [number_row(draw) for _ in range(rows)]
    return json.dumps([row | {"y": "abc"[number % 3]} for number, row in enumerate(lines)]).encode()


def pixels_table(rows: int) -> bytes:
    draw = random.Random(0)
    return json.dumps([{"pixels": pixel_row(draw), "y": "abc"[number % 3]} for number in range(rows)]).encode()


def upload(serve: Serve, table: bytes, name: str, media_type: str) -> str:
    parameters = {"name": name, "wait": "60"}
    answer = serve.http.post("/v1/datasets", content=table, params=parameters, headers={"Content-Type": media_type})
    dataset_id = str(answer.raise_for_status().json()["id"])
    while serve.http.get(f"/v1/datasets/{dataset_id}").json()["status"] == "processing":
        time.sleep(0.2)
    return dataset_id


def trained(serve: Serve, table: bytes) -> str:
    dataset_id = upload(serve, table, "table.json", "application/json")
    spec = {"target": "y", "network": {"hidden": [64, 64]}, "training": {"epochs": 2}}
    job = serve.http.post("/v1/jobs", json={"dataset_id": dataset_id, "spec": spec}).raise_for_status().json()
    ended = serve.finished(job["id"])
    if ended["status"] != "succeeded":
        raise SystemExit(f"{job['id']} did not succeed: {ended['error']}")
    return str(job["id"])


# --- what is measured -----------------------------------------------------------------------------------------------


def one_row(serve: Serve, what: str, job_id: str, body: dict[str, Any], requests: int) -> list[Figure]:
    content = json.dumps(body).encode()
    milliseconds = [timed(serve, job_id, content) * 1000 for _ in range(requests + 20)][20:]
    return [
        Figure(f"one row of {what}, p50", percentile(milliseconds, 0.5), "ms", at_most=ONE_ROW_TARGET, digits=2),
        Figure(f"one row of {what}, p95", percentile(milliseconds, 0.95), "ms", digits=2),
    ]


def many_rows(serve: Serve, job_id: str, count: int, calls: int) -> list[Figure]:
    draw = random.Random(2)
    rows = [number_row(draw) for _ in range(count)]
    names = [*rows[0]]
    bodies = {
        "objects, answered by row": ({"rows": rows}, "rows", MANY_ROWS_TARGET),
        "objects, answered by column": ({"rows": rows}, "columns", None),
        "lists, answered by column": ({"columns": names, "rows": [[*row.values()] for row in rows]}, "columns", None),
    }
    found = []
    for what, (body, shape, target) in bodies.items():
        content = json.dumps(body).encode()
        timed(serve, job_id, content, shape)
        best = count / min(timed(serve, job_id, content, shape) for _ in range(calls))
        found.append(Figure(f"{count:,} rows as {what}", best, "rows/s", at_least=target, digits=0))
    return found


def timed(serve: Serve, job_id: str, content: bytes, shape: str = "rows") -> float:
    """Seconds from the request to the whole answer."""
    headers = {"Content-Type": "application/json"}
    started = time.perf_counter()
    answer = serve.http.post(f"/v1/jobs/{job_id}/predict", content=content, params={"shape": shape}, headers=headers)
    seconds = time.perf_counter() - started
    answer.raise_for_status()
    return seconds


def stored(serve: Serve, job_id: str, rows: int) -> list[Figure]:
    values = np.random.default_rng(3).standard_normal((rows, COLUMNS)).astype(np.float32)
    file = io.BytesIO()
    pq.write_table(pa.table({f"x{place:02d}": values[:, place] for place in range(COLUMNS)}), file)
    dataset_id = upload(serve, file.getvalue(), "table.parquet", "application/vnd.apache.parquet")
    started = time.perf_counter()
    answer = serve.http.post(f"/v1/jobs/{job_id}/predictions?wait=60", json={"dataset_id": dataset_id})
    asked = answer.raise_for_status().json()
    while asked["finished_at"] is None:
        asked = serve.http.get(f"/v1/predictions/{asked['id']}?wait=60").json()
    ours = time.perf_counter() - started
    if asked["status"] != "succeeded":
        raise SystemExit(f"{asked['id']} did not succeed: {asked['error']}")
    network = serve.http.get(f"/v1/jobs/{job_id}/artifacts/network.onnx").raise_for_status().content
    alone = onnxruntime_alone(network, values)
    return [
        Figure(f"{rows:,} stored rows, from POST to the file", rows / ours, "rows/s", digits=0),
        Figure("  onnxruntime alone, one thread", rows / alone, "rows/s", digits=0),
        Figure("  of onnxruntime alone", alone / ours, at_least=STORED_TARGET, digits=2),
    ]


def onnxruntime_alone(network: bytes, values: Any) -> float:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    said = json.loads(session.get_modelmeta().custom_metadata_map["backpropd"])
    columns = [np.ascontiguousarray(values[:, place])[:, None] for place in range(COLUMNS)]
    started = time.perf_counter()
    for start in range(0, len(values), ROWS_AT_ONCE):
        feeds = {f"x{place:02d}": column[start : start + ROWS_AT_ONCE] for place, column in enumerate(columns)}
        session.run([said["outputs"][said["scores"]]], feeds)
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())

"""Predictions over HTTP: the same as those of the files that a job leaves, and warnings where it has not learned."""

import json
import runpy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.api.asking import RANDOM, masked, problem
from tests.running import Api, Serve

ROW = {
    "island": "Torgersen",
    "bill_length_mm": 39.1,
    "bill_depth_mm": 18.7,
    "flipper_length_mm": 181,
    "body_mass_g": 3750,
    "sex": "male",
    "year": 2007,
}
WITHOUT_WARNINGS = [
    ROW,
    ROW | {"sex": None, "bill_depth_mm": None},
    ROW | {"island": "Biscoe", "bill_length_mm": 50.5, "body_mass_g": 5400.0},
]
MIXED = (
    "size,colour,at,flag,place,y\n"
    + "".join(
        f"{number % 7 + 0.5},{['red', 'green', 'blue'][number % 3]},"
        f"20{number % 20 + 10}-0{number % 9 + 1}-1{number % 9}T0{number % 9}:30:00Z,"
        f"{['true', 'false'][number % 2]},{number % 4 + 1},{number % 7 * 2 + number % 3}\n"
        for number in range(120)
    )
).encode()
MIXED_ROWS: list[dict[str, Any]] = [
    {"size": 1.5, "colour": "red", "at": "2014-03-12T03:30:00Z", "flag": True, "place": 2},
    {"size": None, "colour": "mauve", "at": "2014-03-12T05:30:00+02:00", "flag": False, "place": 9},
    {"size": 1e300, "colour": None, "at": None, "flag": None, "place": None},
    {"size": 99, "colour": "", "at": "2031-01-01", "flag": "true", "place": 2.0},
    {"colour": "blue", "at": 1_400_000_000},
]


def ask(api: Api, job_id: str, body: Any, **parameters: str) -> httpx2.Response:
    return api.http.post(f"/v1/jobs/{job_id}/predict", json=body, params=parameters)


def predicted(api: Api, job_id: str, body: Any, **parameters: str) -> dict[str, Any]:
    answer = ask(api, job_id, body, **parameters)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def trained_on(serve: Serve, table: bytes, spec: dict[str, Any]) -> str:
    dataset = serve.http.post("/v1/datasets", files={"file": ("mixed.csv", table)}, params={"wait": 60}).json()
    job = serve.finished(serve.submit(dataset["id"], spec)["id"])
    assert job["status"] == "succeeded", job
    return str(job["id"])


@pytest.fixture(scope="module")
def mixed(serve: Serve) -> str:
    """A regression on a column of each type."""
    columns = {"place": {"type": "category"}}
    spec = {"target": "y", "features": {"columns": columns}, "network": {"hidden": [8]}, "training": {"epochs": 3}}
    return trained_on(serve, MIXED, spec)


def score_numpy(serve: Serve, job_id: str, folder: Path) -> Any:
    """The `predict` of the file that needs neither us nor onnxruntime."""
    for name in ("score_numpy.py", "weights.safetensors", "preprocessing.json"):
        (folder / name).write_bytes(serve.artifact(job_id, name))
    return runpy.run_path(str(folder / "score_numpy.py"))["predict"]


def wrong(answer: httpx2.Response) -> dict[str, str]:
    """What an `invalid_rows` finds: the pointer and the code of each error."""
    return {one["pointer"]: one["code"] for one in problem(answer, 422, "invalid_rows")["errors"]}


# --- what is predicted --------------------------------------------------------------------------------------------


def test_rows_are_predicted_as_by_the_file_of_numpy(serve: Serve, trained: str, tmp_path: Path) -> None:
    found = predicted(serve, trained, {"rows": WITHOUT_WARNINGS})

    expected = score_numpy(serve, trained, tmp_path)(WITHOUT_WARNINGS)
    assert found["job_id"] == trained
    assert len(found["predictions"]) == 3
    for one, same in zip(found["predictions"], expected, strict=True):
        assert one["label"] == same["label"]
        assert one["probabilities"] == pytest.approx(same["probabilities"], abs=1e-5)
        assert sum(one["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert one["warnings"] == []


def test_each_type_of_column_is_read_as_by_the_file_of_numpy(serve: Serve, mixed: str, tmp_path: Path) -> None:
    found = predicted(serve, mixed, {"rows": MIXED_ROWS})["predictions"]

    of_file = score_numpy(serve, mixed, tmp_path)
    whole = [{name: row.get(name) for name in MIXED_ROWS[0]} for row in MIXED_ROWS]
    assert [one["value"] for one in found] == pytest.approx([one["value"] for one in of_file(whole)], abs=1e-4)


@pytest.mark.parametrize("form", ["columns and rows", "lines", "with the target", "other columns ignored"])
def test_every_form_of_a_body_is_the_same_rows(serve: Serve, trained: str, form: str) -> None:
    expected = predicted(serve, trained, {"rows": WITHOUT_WARNINGS})
    path, rows = f"/v1/jobs/{trained}/predict", WITHOUT_WARNINGS

    match form:
        case "columns and rows":
            names = [*reversed(ROW)]
            found = predicted(
                serve, trained, {"columns": names, "rows": [[row[name] for name in names] for row in rows]}
            )
        case "lines":
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            found = serve.http.post(path, content=lines, headers={"Content-Type": "application/jsonl"}).json()
        case "with the target":
            found = predicted(serve, trained, {"rows": [{"species": "Adelie", **row} for row in rows]})
        case _:
            others = [{**row, "colour": "red"} for row in rows]
            found = predicted(serve, trained, {"rows": others}, other_columns="ignore")

    assert found == expected


def test_columns_hold_what_rows_hold(serve: Serve, trained: str) -> None:
    rows = [*WITHOUT_WARNINGS, ROW | {"island": "Atlantis"}]
    by_row = predicted(serve, trained, {"rows": rows})["predictions"]

    found = predicted(serve, trained, {"rows": rows}, shape="columns")

    assert found["labels"] == [one["label"] for one in by_row]
    assert [dict(zip(found["classes"], row, strict=True)) for row in found["probabilities"]] == [
        one["probabilities"] for one in by_row
    ]
    [warning] = found["warnings"]
    assert (warning["code"], warning["column"], warning["rows"]) == ("unseen_category", "island", 1)
    assert warning["first_rows"] == [3]


def test_lines_are_answered_by_lines_where_asked(serve: Serve, trained: str) -> None:
    expected = predicted(serve, trained, {"rows": WITHOUT_WARNINGS})["predictions"]

    answer = serve.http.post(
        f"/v1/jobs/{trained}/predict", json={"rows": WITHOUT_WARNINGS}, headers={"Accept": "application/jsonl"}
    )

    assert answer.headers["content-type"] == "application/jsonl"
    assert [json.loads(line) for line in answer.text.splitlines()] == expected


@pytest.mark.parametrize("kind", ["vector", "numbers"])
def test_a_matrix_is_predicted(serve: Serve, kind: str) -> None:
    rows = [[float((row * place) % 11) for place in range(1, 5)] for row in range(80)]
    if kind == "vector":
        table = [{"pixels": row, "y": sum(row)} for row in rows]
    else:
        table = [{**{f"x{place}": value for place, value in enumerate(row)}, "y": sum(row)} for row in rows]
    body = {"dataset": {"rows": table}, "spec": {"target": "y", "network": {"hidden": [4]}, "training": {"epochs": 2}}}
    submitted = serve.http.post("/v1/jobs", json=body, params={"wait": 60})
    job_id = serve.finished(submitted.json()["id"])["id"]

    found = predicted(serve, job_id, {"X": rows[:5]})

    inputs = [{name: value for name, value in row.items() if name != "y"} for row in table[:5]]
    assert found == predicted(serve, job_id, {"rows": inputs})
    assert set(found["predictions"][0]) == {"value", "warnings"}
    assert wrong(ask(serve, job_id, {"X": [[1, 2, 3]]})) == {
        "/X/0": "vector_length" if kind == "vector" else "list_length"
    }
    assert wrong(ask(serve, job_id, {"X": [[1, 2, 3, 4], [1, "2", 3, 4]]})) == {"/X/1/1": "number_type"}


TASKS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "booleans": ({"target": "flag"}, {"label", "probabilities"}),
    "whole numbers": ({"target": "place", "task": "classification"}, {"label", "probabilities"}),
    "labels": ({"target": ["a", "b"], "task": "multilabel"}, {"labels", "probabilities"}),
    "numbers": ({"target": ["u", "v"]}, {"values"}),
    "quantiles": (
        {"target": "u", "training": {"loss": {"name": "quantile", "quantiles": [0.1, 0.9]}}},
        {"quantiles"},
    ),
    "hinge": ({"target": "flag", "training": {"loss": "hinge"}}, {"label", "scores"}),
}


@pytest.mark.parametrize("task", TASKS)
def test_each_task_has_its_form(serve: Serve, task: str, tmp_path: Path) -> None:
    spec, fields = TASKS[task]
    rows = [
        {
            "x": row % 13 + 0.5,
            "flag": row % 13 > 6,
            "place": row % 3 + 5,
            "a": int(row % 13 > 4),
            "b": row % 2,
            "u": row % 13 * 2.5,
            "v": row % 5 / 3,
        }
        for row in range(90)
    ]
    spec = {"network": {"hidden": [4]}, **spec, "features": {"include": ["x"]}}
    spec["training"] = {"epochs": 2, **spec.get("training", {})}
    answer = serve.http.post("/v1/jobs", json={"dataset": {"rows": rows}, "spec": spec}, params={"wait": 60})
    assert answer.status_code < 300, answer.text
    job = serve.finished(answer.json()["id"])
    asked = [{"x": 0.5}, {"x": 11.5}]

    found = predicted(serve, job["id"], {"rows": asked})["predictions"]

    expected = score_numpy(serve, job["id"], tmp_path)(asked)
    for one, same in zip(found, expected, strict=True):
        assert set(one) == {*fields, "warnings"}
        for field in fields:
            if field in ("label", "labels"):
                assert (type(one[field]), one[field]) == (type(same[field]), same[field])
            else:
                assert _flat(one[field]) == pytest.approx(_flat(same[field]), abs=1e-4)
    assert predicted(serve, job["id"], {"rows": asked}, shape="columns")["warnings"] == []


def _flat(value: Any) -> dict[str, float]:
    if not isinstance(value, dict):
        return {"": value}
    return {key + inner: number for key, one in value.items() for inner, number in _flat(one).items()}


def test_a_label_is_said_above_the_threshold_of_the_job(serve: Serve, penguins: str) -> None:
    spec = {"target": "sex", "network": {"hidden": [8]}, "training": {"epochs": 3}}
    labels = {}
    for threshold in (0.001, 0.999):
        training = {"epochs": 3, "threshold": threshold}
        job = serve.finished(serve.submit(penguins, {**spec, "training": training})["id"])
        row = {name: value for name, value in ROW.items() if name != "sex"} | {"species": "Adelie"}
        labels[threshold] = predicted(serve, job["id"], {"rows": [row]})["predictions"][0]["label"]

    assert labels == {0.001: "male", 0.999: "female"}


# --- warnings -----------------------------------------------------------------------------------------------------


def test_what_was_not_learned_is_said_with_what_was_done(serve: Serve, trained: str) -> None:
    row = {name: value for name, value in ROW.items() if name != "body_mass_g"}

    [found] = predicted(serve, trained, {"rows": [row | {"island": "Atlantis", "bill_length_mm": 400}]})["predictions"]

    by_code = {one["code"]: one for one in found["warnings"]}
    assert len(found["warnings"]) == 3
    assert (by_code["missing_column"]["column"], by_code["missing_column"]["policy"]) == ("body_mass_g", "imputed")
    assert 3000 < by_code["missing_column"]["imputed"] < 5000
    assert (by_code["unseen_category"]["column"], by_code["unseen_category"]["policy"]) == ("island", "no_category")
    assert (by_code["out_of_range"]["column"], by_code["out_of_range"]["policy"]) == ("bill_length_mm", "used_as_it_is")
    assert 30 < by_code["out_of_range"]["minimum"] < by_code["out_of_range"]["maximum"] < 60


def test_warnings_are_bounded_and_the_rest_is_counted(serve: Serve, trained: str) -> None:
    rows = [ROW | {"island": "Atlantis", "year": 1900}] * 700

    found = predicted(serve, trained, {"rows": rows})

    assert sum(len(one["warnings"]) for one in found["predictions"]) == 1000
    assert found["omitted_warnings"] == 400


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "pointer", "code"),
    [
        ({"bill_length_mm": "39.1"}, "/rows/1/bill_length_mm", "number_type"),
        ({"bill_length_mm": [39.1]}, "/rows/1/bill_length_mm", "number_type"),
        ({"bill_length_mm": 10**400}, "/rows/1/bill_length_mm", "number_type"),
        ({"sex": {"is": "male"}}, "/rows/1/sex", "category_type"),
        ({"sex": ["male"]}, "/rows/1/sex", "category_type"),
        ({"bill_lenght_mm": 39.1}, "/rows/1/bill_lenght_mm", "unknown_column"),
    ],
)
def test_a_value_that_is_none_of_its_column_is_refused_where_it_stands(
    serve: Serve, trained: str, row: dict[str, Any], pointer: str, code: str
) -> None:
    assert wrong(ask(serve, trained, {"rows": [ROW, ROW | row]})) == {pointer: code}


def test_an_unknown_column_is_told_what_was_meant(serve: Serve, trained: str) -> None:
    answer = ask(serve, trained, {"rows": [ROW | {"bill_lenght_mm": 39.1}]})

    [found] = problem(answer, 422, "invalid_rows")["errors"]
    assert found["suggestion"] == "bill_length_mm"


@pytest.mark.parametrize("value", ["yesterday", "2024-13-01", "2024-01-01T25:00:00Z", True, [], 1e300, "", "٣"])
def test_what_is_no_moment_is_refused(serve: Serve, mixed: str, value: Any) -> None:
    assert wrong(ask(serve, mixed, {"rows": [MIXED_ROWS[0] | {"at": value}]})) == {"/rows/0/at": "datetime_type"}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"rows": []}, {"/rows": "no_rows"}),
        ({"rows": {}}, {"/rows": "list_type"}),
        ({"rows": [[1, 2]]}, {"/rows/0": "dict_type"}),
        ({"rows": [ROW, None]}, {"/rows/1": "dict_type"}),
        ({"rows": [{}]}, {"/rows/0": "empty_row"}),
        ({"row": [ROW]}, {"/row": "unknown_field"}),
        ({"columns": ["sex", "sex"], "rows": [["male", "male"]]}, {"/columns/1": "duplicate_column"}),
        ({"columns": ["sex", "age"], "rows": [["male", 1]]}, {"/columns/1": "unknown_column"}),
        ({"columns": ["sex"], "rows": [["male"], ["male", 1]]}, {"/rows/1": "list_length"}),
        ({"columns": "sex", "rows": [["male"]]}, {"/columns": "list_type"}),
        ({"X": [[1, 2]]}, {"/X": "not_a_matrix"}),
    ],
)
def test_a_body_that_is_no_table_is_refused(serve: Serve, trained: str, body: Any, expected: dict[str, str]) -> None:
    assert wrong(ask(serve, trained, body)) == expected


@pytest.mark.parametrize("body", [[ROW], "rows", 1, {}, {"rows": [ROW], "X": [[1]]}])
def test_a_body_of_another_form_is_refused(serve: Serve, trained: str, body: Any) -> None:
    problem(ask(serve, trained, body), 422, "invalid_rows")


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "malformed_json"),
        (b'{"rows": [{"year": NaN}]}', 400, "malformed_json"),
        (b'{"rows": [{"year": 1e999}]}', 422, "invalid_rows"),
        (b'{"rows": [{"year": 1, "year": 2}]}', 400, "malformed_json"),
        (b'{"rows": [{"sex": "a:b", "year": 1, "year": 2}]}', 400, "malformed_json"),
        (b'{"rows": [{"sex": "\\ud800"}]}', 422, "invalid_text"),
        (b'{"rows": [{"sex": "\\u0000"}]}', 422, "invalid_text"),
        (b'{"rows": [{"sex": "\xff"}]}', 400, "malformed_json"),
        (b'{"rows": ' + b"[" * 500 + b"]" * 500 + b"}", 400, "malformed_json"),
    ],
)
def test_what_is_no_json_is_refused(serve: Serve, trained: str, content: bytes, status: int, code: str) -> None:
    answer = serve.http.post(f"/v1/jobs/{trained}/predict", content=content)

    problem(answer, status, code)


def test_a_line_that_is_no_json_is_named(serve: Serve, trained: str) -> None:
    lines = json.dumps(ROW) + "\n\n{sex: male}\n"

    answer = serve.http.post(
        f"/v1/jobs/{trained}/predict", content=lines, headers={"Content-Type": "application/x-ndjson"}
    )

    [found] = problem(answer, 400, "malformed_json")["errors"]
    assert found["pointer"] == "/rows/1"


def test_more_rows_than_are_accepted_are_413(serve: Serve, trained: str) -> None:
    answer = ask(serve, trained, {"columns": ["sex"], "rows": [["male"]] * 100_001})

    assert problem(answer, 413, "payload_too_large")["limit_rows"] == 100_000


def test_another_media_type_is_415(serve: Serve, trained: str) -> None:
    answer = serve.http.post(f"/v1/jobs/{trained}/predict", content=b"a,b\n", headers={"Content-Type": "text/csv"})

    problem(answer, 415, "unsupported_media_type")


def test_a_job_that_has_not_ended_predicts_nothing(serve: Serve, start_long: Any) -> None:
    job_id = start_long()["id"]

    assert problem(ask(serve, job_id, {"rows": [ROW]}), 409, "job_not_finished")["job_status"] in ("queued", "running")


def test_a_job_without_a_network_says_so(serve: Serve, start_long: Any) -> None:
    job_id = start_long()["id"]
    serve.http.post(f"/v1/jobs/{job_id}/cancel", json={"keep": "none"})
    serve.finished(job_id)

    assert problem(ask(serve, job_id, {"rows": [ROW]}), 409, "no_network")["job_status"] == "cancelled"


def test_another_projects_job_is_as_none(neighbour: Api, trained: str) -> None:
    theirs, random = (ask(neighbour, job_id, {"rows": [ROW]}) for job_id in (trained, RANDOM["job"]))

    problem(theirs, 404, "not_found")
    assert masked(theirs) == masked(random)


# --- many at once -------------------------------------------------------------------------------------------------


def test_threads_that_ask_at_once_get_the_same_answer(serve: Serve, trained: str) -> None:
    expected = ask(serve, trained, {"rows": WITHOUT_WARNINGS}).content

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(serve, trained, {"rows": WITHOUT_WARNINGS}).content, range(64)))

    assert set(answers) == {expected}

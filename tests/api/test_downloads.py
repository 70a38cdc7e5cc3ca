"""Downloads: parts, conditions and digests of files that never change."""

import base64
import hashlib
import io
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.numpy import load

from tests.api.asking import problem
from tests.running import Serve


@pytest.fixture(scope="module")
def path(trained: str) -> str:
    return f"/v1/jobs/{trained}/weights"


@pytest.fixture(scope="module")
def whole(serve: Serve, path: str) -> bytes:
    return bytes(serve.http.get(path).content)


def test_a_file_says_its_digest_its_length_and_that_it_never_changes(serve: Serve, path: str, whole: bytes) -> None:
    headers = serve.http.get(path).headers

    digest = hashlib.sha256(whole)
    assert headers["etag"] == f'"{digest.hexdigest()}"'
    assert headers["repr-digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    assert headers["content-length"] == str(len(whole))
    assert headers["cache-control"] == "private, immutable"
    assert headers["accept-ranges"] == "bytes"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-disposition"] == "attachment; filename*=UTF-8''weights.safetensors"


def test_the_short_way_and_the_list_lead_to_the_same_file(serve: Serve, trained: str, whole: bytes) -> None:
    listed = {one["name"]: one for one in serve.http.get(f"/v1/jobs/{trained}/artifacts").json()["items"]}

    answer = serve.http.get(listed["weights.safetensors"]["links"]["self"])

    assert answer.content == whole
    assert listed["weights.safetensors"]["sha256"] == hashlib.sha256(whole).hexdigest()


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=10-19", 10, 20),
        ("bytes=100-", 100, None),
        ("bytes=0-", 0, None),
        ("bytes=-50", -50, None),
        ("bytes=-999999999", 0, None),
        ("bytes=0-999999999", 0, None),
        ("Bytes=5-9", 5, 10),
    ],
)
def test_a_range_is_a_part(serve: Serve, path: str, whole: bytes, asked: str, start: int, end: int | None) -> None:
    answer = serve.http.get(path, headers={"Range": asked})

    part = whole[start:end]
    first = start % len(whole)
    assert answer.status_code == 206
    assert answer.content == part
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(part) - 1}/{len(whole)}"
    assert answer.headers["content-length"] == str(len(part))


@pytest.mark.parametrize("asked", ["bytes={size}-", "bytes=999999999-", "bytes=-0", "bytes=9-5"])
def test_a_range_outside_is_416(serve: Serve, path: str, whole: bytes, asked: str) -> None:
    answer = serve.http.get(path, headers={"Range": asked.format(size=len(whole))})

    problem(answer, 416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(whole)}"


@pytest.mark.parametrize(
    "asked",
    ["bytes=0-1,3-4", "bytes=" + ",".join(f"{n}-{n}" for n in range(3000)), "bytes=-", "bytes=a-b", "lines=0-5",
     "bytes 0-5", "bytes=0-5;", "", "bytes=--5", "bytes=0x0-0x5", "bytes=1" + "0" * 30 + "-"],
)  # fmt: skip
def test_what_is_no_single_range_is_answered_with_the_whole(serve: Serve, path: str, whole: bytes, asked: str) -> None:
    answer = serve.http.get(path, headers={"Range": asked})

    assert answer.status_code == 200
    assert answer.content == whole


def test_parts_put_together_are_the_whole(serve: Serve, path: str, whole: bytes) -> None:
    step = len(whole) // 7

    parts = [serve.http.get(path, headers={"Range": f"bytes={start}-{start + step - 1}"}).content
             for start in range(0, len(whole), step)]  # fmt: skip

    assert b"".join(parts) == whole


@pytest.mark.parametrize("known", ["{etag}", "W/{etag}", '"other", {etag}', "*"])
def test_who_has_it_already_gets_304(serve: Serve, path: str, known: str) -> None:
    etag = serve.http.head(path).headers["etag"]

    answer = serve.http.get(path, headers={"If-None-Match": known.format(etag=etag)})

    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == etag


def test_who_has_another_gets_the_whole(serve: Serve, path: str, whole: bytes) -> None:
    answer = serve.http.get(path, headers={"If-None-Match": '"other"'})

    assert (answer.status_code, answer.content) == (200, whole)


@pytest.mark.parametrize("asked", ["bytes=0-9", "bytes=999999999-"])
def test_a_range_of_another_version_is_the_whole(serve: Serve, path: str, whole: bytes, asked: str) -> None:
    answer = serve.http.get(path, headers={"Range": asked, "If-Range": '"other"'})

    assert (answer.status_code, answer.content) == (200, whole)


def test_a_range_of_this_version_is_a_part(serve: Serve, path: str, whole: bytes) -> None:
    etag = serve.http.head(path).headers["etag"]

    answer = serve.http.get(path, headers={"Range": "bytes=0-9", "If-Range": etag})

    assert (answer.status_code, answer.content) == (206, whole[:10])


def test_head_is_get_without_the_bytes(serve: Serve, path: str, trained: str) -> None:
    names = [path, f"/v1/jobs/{trained}/artifacts/report.json"]

    pairs = [(serve.http.head(name), serve.http.get(name)) for name in names]

    for head, got in pairs:
        assert (head.status_code, head.content) == (200, b"")
        assert {k: v for k, v in head.headers.items() if k not in ("date", "x-request-id")} == {
            k: v for k, v in got.headers.items() if k not in ("date", "x-request-id")
        }


def test_an_artifact_that_no_job_makes_is_not_found(serve: Serve, trained: str) -> None:
    problem(serve.http.get(f"/v1/jobs/{trained}/artifacts/nothing.bin"), 404, "artifact_not_found")


def test_the_weights_come_for_torch_too(serve: Serve, path: str, trained: str, whole: bytes) -> None:
    answer = serve.http.get(f"{path}?format=pt")

    assert answer.content == serve.artifact(trained, "state_dict.pt")
    opened = torch.load(io.BytesIO(answer.content), weights_only=True)
    weights = load(whole)
    assert {name: tensor.tolist() for name, tensor in opened.items()} == {
        name: tensor.tolist() for name, tensor in weights.items()
    }


def test_the_bundle_has_every_other_artifact_and_two_files_of_its_own(serve: Serve, trained: str) -> None:
    listed = {one["name"]: one for one in serve.http.get(f"/v1/jobs/{trained}/artifacts").json()["items"]}

    bundle = zipfile.ZipFile(io.BytesIO(serve.artifact(trained, "bundle.zip")))

    assert bundle.testzip() is None
    inside = {name: hashlib.sha256(bundle.read(name)).hexdigest() for name in bundle.namelist()}
    others = {name: one["sha256"] for name, one in listed.items() if name not in ("bundle.zip", "state_dict.pt")}
    assert {name: inside[name] for name in others} == others
    assert {*inside} - {*others} == {"README.md", "predict.py"}
    assert {"network.onnx", "network.py", "score_numpy.py", "metrics.csv"} <= {*others}


def test_a_format_that_is_not_there_yet_is_422(serve: Serve, path: str) -> None:
    problem(serve.http.get(f"{path}?format=exe"), 422, "invalid_query")


def test_bytes_that_are_lost_are_an_error_and_not_a_file(serve: Serve, penguins: str, tmp_path: Path) -> None:
    job = serve.finished(serve.submit(penguins, {"target": "species", "training": {"epochs": 1, "seed": 77}})["id"])
    listed = {one["name"]: one for one in serve.http.get(f"/v1/jobs/{job['id']}/artifacts").json()["items"]}
    blob = next((serve.data_dir / "storage").rglob(listed["report.json"]["sha256"]))
    kept = blob.rename(tmp_path / "kept")

    answer = serve.http.get(listed["report.json"]["links"]["self"])

    kept.rename(blob)
    assert answer.status_code in (404, 503)
    problem(answer, answer.status_code, answer.json()["code"])

"""Child processes as a supervisor has them: forked, fenced in, and spoken to by a pipe."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.running import clean_environment, wait_until
from tests.worker.factories import Read, order_for, read, table_text
from worker.ingest.main import IngestOrder
from worker.trainer.messages import ARTIFACTS, MAX_MESSAGE, Logged, Stop, decode, encode

MIB = 1024 * 1024
ROWS_OF_BOMB = 300_000  # of 4,000 letters
SECRETS = {
    "BACKPROPD_DATABASE_URL": "postgresql://user:hunter2@db/x",
    "BACKPROPD_BROKER_URL": "redis://:hunter2@redis",
    "AWS_SECRET_ACCESS_KEY": "hunter2",
    "MY_OWN_TOKEN": "hunter2",
}


class Host:
    """A process that has a forkserver and starts children."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.worker.host"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **SECRETS},
        )

    def ask(self, do: str, **facts: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": do, **facts}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, order: Any, folder: Path, memory: int = 1024 * MIB) -> int:
        return int(self.ask("start", order=order.model_dump_json(), memory=memory, folder=str(folder)))

    def hear(self, pid: int, until: str | None = None, seconds: float = 60.0) -> list[dict[str, Any]]:
        """What the child says, up to its end or the first message of a kind."""
        said: list[dict[str, Any]] = []
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            heard = self.ask("hear", pid=pid, seconds=0.2)
            said += heard["said"]
            if heard["ended"] or any(message["kind"] == until for message in said):
                return said
        raise AssertionError(f"the child neither ended nor said {until} in {seconds} s; it said {said}")

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    running = Host()
    yield running
    running.stop()


@pytest.fixture
def own_host() -> Iterator[Host]:
    running = Host()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Read:
    return read(tmp_path_factory.mktemp("table") / "data", table_text(300))


def _order(folder: Path, table: Read, epochs: int = 3, **changes: Any) -> Any:
    return order_for(folder, table, {"target": "kind", "training": {"epochs": epochs}}, **changes)


def _ingest(folder: Path, file: Path, kind: str = "csv", memory: int = 1024 * MIB, seconds: int = 600) -> IngestOrder:
    folder.mkdir(parents=True)
    limits = {"memory_bytes": memory, "expanded_bytes": 2048 * MIB, "seconds": seconds}
    return IngestOrder.model_validate({"file": str(file), "format": kind, "folder": str(folder), **limits})


def test_a_training_runs_to_its_artifacts_and_ends_cleanly(host: Host, tmp_path: Path, table: Read) -> None:
    pid = host.start(_order(tmp_path / "job", table), tmp_path / "job")

    said = host.hear(pid)

    kinds = [message["kind"] for message in said]
    assert kinds == ["Phase", "Phase", "Logged", "Logged", "Logged", "Phase", "Trained"]
    assert (tmp_path / "job" / ARTIFACTS / "weights.safetensors").exists()
    assert host.ask("bury", pid=pid) == "exit_0"


def test_two_children_make_the_same_bytes(host: Host, tmp_path: Path, table: Read) -> None:
    for name in ("one", "two"):
        pid = host.start(_order(tmp_path / name, table), tmp_path / name)
        assert host.hear(pid)[-1]["kind"] == "Trained"
        host.ask("bury", pid=pid)

    for file in (tmp_path / "one" / ARTIFACTS).iterdir():
        assert file.read_bytes() == (tmp_path / "two" / ARTIFACTS / file.name).read_bytes(), file.name


def test_no_secret_of_the_parent_is_in_its_environment_or_memory_map(host: Host, tmp_path: Path, table: Read) -> None:
    pid = host.start(_order(tmp_path / "job", table, 100_000), tmp_path / "job")
    host.hear(pid, "Logged")

    environment = Path(f"/proc/{pid}/environ").read_bytes()
    of_forkserver = Path(f"/proc/{psutil.Process(pid).ppid()}/environ").read_bytes()

    host.ask("tell", pid=pid, order="cancel")
    host.hear(pid)
    host.ask("bury", pid=pid)
    assert b"hunter2" in Path(f"/proc/{host.process.pid}/environ").read_bytes()
    for found in (environment, of_forkserver):
        assert b"PATH=" in found
        assert b"hunter2" not in found
        assert b"BACKPROPD_" not in found


def test_it_lives_in_limits_of_its_own(host: Host, tmp_path: Path, table: Read) -> None:
    pid = host.start(_order(tmp_path / "job", table, 100_000), tmp_path / "job", memory=700 * MIB)
    host.hear(pid, "Logged")

    limits = Path(f"/proc/{pid}/limits").read_text()
    status = Path(f"/proc/{pid}/status").read_text()
    session, folder = os.getsid(pid), os.readlink(f"/proc/{pid}/cwd")

    host.ask("tell", pid=pid, order="cancel")
    host.hear(pid)
    host.ask("bury", pid=pid)
    address_space = next(line for line in limits.splitlines() if line.startswith("Max address space")).split()
    assert 700 * MIB <= int(address_space[3]) < 20_000 * MIB
    assert "NoNewPrivs:\t1" in status
    assert session == pid
    assert folder == str(tmp_path / "job")


def test_f24_a_job_too_large_for_its_memory_fails_and_does_not_crash(host: Host, tmp_path: Path, table: Read) -> None:
    wide = {"hidden": [8000, 8000]}
    order = order_for(tmp_path / "job", table, {"target": "kind", "network": wide, "training": {"epochs": 1}})
    pid = host.start(order, tmp_path / "job", memory=400 * MIB)

    said = host.hear(pid)

    assert (said[-1]["kind"], said[-1]["problem"]) == ("Failed", "OutOfMemory")
    assert host.ask("bury", pid=pid) == "exit_0"


def test_a_problem_of_the_data_is_said_with_its_facts(host: Host, tmp_path: Path) -> None:
    table = read(tmp_path / "data", "x,y\n" + "".join(f"{row}.5,{row}.25\n" for row in range(20)) + "1,inf\n")
    order = order_for(tmp_path / "job", table, {"target": "y"})
    pid = host.start(order, tmp_path / "job")

    said = host.hear(pid)

    host.ask("bury", pid=pid)
    assert (said[-1]["kind"], said[-1]["problem"]) == ("Failed", "TargetHasInfinity")
    assert said[-1]["facts"] == {"column": "y", "rows": [20]}


def test_a_killed_child_is_an_end_of_the_pipe_with_its_signal(host: Host, tmp_path: Path, table: Read) -> None:
    pid = host.start(_order(tmp_path / "job", table, 100_000), tmp_path / "job")
    host.hear(pid, "Logged")

    os.kill(pid, signal.SIGKILL)

    assert all(message["kind"] != "Trained" for message in host.hear(pid))
    assert host.ask("bury", pid=pid) == "signal_9"


def test_f5_a_child_ends_when_its_supervisor_is_killed(own_host: Host, tmp_path: Path, table: Read) -> None:
    pid = own_host.start(_order(tmp_path / "job", table, 100_000), tmp_path / "job")
    own_host.hear(pid, "Logged")

    own_host.process.kill()
    own_host.process.wait()

    wait_until(lambda: not psutil.pid_exists(pid), 30, "the end of the child")


def test_cancel_keeps_what_was_trained(host: Host, tmp_path: Path, table: Read) -> None:
    pid = host.start(_order(tmp_path / "job", table, 100_000), tmp_path / "job")
    host.hear(pid, "Logged")

    host.ask("tell", pid=pid, order="cancel")
    ending = host.hear(pid)[-1]

    host.ask("bury", pid=pid)
    assert (ending["kind"], ending["stop_reason"]) == ("Trained", "user_cancel")
    report = json.loads((tmp_path / "job" / ARTIFACTS / "report.json").read_text())
    assert 1 <= report["epochs"] < 100_000


def test_drain_leaves_a_checkpoint_to_go_on_from(host: Host, tmp_path: Path, table: Read) -> None:
    pid = host.start(_order(tmp_path / "job", table, 100_000), tmp_path / "job")
    host.hear(pid, "Logged")

    host.ask("tell", pid=pid, order="drain")
    *_, written, ending = host.hear(pid)

    host.ask("bury", pid=pid)
    assert (written["kind"], ending["kind"]) == ("CheckpointWritten", "Drained")
    files = sorted(file.name for file in (tmp_path / "job" / written["folder"]).iterdir())
    assert files == ["best.safetensors", "state.json", "state.safetensors"]


def test_a_message_is_json_and_never_holds_nan() -> None:
    message = Logged("epoch", {"epoch": 1, "train_loss": 0.5})

    assert json.loads(encode(message))["kind"] == "Logged"
    assert decode(encode(message)) == message
    assert decode(encode(Stop("drain"))) == Stop("drain")
    with pytest.raises(ValueError, match="JSON"):
        encode(Logged("epoch", {"train_loss": float("nan")}))


def test_a_message_over_the_cap_ends_the_conversation(own_host: Host, tmp_path: Path, table: Read) -> None:
    own_host.ask("cap", bytes=500)
    names = ",".join(f"a long name of a column {place}" for place in range(100))
    (tmp_path / "wide.csv").write_text(f"{names}\n{','.join('x' * 100)}\n")
    pid = own_host.start(_ingest(tmp_path / "ingest", tmp_path / "wide.csv"), tmp_path / "ingest")

    said = own_host.hear(pid)

    own_host.ask("bury", pid=pid)
    assert {message["kind"] for message in said} == {"Phase"}, said
    assert MAX_MESSAGE == 64 * MIB


def test_ingest_reads_a_table_in_a_child(host: Host, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a,b\n1,x\n2,y\n")
    pid = host.start(_ingest(tmp_path / "ingest", tmp_path / "table.csv"), tmp_path / "ingest")

    ending = host.hear(pid)[-1]

    assert (ending["kind"], ending["rows"]) == ("Ingested", 2)
    assert host.ask("bury", pid=pid) == "exit_0"


def test_an_unreadable_table_is_a_problem_and_no_crash(host: Host, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a,b\n1,x\n2\n")
    pid = host.start(_ingest(tmp_path / "ingest", tmp_path / "table.csv"), tmp_path / "ingest")

    ending = host.hear(pid)[-1]

    assert (ending["kind"], ending["problem"], ending["facts"]["row"]) == ("Failed", "CsvMalformed", 3)
    assert host.ask("bury", pid=pid) == "exit_0"


def test_a_file_of_200_mb_is_read_in_bounded_memory(host: Host, tmp_path: Path) -> None:
    block = "".join(f"{row / 7!r},{row / 11!r},{row / 13!r},{row / 17!r},{row},k{row % 11}\n" for row in range(50_000))
    with (tmp_path / "large.csv").open("w") as file:
        file.write("a,b,c,d,n,k\n")
        while file.tell() < 200 * MIB:
            file.write(block)
    rows = (file_rows := (tmp_path / "large.csv").stat().st_size // len(block)) * 50_000
    assert file_rows > 40
    pid = host.start(_ingest(tmp_path / "ingest", tmp_path / "large.csv"), tmp_path / "ingest", memory=1024 * MIB)

    said: list[dict[str, Any]] = []
    peak = 0
    while not said or said[-1]["kind"] == "Phase":
        status = Path(f"/proc/{pid}/status").read_text()
        peak = max(peak, int(status.split("VmHWM:")[1].split()[0]) // 1024)
        said += host.ask("hear", pid=pid, seconds=0.1)["said"]

    assert (said[-1]["kind"], said[-1]["rows"]) == ("Ingested", rows)
    assert peak < 1000
    assert host.ask("bury", pid=pid) == "exit_0"


def test_a_table_that_takes_too_long_is_cut_off(host: Host, tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text("a,b\n" + "".join(f"{row / 7!r},k{row}\n" for row in range(2_000_000)))
    pid = host.start(_ingest(tmp_path / "ingest", tmp_path / "long.csv", seconds=1), tmp_path / "ingest")

    said = host.hear(pid)

    assert {message["kind"] for message in said} == {"Phase"}, said
    assert host.ask("bury", pid=pid) in ("signal_9", "signal_24")


def test_a_bomb_is_refused_before_it_is_unpacked(host: Host, tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w") as member,
    ):
        for _ in range(100):
            member.write(bytes(MIB))
    assert (tmp_path / "bomb.npz").stat().st_size < MIB
    order = _ingest(tmp_path / "ingest", tmp_path / "bomb.npz", "npz").model_copy(update={"expanded_bytes": 64 * MIB})
    pid = host.start(order, tmp_path / "ingest")

    ending = host.hear(pid)[-1]

    assert (ending["kind"], ending["problem"]) == ("Failed", "DatasetTooLarge")
    assert sum(path.stat().st_size for path in (tmp_path / "ingest").rglob("*") if path.is_file()) == 0
    assert host.ask("bury", pid=pid) == "exit_0"


def test_the_forkserver_keeps_no_more_in_memory_than_its_children_need(
    own_host: Host, tmp_path: Path, table: Read
) -> None:
    """Of 130 MB of libraries that loading torch and scikit-learn touches, little stays mapped; pandas is not there."""
    pid = own_host.start(_order(tmp_path / "job", table), tmp_path / "job")
    maps = psutil.Process(psutil.Process(pid).ppid()).memory_maps(grouped=True)
    own_host.hear(pid)

    assert any("libtorch_cpu" in one.path for one in maps)
    assert sum(one.rss - one.anonymous for one in maps if one.path.startswith("/")) < 40 * MIB
    assert not [one.path for one in maps if "/pandas/" in one.path]


def test_a_bomb_of_parquet_ends_within_its_memory(host: Host, tmp_path: Path) -> None:
    text = pa.array(["x" * 4000 + str(place) for place in range(10)])
    column = pa.DictionaryArray.from_arrays(pa.array([row % 10 for row in range(ROWS_OF_BOMB)], pa.int32()), text)
    pq.write_table(pa.table({"x": column, "y": pa.array(range(ROWS_OF_BOMB))}), tmp_path / "bomb.parquet")
    assert (tmp_path / "bomb.parquet").stat().st_size < 8 * MIB  # and 1.2 GB as texts
    order = _ingest(tmp_path / "ingest", tmp_path / "bomb.parquet", "parquet", memory=512 * MIB)
    pid = host.start(order, tmp_path / "ingest")

    said: list[dict[str, Any]] = []
    peak = 0
    while not said or said[-1]["kind"] == "Phase":
        with suppress(FileNotFoundError, IndexError):
            peak = max(peak, int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0]) // 1024)
        heard = host.ask("hear", pid=pid, seconds=0.1)
        said += heard["said"]
        assert not heard["ended"] or said[-1]["kind"] != "Phase", "the reader died"

    assert said[-1]["kind"] in ("Ingested", "Failed")
    assert said[-1].get("problem") in (None, "DatasetTooLarge")
    assert peak < 1024
    assert host.ask("bury", pid=pid) == "exit_0"


def test_a_worker_whose_temporary_folder_has_too_long_a_name_says_so_and_ends(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    variables = {"TMPDIR": str(folder), "BACKPROPD_DATABASE_URL": f"sqlite:///{tmp_path / 'none.sqlite3'}"}

    ended = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "worker.app", "worker"],
        env=clean_environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 1
    assert "name a shorter one" in ended.stderr

"""The page that works backpropagation out by hand is true: its commands run, and each of its numbers is checked three
times, against the answer of the server, against plain arithmetic, and against the formula that it stands beside."""

import json
import math
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from core.resolve.trace import MAX_NUMBERS
from tests.running import Serve, clean_environment

PAGE = (Path(__file__).parent.parent / "docs" / "backpropagation.md").read_text()
FORMULAS = [
    line for block in re.findall(r"^```text\n(.*?)^```", PAGE, re.M | re.S) for line in block.splitlines() if line
]
DIGITS = 5.1e-5  # half of the last one that is shown
LAST_DIGIT = 2e-4  # what a formula may be off by, for its numbers are rounded


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def by_hand() -> dict[str, float]:
    """Every quantity of the page, in plain Python."""
    x1, x2, y = 0.5, 1.0, 0.0
    w11, w12, w21, w22, b1, b2, v1, v2, c = 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0
    z1, z2 = w11 * x1 + w12 * x2 + b1, w21 * x1 + w22 * x2 + b2
    h1, h2 = sigmoid(z1), sigmoid(z2)
    z = v1 * h1 + v2 * h2 + c
    p = sigmoid(z)
    of_z = p - y
    of_h1, of_h2 = of_z * v1, of_z * v2
    of_z1, of_z2 = of_h1 * h1 * (1 - h1), of_h2 * h2 * (1 - h2)
    weights = {"w11": w11, "w12": w12, "w21": w21, "w22": w22, "b1": b1, "b2": b2, "v1": v1, "v2": v2, "c": c}
    gradients = {
        "w11": of_z1 * x1,
        "w12": of_z1 * x2,
        "w21": of_z2 * x1,
        "w22": of_z2 * x2,
        "b1": of_z1,
        "b2": of_z2,
        "v1": of_z * h1,
        "v2": of_z * h2,
        "c": of_z,
    }
    new = {name: weights[name] - 0.5 * gradients[name] for name in weights}
    new_h1 = sigmoid(new["w11"] * x1 + new["w12"] * x2 + new["b1"])
    new_h2 = sigmoid(new["w21"] * x1 + new["w22"] * x2 + new["b2"])
    new_p = sigmoid(new["v1"] * new_h1 + new["v2"] * new_h2 + new["c"])
    return {
        **{"x1": x1, "x2": x2, "y": y, **weights},
        **{"z1": z1, "h1": h1, "z2": z2, "h2": h2, "z": z, "p": p, "L": -math.log(1 - p)},
        **{"∂L/∂z": of_z, "∂L/∂h1": of_h1, "∂L/∂h2": of_h2, "∂L/∂z1": of_z1, "∂L/∂z2": of_z2},
        **{f"∂L/∂{name}": value for name, value in gradients.items()},
        **{f"{name}'": value for name, value in new.items()},
        **{"h1'": new_h1, "h2'": new_h2, "p'": new_p, "L'": -math.log(1 - new_p)},
    }


def by_the_server(trace: dict[str, Any]) -> dict[str, float]:
    """The same quantities of a trace; all but those of the second pass, which nobody asked it for."""
    hidden, output = trace["forward"]
    gradients, update = trace["backward"]["parameters"], trace["update"]["parameters"]
    [below] = trace["backward"]["layers"]
    [inputs] = trace["inputs"]

    def named(of: dict[str, Any], pattern: str) -> dict[str, float]:
        [[w11, w12], [w21, w22]] = of["0.weight"]
        [b1, b2], [[v1, v2]], [c] = of["0.bias"], of["2.weight"], of["2.bias"]
        found = {"w11": w11, "w12": w12, "w21": w21, "w22": w22, "b1": b1, "b2": b2, "v1": v1, "v2": v2, "c": c}
        return {pattern.format(name): value for name, value in found.items()}

    names = ("z1", "z2"), ("h1", "h2")
    return {
        **inputs,
        "y": trace["target"][0][0],
        **dict(zip(names[0], hidden["pre_activations"][0], strict=True)),
        **dict(zip(names[1], hidden["activations"][0], strict=True)),
        "z": output["pre_activations"][0][0],
        "p": trace["predictions"][0][0],
        "L": trace["loss"]["mean"],
        "∂L/∂z": trace["backward"]["logits"][0][0],
        **{f"∂L/∂{name}": value for name, value in zip(names[0], below["pre_activations"][0], strict=True)},
        **{f"∂L/∂{name}": value for name, value in zip(names[1], below["activations"][0], strict=True)},
        **named({name: moved["before"] for name, moved in update.items()}, "{}"),
        **named(gradients, "∂L/∂{}"),
        **named({name: moved["after"] for name, moved in update.items()}, "{}'"),
    }


# --- the formulas -------------------------------------------------------------------------------------------------


def value_of(expression: str, known: dict[str, float]) -> float:
    """A formula as it is printed, with names for known quantities."""
    text = expression.replace("×", "*").replace("σ", "sigmoid").replace("ln", "log")  # noqa: RUF001 - as on the page
    for name in sorted(known, key=len, reverse=True):
        text = re.sub(rf"(?<![\w∂]){re.escape(name)}(?![\w'])", f"({known[name]!r})", text)
    assert not re.search(r"[^-\d+*/()., e]", re.sub("sigmoid|log|exp", "", text)), f"{expression} became {text}"
    return float(eval(text, {"__builtins__": {}}, {"sigmoid": sigmoid, "log": math.log, "exp": math.exp}))


def test_every_formula_gives_the_number_beside_it() -> None:
    known = by_hand()

    for line in FORMULAS:
        name, *expressions, shown = (part.strip() for part in line.split(" = "))
        assert float(shown) == pytest.approx(known[name], abs=DIGITS), line
        assert len(expressions) >= 1, line
        for expression in expressions:
            assert value_of(expression, known) == pytest.approx(known[name], abs=LAST_DIGIT), line


def test_every_quantity_is_worked_out_on_the_page() -> None:
    worked_out = {line.split(" = ")[0].strip() for line in FORMULAS}
    given = {"x1", "x2", "y", "w11", "w12", "w21", "w22", "b1", "b2", "v1", "v2", "c"}

    assert worked_out == set(by_hand()) - given


def test_a_wrong_number_would_be_found() -> None:
    known = by_hand()

    assert value_of("∂L/∂z1 * x1", known) != pytest.approx(value_of("∂L/∂z2 * x1", known), abs=LAST_DIGIT)
    assert value_of("w11' - w11", known) == pytest.approx(-0.5 * known["∂L/∂w11"])


def test_the_prose_says_the_same() -> None:
    [share], [limit] = re.findall(r"says (\d+) %", PAGE), re.findall(r"at most ([\d,]+) numbers", PAGE)

    assert int(share) == round(100 * by_hand()["p"])
    assert int(limit.replace(",", "")) == MAX_NUMBERS


# --- the commands -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """What each block of commands printed when all ran in one shell, and the folder where they ran."""
    folder = tmp_path_factory.mktemp("page")
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE, re.M | re.S)
    script = "\n".join(
        f"echo '--- block'\n{block}\ncp trace.json {place}.json || true" for place, block in enumerate(blocks)
    )
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script],
        cwd=folder,
        env=clean_environment(BACKPROPD_URL=serve.url, BACKPROPD_API_KEY=serve.key),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout.split("--- block\n")[1:], folder


def test_each_command_prints_what_stands_below_it(ran: tuple[list[str], Path]) -> None:
    parts = re.findall(r"^```(bash|json)\n(.*?)^```", PAGE, re.M | re.S)
    printed = iter(ran[0])
    compared = 0

    said = ""
    for kind, block in parts:
        if kind == "bash":
            said = next(printed)
        else:
            assert same(json.loads(said.splitlines()[-1]), json.loads(block)), f"{said}\n{block}"
            compared += 1

    assert compared == 6


def same(found: Any, shown: Any) -> bool:
    """Equal, but for the last digit of a number that another CPU may round otherwise."""
    if isinstance(shown, dict):
        return [*found] == [*shown] and all(same(found[name], shown[name]) for name in shown)
    if isinstance(shown, list):
        return len(found) == len(shown) and all(map(same, found, shown))
    if isinstance(shown, float):
        return isinstance(found, float) and abs(found - shown) < 1.01e-4
    return bool(found == shown)


def test_the_server_computes_what_the_hand_does(ran: tuple[list[str], Path]) -> None:
    trace = json.loads((ran[1] / "1.json").read_text())["trace"]

    found, expected = by_the_server(trace), by_hand()

    assert set(expected) - set(found) == {"h1'", "h2'", "p'", "L'"}
    assert found == pytest.approx({name: expected[name] for name in found}, abs=1e-6)


def test_the_job_ends_as_the_page_says(ran: tuple[list[str], Path]) -> None:
    job = json.loads((ran[1] / "job.json").read_text())
    kept = json.loads((ran[1] / "trace.json").read_text())["trace"]

    assert (job["status"], job["stop_reason"]) == ("succeeded", "target_reached")
    assert job["progress"]["epoch"] < 300
    assert kept["rows"] == [0, 1, 2, 3]
    assert kept["loss"]["mean"] < 0.1

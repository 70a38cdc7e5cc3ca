"""Writes the pages that are a function of the code: defaults, configuration, errors. `make docs` runs it.

A test compares each page with what this module says, so a change of the code without its page fails the build.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from core import errors
from core.profile import Column
from core.resolve import resolve
from core.spec import TrainingSpec
from core.spec.activations import ACTIVATION_SYNONYMS
from core.spec.initializers import INITIALIZER_SYNONYMS
from core.spec.losses import LOSS_SYNONYMS
from core.spec.metrics import METRIC_SYNONYMS, MONITORS
from core.spec.optimizers import OPTIMIZER_SYNONYMS
from core.spec.schedules import SCHEDULE_SYNONYMS
from core.spec.training import LOSS_MONITOR_SYNONYMS, PRECISION_SYNONYMS
from standalone.configuration import HIDDEN, as_markdown

HERE = Path(__file__).parent
NOTE = "<!-- Written by docs/generate.py (`make docs`). Do not edit by hand. -->\n"
Schema = dict[str, Any]


# --- defaults -----------------------------------------------------------------------------------------------------


def defaults_page() -> str:
    """`docs/defaults.md`: every field of spec version 1."""
    schema = TrainingSpec.model_json_schema(mode="serialization")  # of our own words alone, without synonyms
    models = schema["$defs"]
    fields = [
        (f"`{path}`", field["shown"], _accepts(field, models), field.get("description", ""))
        for path, field in _fields(schema, "", models, set())
    ]
    return f"""{NOTE}
# Every default of spec version 1

The smallest spec is `{{"target": "species"}}`. Everything else has a default, and `version: 1` fixes all of them for
ever once it is released: better defaults will be version 2. Until the first release a change edits this page.

A path is a JSON Pointer (RFC 6901) into the spec; `*` stands for any name or position, and `{{name: sgd}}` for the
object that has that name. Where the default is `null`, the server settles the value from the dataset or does without;
`resolved_spec` of the job shows which. What has a name takes the bare name as well: `"adam"` is `{{"name": "adam"}}`.
The fields of such an object stand where it comes first: those of an activation at `/network/layers`. Unknown fields
are refused.

{_table(("path", "default", "accepts", "meaning"), fields)}

## Names of other libraries

They are accepted as values and written in our words in the resolved spec. As a `monitor`, a metric without `train_` or
`valid_` is of the training rows and one with `val_` of the validation rows, as in Keras: `val_acc` is `valid_accuracy`.

{_synonyms()}

## What the defaults become

`resolved_spec` of the spec `{{"target": "y"}}`, on a table with a number `a` and a category `b`.

Where `y` is a text of three values:

{_fenced(_resolved("category", ["low", "mid", "high"]))}

Where `y` is a number, these sections differ:

{_fenced(_difference(_resolved("number", None), _resolved("category", ["low", "mid", "high"])))}

Not fields, and just as fixed: weights begin Glorot uniform and biases at zero; preprocessing is fitted on the training
rows only, and what each column becomes stands in [features.md](features.md), with every rule, default and formula.
"""


def _fields(schema: Schema, path: str, models: Schema, shown: set[str]) -> Iterator[tuple[str, Schema]]:
    """Every field below `path`, in the order of the classes. A part of the spec is walked into where it comes first."""
    for name, field in schema["properties"].items():
        here = f"{path}/{name}"
        own = dict(field)
        if "const" in field:
            own["shown"] = f"`{json.dumps(field['const'])}`" if "default" in field else "required"
        elif name in schema.get("required", ()):
            own["shown"] = "required"
        elif "$ref" in field:
            own["shown"] = "by its fields"
        else:
            own["shown"] = f"`{json.dumps(_named(field.get('default')))}`"
        if not _is_tag(name, path):
            yield here, own
        for suffix, part in _parts(field):
            if part not in shown and "properties" in models[part]:
                shown.add(part)
                yield from _fields(models[part], here + suffix, models, shown)


def _is_tag(name: str, path: str) -> bool:
    """The `name` or `type` that tells one form of a part from another stands in the path already."""
    return name in ("name", "type") and path.endswith("}")


def _choices(field: Schema) -> list[Schema]:
    """The forms of JSON that a field takes."""
    forms = field.get("anyOf") or ([] if "discriminator" in field else field.get("oneOf")) or []
    return [choice for form in forms for choice in _choices(form)] or [field]


def _parts(field: Schema) -> Iterator[tuple[str, str]]:
    """The parts of a spec that a field holds: what to add to its path, and their names."""
    for choice in _choices(field):
        if "$ref" in choice:
            yield "", _model(choice)
        elif choice.get("type") == "array" and "items" in choice:
            yield from (("/*" + suffix, part) for suffix, part in _parts(choice["items"]))
        elif isinstance(choice.get("additionalProperties"), dict):
            yield from (("/*" + suffix, part) for suffix, part in _parts(choice["additionalProperties"]))
        elif "discriminator" in choice:
            tag, names = choice["discriminator"]["propertyName"], choice["discriminator"]["mapping"]
            forms: dict[str, list[str]] = {}
            for name, reference in names.items():
                forms.setdefault(_model({"$ref": reference}), []).append(name)
            yield from ((f"{{{tag}: {' or '.join(values)}}}", part) for part, values in forms.items())


def _model(reference: Schema) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


def _named(default: Any) -> Any:
    """A part that has a name is shown by it: its other fields have lines of their own."""
    return default["name"] if isinstance(default, dict) and "name" in default else default


def _accepts(field: Schema, models: Schema) -> str:
    found = [_accepted(choice, models) for choice in _choices(field)]
    return ", ".join(dict.fromkeys(text for text in found if text))


def _accepted(choice: Schema, models: Schema) -> str:
    if "const" in choice:
        return f"`{choice['const']}`"
    if choice.get("enum") == MONITORS:
        return "`train_` or `valid_`, then `loss` or the name of a metric"
    if "enum" in choice:
        return " ".join(f"`{value}`" for value in choice["enum"])
    if "discriminator" in choice:
        return " ".join(f"`{value}`" for value in choice["discriminator"]["mapping"])
    if "$ref" in choice:
        return "an object"
    match choice["type"]:
        case "array" if "prefixItems" in choice:
            return f"{len(choice['prefixItems'])} numbers, each {_range(choice['prefixItems'][0])}"
        case "array":
            most = f" of at most {choice['maxItems']}" if "maxItems" in choice else ""
            items = choice["items"]
            kind = _accepts(items, models)
            return (
                f"a list{most}: {kind}" if "discriminator" in items or "enum" in items else f"a list{most}, each {kind}"
            )
        case "object":
            values = choice["additionalProperties"]
            return (
                "an object by column name" if "$ref" in values else f"an object by class: {_accepted(values, models)}"
            )
        case "boolean":
            return "`true` `false`"
        case "string":
            most = f", at most {choice['maxLength']} characters" if "maxLength" in choice else ""
            return "a text" + most
        case "null":
            return ""
        case kind:
            return f"{'an integer' if kind == 'integer' else 'a number'} {_range(choice)}".rstrip()


def _range(choice: Schema) -> str:
    least = choice.get("minimum", choice.get("ge"))
    most = choice.get("maximum", choice.get("le"))
    above = choice.get("exclusiveMinimum", choice.get("gt"))
    below = choice.get("exclusiveMaximum", choice.get("lt"))
    found = [
        f"{word} {limit:,g}" if isinstance(limit, float) else f"{word} {limit:,}"
        for word, limit in (("from", least), ("above", above), ("to", most), ("below", below))
        if limit is not None
    ]
    return " ".join(found)


def _synonyms() -> str:
    tables = {
        "activation": ACTIVATION_SYNONYMS | {"Softmax": "softmax"},
        "initializer": INITIALIZER_SYNONYMS,
        "loss": LOSS_SYNONYMS,
        "optimizer": OPTIMIZER_SYNONYMS,
        "schedule": SCHEDULE_SYNONYMS,
        "metric": METRIC_SYNONYMS,
        "loss of `monitor`": LOSS_MONITOR_SYNONYMS,
        "precision": PRECISION_SYNONYMS,
    }
    rows = []
    for kind, synonyms in tables.items():
        for ours in dict.fromkeys(synonyms.values()):
            theirs = " ".join(f"`{one}`" for one, canonical in synonyms.items() if canonical == ours)
            rows.append((kind, f"`{ours}`", theirs))
    return _table(("of", "our word", "theirs"), rows)


def _resolved(target_type: str, values: list[Any] | None) -> Any:
    columns = [
        Column(name="a", type="number", missing=0, distinct=90, number_row=0),
        Column(name="b", type="category", missing=0, distinct=2, values=["no", "yes"], counts=[50, 50], code_row=0),
        Column.model_validate(
            {"name": "y", "type": target_type, "missing": 0, "distinct": 90, "values": values}
            | ({"code_row": 1, "distinct": len(values)} if values else {"number_row": 1})
        ),
    ]
    return resolve(TrainingSpec(target="y"), columns, 100).spec.model_dump(mode="json")


def _difference(found: Any, other: Any) -> Any:
    """What of `found` is not in `other`."""
    if isinstance(found, dict) and isinstance(other, dict):
        return {name: _difference(value, other.get(name)) for name, value in found.items() if value != other.get(name)}
    return found


def _fenced(value: Any) -> str:
    return f"```json\n{json.dumps(value, indent=2)}\n```"


# --- configuration --------------------------------------------------------------------------------------------------


def configuration_page() -> str:
    """`docs/configuration.md`: every setting of the operator."""
    hidden = " and ".join(f"`BACKPROPD_{name.upper()}`" for name in sorted(HIDDEN))
    return f"""{NOTE}
# Configuration

What the operator chooses comes from environment variables alone; what the user chooses for a job belongs to the spec.
`backpropd config` shows the values in force, with secrets masked.

{as_markdown()}
{hidden} are set by `backpropd serve` for its own worker; leave them alone.

`backpropd serve` points database, broker and storage into its data folder; a variable that is set wins. The
credentials of S3 come from the usual `AWS_*` variables (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`,
`AWS_ENDPOINT_URL`).
"""


# --- errors ---------------------------------------------------------------------------------------------------------


def errors_page() -> str:
    """`docs/errors.md`: every code that a client can meet."""
    codes = [(f"`{one.code}`", str(one.status), one.title()) for one in errors.every_problem()]
    return f"""{NOTE}
# Error codes

Every error is `application/problem+json` (RFC 9457). `code` is stable and is what a program should look at; `type` ends
in it; `detail` says what happened this time; further members carry the facts of that code.

```json
{{
  "type": "/errors/invalid_spec",
  "title": "The body was understood, but parts of it are not acceptable.",
  "status": 422,
  "detail": "The body was understood, but parts of it are not acceptable.",
  "code": "invalid_spec",
  "request_id": "req_01m85a3kk4e8s8gjk94n6a8xfv",
  "errors": [
    {{
      "pointer": "/spec/traning",
      "code": "unknown_field",
      "message": "There is no such field.",
      "suggestion": "training"
    }}
  ]
}}
```

The same codes stand in `error.code` of a failed job and of an invalid dataset; there the status says nothing. Values of
the input are never shown; keys are, up to 64 characters.

400 cannot be parsed, 401 no valid key, 403 the key may not, 404 not there or another project's, 409 the state forbids
it, 413 too many bytes, 415 media type, 422 parsed and not acceptable, 503 try again (`Retry-After`), 507 storage full.

{_table(("code", "status", "sentence"), codes)}
"""


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


PAGES: dict[str, Callable[[], str]] = {
    "defaults.md": defaults_page,
    "configuration.md": configuration_page,
    "errors.md": errors_page,
}


def main() -> None:
    for name, page in PAGES.items():
        (HERE / name).write_text(page())


if __name__ == "__main__":
    main()

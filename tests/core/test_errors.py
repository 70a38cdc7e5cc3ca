"""One tree of errors: each is complete."""

import re

import pytest

from core import errors
from core.errors import Problem, every_problem

EVERY = every_problem()


@pytest.mark.parametrize("problem", EVERY, ids=lambda problem: problem.__name__)
def test_every_problem_has_a_sentence_of_its_own_a_code_and_a_status(problem: type[Problem]) -> None:
    assert problem.__doc__ is not None, "an inherited sentence would say something else"
    assert problem.title().endswith("."), problem.title()
    assert problem.title()[0].isupper()
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", problem.code)
    assert problem.status in {400, 401, 403, 404, 405, 406, 409, 413, 415, 416, 422, 429, 500, 503, 507}


def test_codes_are_unique() -> None:
    codes = [problem.code for problem in EVERY]

    assert len(set(codes)) == len(codes)
    assert len(EVERY) == len(set(EVERY)) > 50


def test_sentences_are_unique() -> None:
    titles = [problem.title() for problem in EVERY]

    assert len(set(titles)) == len(titles)


def test_the_code_is_the_name_in_lower_snake() -> None:
    assert errors.DatasetTooSmall.code == "dataset_too_small"
    assert errors.CsvMalformed.code == "csv_malformed"


def test_the_sentence_is_the_message_unless_a_better_one_is_given() -> None:
    assert errors.Diverged().detail == errors.Diverged.title()
    assert errors.Diverged("At epoch 3.").detail == "At epoch 3."


def test_an_error_of_a_job_holds_code_message_and_facts() -> None:
    problem = errors.WorkerCrashed(cause="SIGSEGV")

    assert problem.as_error() == {
        "code": "worker_crashed",
        "message": errors.WorkerCrashed.title(),
        "cause": "SIGSEGV",
    }


def test_data_at_fault_is_one_code_with_the_finer_one_as_its_reason() -> None:
    problem = errors.TargetNotNumeric(column="species")

    found = problem.as_error()

    assert (problem.code, found["code"], found["reason"]) == (
        "target_not_numeric",
        "data_invalid",
        "target_not_numeric",
    )
    assert found["column"] == "species"


def test_errors_of_fields_are_kept() -> None:
    fields = [{"pointer": "/target", "code": "x", "message": "y"}]

    assert errors.TargetNotFound(errors=fields).as_error()["errors"] == fields


def test_what_may_be_tried_again_says_when() -> None:
    assert errors.Unavailable().headers == {"Retry-After": "2"}

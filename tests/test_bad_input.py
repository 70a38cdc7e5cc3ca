"""Every row of the matrix of bad tables, and the tests that show what becomes of it.

The matrix is part 5a of the project's list of faults, as its rulings have it: a table is refused only where it cannot
be read; what cannot be trained on is said by the job; what is merely odd is read, with a warning.
"""

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROWS: dict[str, list[str]] = {
    "no or an unknown Content-Type and no telling name; a zip; Content-Encoding: 415, saying how to send it": [
        "api/test_intake.py::test_what_is_not_known_says_how_to_send_it_right",
        "api/test_intake.py::test_a_content_encoding_says_how_to_send_it_right",
    ],
    "a body over the cap, by its length or while it streams: 413, connection closed, nothing left": [
        "api/test_datasets.py::test_a_file_over_the_cap_is_refused_by_its_stated_length",
        "api/test_datasets.py::test_a_file_over_the_cap_is_refused_while_it_arrives_and_nothing_is_left",
        "api/test_datasets.py::test_a_file_of_exactly_the_cap_is_taken",
    ],
    "a body that ends early or has another length: 400 or closed, nothing stored": [
        "api/test_datasets.py::test_a_client_that_hangs_up_in_mid_upload_leaves_nothing",
        "api/test_wire.py::test_a_request_that_two_readers_would_read_differently_is_refused",
    ],
    "another digest than was stated: 422": [
        "api/test_intake.py::test_a_body_that_is_not_is_refused_and_nothing_is_stored",
        "api/test_intake.py::test_a_digest_that_is_none_is_refused",
    ],
    "an empty body, or white space; a header alone: 422": [
        "api/test_datasets.py::test_an_unreadable_table_says_why_and_stays_invalid",
        "worker/test_ingest_csv.py::test_an_unreadable_file_is_refused_with_the_place",
        "worker/test_ingest_parquet.py::test_no_rows_and_no_bytes_are_said",
    ],
    "more rows, columns or cells than are accepted, by the footer and counted again: 422": [
        "worker/test_ingest_profile.py::test_a_table_over_the_limits_is_refused",
        "worker/test_ingest_parquet.py::test_a_footer_that_promises_too_many_cells_is_refused_unread",
    ],
    "a bomb of Parquet, zip, gzip, NPZ or XLSX: 422, in bounded memory": [
        "worker/test_child.py::test_a_bomb_is_refused_before_it_is_unpacked",
        "worker/test_child.py::test_a_bomb_of_parquet_ends_within_its_memory",
        "worker/test_ingest_dialect.py::test_a_bomb_is_refused_at_its_cap",
        "worker/test_ingest_npy.py::test_a_bomb_is_refused_before_it_is_unpacked",
        "worker/test_ingest_npy.py::test_a_zip_that_lies_of_its_sizes_is_refused",
        "worker/test_ingest_xlsx.py::test_a_bomb_is_refused_by_what_it_would_hold",
        "worker/test_ingest_xlsx.py::test_a_cell_in_the_last_corner_is_refused_before_all_others_are_allocated",
    ],
    "a line or field over 1 MiB; a ragged row; an open quotation mark; NUL: 422 with the place": [
        "api/test_datasets.py::test_an_unreadable_table_says_why_and_stays_invalid",
        "worker/test_ingest_csv.py::test_an_unreadable_file_is_refused_with_the_place",
    ],
    "a byte order mark: no part of a name": [
        "worker/test_ingest_csv.py::test_a_byte_order_mark_is_no_part_of_a_name",
        "api/test_datasets.py::test_a_form_is_taken_by_its_files_type_or_name",
    ],
    "UTF-16, Latin-1: read, and said in `dialect`; two encodings in one file: 422 with the offset": [
        "worker/test_ingest_dialect.py::test_the_encoding_is_found_and_said",
        "worker/test_ingest_dialect.py::test_what_a_named_encoding_does_not_have_is_refused_with_its_place",
        "worker/test_ingest_csv.py::test_an_unreadable_file_is_refused_with_the_place",
    ],
    "CRLF and quoted line ends: read; CR alone is what an old Mac wrote and read too, but no two ends in one file": [
        "worker/test_ingest_csv.py::test_each_way_to_end_a_line_is_read",
        "worker/test_ingest_csv.py::test_quoted_newlines_delimiters_and_quotes_are_text",
        "worker/test_ingest_csv.py::test_a_file_that_mixes_line_ends_says_so",
    ],
    "names that are the same after NFC and trimming, or empty: 422": [
        "worker/test_ingest_csv.py::test_an_unreadable_file_is_refused_with_the_place",
        "worker/test_ingest_parquet.py::test_the_same_name_twice_is_refused",
        "worker/test_ingest_arrow.py::test_a_name_twice_and_no_rows_are_said",
    ],
    "odd names: data up to 256 characters without control characters, else 422": [
        "worker/test_ingest_csv.py::test_odd_names_are_names",
        "api/test_datasets.py::test_any_column_name_without_control_characters_is_data",
        "api/test_datasets.py::test_an_unreadable_table_says_why_and_stays_invalid",
    ],
    "a target that is not there: 422": [
        "api/test_jobs.py::test_a_target_that_is_not_there_is_422",
        "core/test_resolve.py::test_an_unknown_target_is_refused_with_the_nearest_name",
    ],
    "missing values, and a column of nothing else: read, with warnings; a row without a target is none": [
        "worker/test_ingest_profile.py::test_empty_and_constant_columns_are_said",
        "core/test_resolve.py::test_an_empty_column_is_left_out_with_a_warning",
        "worker/test_trainer_preprocessing.py::test_a_missing_number_becomes_the_median",
        "worker/test_trainer_preprocessing.py::test_the_target_of_classes_is_their_position_and_a_missing_one_is_no_row",
    ],
    "a constant feature: read, with a warning, scale 1": [
        "core/test_resolve.py::test_a_constant_column_is_left_out_with_a_warning",
        "worker/test_trainer_preprocessing.py::test_a_constant_column_becomes_zeros",
    ],
    "inf, nan, 1e309, and what overflows float32: missing in a feature, with a warning; an error in the target": [
        "worker/test_ingest_csv.py::test_infinity_is_a_number_with_a_warning",
        "worker/test_ingest_csv.py::test_what_float32_does_not_hold_is_infinite_with_a_warning",
        "worker/test_trainer_preprocessing.py::test_infinity_counts_as_missing",
        "worker/test_trainer_preprocessing.py::test_an_infinite_number_to_predict_is_refused_with_its_rows",
        "worker/test_ingest_profile.py::test_not_a_number_counts_as_missing",
    ],
    "`1_000`, Arabic digits, `1,000`, `0x10`: categories, with a warning and an example": [
        "worker/test_ingest_csv.py::test_the_type_of_a_column_is_that_of_all_its_cells",
        "worker/test_ingest_csv.py::test_numbers_written_for_people_stay_text_with_a_warning",
        "worker/test_ingest_csv.py::test_digits_of_another_grammar_are_said_with_an_example",
    ],
    "a regression of words: 422": ["core/test_resolve.py::test_a_regression_needs_numbers"],
    "a target of one class: 422": ["core/test_resolve.py::test_one_single_class_is_nothing_to_learn"],
    "more classes than are accepted, up to one for each row: 422": [
        "core/test_resolve.py::test_too_many_different_values_are_no_classes"
    ],
    "a class of one row: an error only where `stratified` is asked for by name": [
        "core/test_resolve.py::test_a_class_of_one_row_cannot_be_stratified_by_name",
        "core/test_resolve.py::test_a_class_of_one_row_stops_nothing_else",
        "worker/test_trainer_split.py::test_a_class_of_one_row_trains",
    ],
    "fewer rows than the split needs: 422": ["core/test_resolve.py::test_too_few_rows_for_the_split_are_refused"],
    ".npy of objects, structures or pickles: 422, and nothing is unpickled": [
        "worker/test_ingest_npy.py::test_nothing_is_ever_unpickled"
    ],
    ".npy of complex numbers, dates, three dimensions, or with a header that lies: 422": [
        "worker/test_ingest_npy.py::test_a_header_that_lies_is_refused_before_numpy_believes_it"
    ],
    "Parquet cut short, with flipped bits, or a footer that lies: 422, or a good read": [
        "worker/test_ingest_parquet.py::test_a_truncated_file_is_malformed",
        "worker/test_ingest_parquet.py::test_a_flipped_bit_is_a_refusal_or_a_good_read",
        "worker/test_ingest_parquet.py::test_random_bytes_are_malformed",
        "api/test_datasets.py::test_broken_parquet_is_refused_and_the_reader_lives",
    ],
    "Parquet of nested, decimal or dictionary types: read; what no network can take is text": [
        "worker/test_ingest_parquet.py::test_each_type_is_what_a_profile_knows",
        "worker/test_ingest_parquet.py::test_decimals_are_their_numbers",
        "worker/test_ingest_parquet.py::test_lists_and_structures_are_read_but_not_used",
        "worker/test_ingest_parquet.py::test_how_it_was_written_does_not_matter",
    ],
    "a file that kills its reader: 422, and the API lives": [
        "api/test_intake.py::test_a_reader_that_dies_is_an_unparseable_dataset_and_nothing_else",
        "worker/test_child.py::test_a_table_that_takes_too_long_is_cut_off",
    ],
    "a file name that is a path or holds control characters: text to show, and nothing outside the storage": [
        "api/test_datasets.py::test_a_file_name_is_text_to_show_and_never_a_path",
        "api/test_datasets.py::test_no_control_character_of_a_file_name_is_kept",
        "api/test_datasets.py::test_a_name_in_the_query_is_text",
    ],
    "the same bytes twice: two datasets, and no word of another project's": [
        "api/test_datasets.py::test_the_same_bytes_twice_are_two_datasets",
        "api/test_datasets.py::test_the_same_bytes_of_another_project_are_no_ones_business",
    ],
}


@cache
def _tests_in(file: Path) -> set[str]:
    parsed = ast.parse(file.read_text("utf-8"))
    return {node.name for node in parsed.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize("row", ROWS)
def test_a_row_of_the_matrix_has_its_tests(row: str) -> None:
    named = [one.split("::") for one in ROWS[row]]

    assert named
    assert [test for file, test in named if test not in _tests_in(TESTS / file)] == []

"""The verdict on faults that no test found."""

import doctest

import pytest

from tests.support.scripts import load_script

REASONS = {"m.f": {"a > b": "equal numbers mean the same"}}


@pytest.mark.parametrize(
    ("alive", "says", "code"),
    [
        ([("m.f", "a > b")], "MUTANTS_PASS: 1 survivors", 0),
        ([("m.f", "a > b"), ("m.f", "a > b")], "MUTANTS_PASS: 1 survivors", 0),
        ([("m.f", "a > b"), ("m.g", "a > b")], "nobody noticed m.g: a > b", 1),
        ([("m.f", "a > b"), ("m.f", "c")], "nobody noticed m.f: c", 1),
        ([], "a reason for nothing: m.f: a > b", 1),
    ],
)
def test_every_survivor_needs_a_reason_and_every_reason_a_survivor(
    alive: list[tuple[str, str]], says: str, code: int
) -> None:
    text, exit_code = load_script("mutants").verdict(alive, REASONS)

    assert text.startswith(says)
    assert exit_code == code


def test_examples_of_the_reader_hold() -> None:
    failed, tried = doctest.testmod(load_script("mutants"))

    assert (failed, tried) == (0, 2)

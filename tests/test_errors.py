"""Errors in one line."""

import pytest

from aegaeon.errors import first_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n  one \ntwo"), "one"),
        (ValueError(), "ValueError()"),
        (KeyError("a"), "'a'"),
    ],
)
def test_an_error_is_shown_by_the_first_line_that_says_something(error, line):
    assert first_line(error) == line

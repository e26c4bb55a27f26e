"""An option that breaks its field's constraint is named with its key."""

from dataclasses import dataclass, field

import pytest

from aegaeon.constraints import above, at_least, check_fields, one_of
from aegaeon.errors import UserError


@dataclass
class Inner:
    size: int = field(default=1, metadata=at_least(1))


@dataclass
class Outer:
    rate: float = field(default=1.0, metadata=above(0))
    mode: str = field(default="a", metadata=one_of("a", "b"))
    free: int = -1
    inner: Inner = field(default_factory=Inner)
    parts: dict[str, Inner] = field(default_factory=dict)


def test_good_options_pass():
    check_fields(Outer(free=-5, parts={"x": Inner(2)}), "outer")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (Outer(rate=0), "outer.rate: must be greater than 0, got 0"),
        (Outer(rate=float("nan")), "outer.rate: must be a finite number, got nan"),
        (Outer(mode="c"), "outer.mode: must be one of a, b, got 'c'"),
        (Outer(inner=Inner(0)), "outer.inner.size: must be at least 1, got 0"),
        (Outer(parts={"x": Inner(0)}), "outer.parts.x.size: must be at least 1, got 0"),
    ],
)
def test_a_bad_option_is_named(options, says):
    with pytest.raises(UserError) as caught:
        check_fields(options, "outer")
    assert str(caught.value) == says

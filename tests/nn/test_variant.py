"""What variants declare of their options: ranges, and defaults that are those of what is built with them."""

import inspect

import pytest

from skipln_fairseq.models.family import REGISTRIES, declarations
from skipln_fairseq.nn.variant import Option

BUILDERS = ("__init__", "build", "build_end", "refusal", "at", "settle", "refuses")
OPTIONS = [
    pytest.param(axis[variant.choice], option, id=f"{axis.axis}-{variant.choice}-{option.name}")
    for axis in REGISTRIES
    for variant in axis.declarations()
    for option in variant.options
]


def taken_by(cls, name):
    """Of each function that the option is handed to by its name, the parameter."""
    for builder in BUILDERS:
        parameters = inspect.signature(getattr(cls, builder)).parameters if hasattr(cls, builder) else {}
        if name in parameters:
            yield builder, parameters[name]


@pytest.mark.parametrize(("cls", "option"), OPTIONS)
def test_the_default_of_an_option_is_that_of_its_class(cls, option):
    """What the tables say and what is built without the flag are one. One that must be given has none in either."""
    defaults = {builder: parameter.default for builder, parameter in taken_by(cls, option.name)}
    # a rule that has build may ask for the value where it is made
    defaults = {builder: found for builder, found in defaults.items() if found is not inspect.Parameter.empty}
    expected = set() if option.default is None else {repr(option.default)}
    assert set(map(repr, defaults.values())) == expected, defaults


@pytest.mark.parametrize(("cls", "option"), OPTIONS)
def test_an_option_can_have_its_default_and_what_tests_draw(cls, option):
    values = [*option.choices] or [option.kind(end) for end in option.drawn]
    values = [False, True] if option.metavar is None else values
    for value in [*values, *([] if option.default is None else [option.default])]:
        assert option.read(value) == value


@pytest.mark.parametrize(
    ("bounds", "good", "bad", "said"),
    [
        ({}, "-3.5", "inf", "a finite number"),
        ({"least": 0}, "0", "-0.1", "a finite number of at least 0"),
        ({"above": 0}, "0.1", "0", "a finite number above 0"),
        ({"most": 1}, "1", "1.1", "a finite number of at most 1"),
        ({"least": 0, "most": 1}, "0.5", "2", "a finite number of at least 0 and of at most 1"),
        ({"above": 0, "most": 1}, "1", "0", "a finite number above 0 and of at most 1"),
        ({"least": 1, "most": 8, "kind": int}, "8", "9", "a whole number of at least 1 and of at most 8"),
    ],
)
def test_what_is_out_of_range_is_refused_with_the_range(bounds, good, bad, said):
    option = Option("share", "share", "a share", "a", **bounds)
    assert option.read(good) == float(good)
    with pytest.raises(ValueError, match=f"^{said}$"):
        option.read(bad)


def test_no_two_options_of_a_variant_share_a_name():
    for variant in declarations():
        names = [option.name for option in variant.options]
        assert len(names) == len(set(names)), variant.choice

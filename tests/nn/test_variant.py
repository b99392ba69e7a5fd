"""What variants declare of their options: ranges, and defaults that are those of what is built with them."""

import inspect

import pytest

from skipln_fairseq.models.family import REGISTRIES, declarations
from skipln_fairseq.nn import PLACEMENTS, SKIPS, build_end
from skipln_fairseq.nn.variant import Option, Registry
from tests.support.build import wiring

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


@pytest.mark.parametrize(
    ("axis", "what", "said"),
    [
        ("norm", {}, r"norm 'x': kind '': valid are token, batch, none"),
        ("norm", {"kind": "Token"}, r"norm 'x': kind 'Token': valid are token"),
        ("skip", {}, r"skip 'x': goes_with is missing: ANYWHERE"),
        (
            "skip",
            {"goes_with": ((("tokens",), ("post",)),)},
            r"skip 'x': goes_with \('tokens',\): valid kinds",
        ),
    ],
)
def test_a_declaration_that_lacks_what_is_asked_of_it_later_is_refused_at_once(axis, what, said):
    registry = Registry(axis, "an axis")
    with pytest.raises(ValueError, match=said):
        registry.declare("x", title="x", equation="x", paper="none", **what)(type("X", (), {}))
    assert len(registry) == 0


def test_what_variants_go_with_exists():
    named = {place for variant in declarations() for _, places in variant.goes_with for place in places}
    assert named <= set(PLACEMENTS)


@pytest.mark.parametrize("skip", [name for name in SKIPS if SKIPS[name].merges])
def test_streams_are_merged_without_a_norm_too(skip):
    """No rule that comes with this package goes with no norm; one of the user's may."""
    assert build_end(8, wiring(skip, "none"), side="encoder", slot="ffn", layer=1, depth=(2, 2)) is not None


def test_no_two_options_of_a_variant_share_a_name():
    for variant in declarations():
        names = [option.name for option in variant.options]
        assert len(names) == len(set(names)), variant.choice

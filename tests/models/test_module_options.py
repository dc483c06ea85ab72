"""A value that an option of a temporal module cannot have is told in one line, before anything is built."""

import pytest

import kinemix
from kinemix.errors import ConfigError
from kinemix.models.module_options import split_options
from kinemix.temporal import shelf


@pytest.mark.parametrize(
    ("name", "option", "value", "told"),
    [
        ("ctm", "reduction", 2.5, "reduction is 2.5: it must be a whole number"),
        ("ctm", "reduction", True, "reduction is True: it must be a whole number"),
        ("ctm", "paths", 3, r"paths is 3: it must be text or a list such as \[a, b\]"),
        ("ctm", "num_blocks", "two", "num_blocks is 'two': it must be a whole number or null"),
        ("mtconv", "delta", "a", "delta is 'a': it must be a number"),
        ("mtconv", "cell", 3, "cell is 3: it must be 'rnn' or 'lstm' or 'peephole_lstm' or 'gru' or null"),
        ("gsm", "interleave", "nope", "interleave is 'nope': it must be true or false or null"),
        ("gsm", "gate_norm", "off", "gate_norm is 'off': it must be true or false"),
        (
            "mixtconv",
            "kernel_sizes",
            [1, "x"],
            r"kernel_sizes is .*: it must be a whole number or a list such as \[1, 2\]",
        ),
        ("mixtconv", "kernel_sizes", "13", "kernel_sizes is '13'"),
        ("tsm", "causal", 1, "causal is 1: it must be true or false"),
    ],
)
def test_a_value_of_another_type_is_refused(name: str, option: str, value: object, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        kinemix.create_model(f"{name}_resnet18", num_classes=2, input_size=64, **{option: value})


def test_values_that_fit_go_to_the_module_or_to_its_plan() -> None:
    own, plan = split_options(shelf.get("ctm"), {"paths": ["tccm"], "reduction": 2, "num_blocks": None})
    assert (own, plan) == ({"paths": ["tccm"], "reduction": 2}, {"num_blocks": None})
    options = {"delta": 1, "cell": None, "frame_selection": False}
    assert split_options(shelf.get("mtconv"), options) == (options, {})
    assert split_options(shelf.get("mixtconv"), {"kernel_sizes": (1, 3)})[0] == {"kernel_sizes": (1, 3)}

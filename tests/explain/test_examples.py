"""The notebooks speak of what there is, hold their pictures, and nothing of the machine that they ran on."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from kinemix import explain
from kinemix.cli.options import Options
from kinemix.config import TrainConfig

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def read_cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_uses_names_that_there_are(path: Path) -> None:
    code = "\n".join("".join(cell["source"]) for cell in read_cells(path))
    tree = ast.parse("\n".join(line for line in code.split("\n") if not line.startswith("%")))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "explain"
    }
    assert used
    assert used <= set(explain.__all__)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_was_run_in_full_and_is_small(path: Path) -> None:
    cells = read_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not any(output["output_type"] == "error" or output.get("name") == "stderr" for output in outputs)
    assert any("image/png" in output.get("data", {}) for output in outputs)
    text = path.read_text()
    assert len(text) < 500_000
    assert "site-packages" not in text
    assert "/home/" not in text


def test_config_of_the_examples_is_one() -> None:
    options = Options("train", "", "")
    options.add_config(TrainConfig, skip=("protocol.input",))
    given = options.parse(["--config", str(EXAMPLES / "motion_saliency.yaml")])
    assert given.model == "mstnet_resnetv2_18"
    assert given.optim.epochs == 24


def test_every_public_name_is_there() -> None:
    for name in explain.__all__:
        assert getattr(explain, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = explain.nothing

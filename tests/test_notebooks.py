"""The notebooks are committed without outputs, and run from top to bottom."""

import json
import re
from pathlib import Path

import nbclient
import nbformat
import pytest

from tests.experiments import outside

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_there_are_four():
    assert [path.name[:2] for path in NOTEBOOKS] == ["1_", "2_", "3_", "4_"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert cells
    assert [cell for cell in cells if cell["outputs"] or cell["execution_count"] is not None] == []
    assert [cell for cell in content["cells"] if cell["metadata"]] == []
    assert set(content["metadata"]) == {"kernelspec", "language_info"}
    assert content["metadata"]["language_info"] == {"name": "python"}


def executed(path, monkeypatch):
    """The notebook with its outputs, run in a kernel of this environment."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    )
    return client.execute(env=outside())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Jupyter's own packages
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom_and_shows_what_it_should(path, monkeypatch):
    notebook = executed(path, monkeypatch)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output for output in outputs if output.output_type == "error"] == []
    written = [output for output in outputs if output.output_type == "stream"]
    assert [output.text for output in written if output.name == "stderr"] == []
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", "".join(output.text for output in written))
    kinds = [kind for output in outputs if "data" in output for kind in output.data]
    assert kinds.count("image/png") >= 3
    assert kinds.count("text/html") >= 2
    bars = [output for output in outputs if "data" in output and "took" in str(output.data.get("text/html"))]
    assert len(bars) >= 1  # one output for each progress view, however often it was drawn
    if path.stem.startswith("3_"):
        said = "".join(output.text for output in written)
        assert "synchronization.kind = 'majorty': unknown kind; did you mean 'majority'?" in said
        assert "share is 1.5: give one above 0 and up to 1" in said

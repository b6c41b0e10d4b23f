"""The notebook of the examples runs, and shows what it is committed with."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOK = EXAMPLES / "notebook.ipynb"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::UserWarning")
@pytest.mark.usefixtures("compiled")
def test_the_notebook_shows_what_it_is_committed_with(tmp_path: Path) -> None:
    """With NEARSHOT_PICTURES=1 it is written anew. Thumbnails are compared in number alone."""
    shutil.copy(EXAMPLES / "make_demo.py", tmp_path)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    before = shown(notebook)
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    if os.environ.get("NEARSHOT_PICTURES"):
        nbformat.write(notebook, NOTEBOOK)
        before = shown(notebook)
    assert shown(notebook) == before
    assert "match: cat" in before
    assert "Traceback" not in before
    assert str(tmp_path) not in nbformat.writes(notebook)
    assert "site-packages" not in before, "no warning of somebody else's"


def shown(notebook: Any) -> str:
    """All that the outputs say."""
    said = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            said.append(
                output.get("text") or data.get("text/html") or data.get("text/plain") or str(output.get("evalue"))
            )
    return re.sub(r"base64,[A-Za-z0-9+/=]+", "base64,", "\n".join(said))

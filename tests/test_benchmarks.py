"""Benchmarks run by hand: what they take from the project has to be there."""

import ast
import importlib
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).parents[1] / "experiments" / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("file", BENCHMARKS, ids=lambda file: file.name)
def test_a_benchmark_imports_what_there_is(file: Path):
    text = file.read_text(encoding="utf-8")
    codes = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
    embedded = [code for code in codes if isinstance(code, str) and "\nfrom simulator" in code]  # run in processes
    for code in [text, *embedded]:
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("models", "simulator"):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    if not hasattr(module, alias.name):
                        importlib.import_module(f"{node.module}.{alias.name}")

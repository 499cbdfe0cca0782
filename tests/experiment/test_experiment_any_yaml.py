"""Any YAML whatever is a valid experiment or is clearly refused."""

import tempfile
from collections import Counter
from pathlib import Path

import pytest
import yaml
from experiment_files import tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulator.experiment import Experiment, ExperimentError, expand, load_document
from simulator.simulation.checks import check

TOKENS = [
    *(
        "a",
        "model",
        "cluster",
        "faults",
        "variants",
        "sweep",
        "scales",
        "extends",
        "reference",
        "name",
        "seed",
        "trace",
    ),
    *(
        ": ",
        "- ",
        "\n",
        "\n  ",
        "\n    ",
        "{",
        "}",
        "[",
        "]",
        ", ",
        "? ",
        "| ",
        "> ",
        "'",
        '"',
        "#",
        "%YAML 1.1\n",
        "---\n",
    ),
    *("&a ", "*a", "<<: ", "<<: *a", "!!python/object/apply:os.system [exit]", "!!binary ", "!!set ", "!x ", "!!map "),
    *(
        "~",
        "true",
        "1e400",
        "0x",
        "1_0",
        ".nan",
        "-.inf",
        "2026-11-21",
        "2026-02-31",
        "=",
        "\t",
        "\0",
        "\ud7ff",
        "\ufeff",
    ),
    *("crashes: {time_between: ", "5min", "{kind: weibull, mean: 1, shape: .5}", "kind: ", "barrier", "1/workers"),
]
TEXTS = st.lists(st.sampled_from(TOKENS) | st.text(max_size=4), max_size=25).map("".join)
LINES = yaml.safe_dump(tree(), sort_keys=False).splitlines()


@st.composite
def torn(draw: st.DrawFn) -> str:
    """An experiment file in which lines are missing, twice, elsewhere, indented, or have something put into them."""
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["cut", "double", "move", "indent", "insert"])):
            case "cut" if len(lines) > 1:
                del lines[place]
            case "double":
                lines.insert(place, lines[place])
            case "move":
                lines.insert(draw(st.integers(0, len(lines))), lines[place])
            case "indent":
                lines[place] = f"  {lines[place]}"
            case _:
                at = draw(st.integers(0, len(lines[place])))
                lines[place] = lines[place][:at] + draw(TEXTS) + lines[place][at:]
    return "\n".join(lines)


SEEN: Counter[str] = Counter()


def read(content: bytes) -> list[Experiment]:
    """Reads a file as the command does, but for its data."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "any.yaml")
        path.write_bytes(content)
        refusal, points = "", []
        try:
            points = expand(load_document(path), check=lambda experiment: check(experiment, data=False))
        except ExperimentError as error:
            refusal = str(error)
    SEEN["valid" if points else "refused"] += 1
    assert points or str(path) in refusal
    return [point.experiment for point in points]


def test_any_yaml_whatever_is_an_experiment_or_is_refused():
    @settings(max_examples=500, suppress_health_check=list(HealthCheck))
    @given((TEXTS | torn()).map(lambda text: text.encode(errors="replace")) | st.binary(max_size=40))
    def run(content: bytes) -> None:
        assert all(isinstance(experiment, Experiment) for experiment in read(content))

    run()
    assert min(SEEN["valid"], SEEN["refused"]) > 5


def nested_aliases(depth: int) -> str:
    lines = ["bomb0: &a0 [x, x]", *(f"bomb{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, depth))]
    return "\n".join(lines) + f"\ninner: {{arguments: {{x: *a{depth - 1}}}}}\n"


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "a: " + "{b: " * 20_000,
        "- " * 50_000,
        nested_aliases(60),
        "a: &a [*a]\n",
        "inner: &a {arguments: *a}\n",
        "sweep: {seed: " + str(list(range(3))) + ", inner.local_steps: &x [1, 2], outer.weight: *x}\n",
        "name: " + "9" * 100_000,
        "seed: 0x" + "f" * 100_000,
    ],
    ids=["lists", "mappings", "sequences", "laughs", "itself", "section of itself", "aliases", "digits", "hexadecimal"],
)
def test_what_is_deep_large_or_endless_is_refused_too(text: str):
    assert read(text.encode()) == []

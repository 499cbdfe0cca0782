"""Text of strangers is shown, and does nothing: no code in what is read, no file outside the folders of a run."""

import dataclasses
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.experiment.file import merge
from simulator.host.text import visible
from simulator.record import RecordError, RunRecord
from simulator.report import comparison, comparison_markdown
from tests.experiments import TINY
from tests.killed_runs import CLASSIFIER
from tests.record.builders import build_record
from tests.verify.test_verify import timeline

HOSTILE = (
    "\x1b]0;title\x07\x1b[2J<script>alert(1)</script>[red]$\\frac{$ %s {0} ../../x|\n\r\u202eright\u2066 \x00\ud800"
)
FORBIDDEN = {chr(code) for code in (*range(10), *range(11, 32), 127, 0x202E, 0x2066)}


@given(st.text() | st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl"])))
def test_text_is_printable_and_what_was_so_is_unchanged(text: str):
    shown = visible(text)
    assert all(char.isprintable() or char == "\n" for char in shown)
    assert shown.encode().decode() == shown
    assert visible(shown) == shown


def test_by_hand():
    assert visible("a\tb\n\x1b[31m é \u202e") == "a\\tb\n\\x1b[31m é \\u202e"


def hostile_run(folder: Path) -> None:
    name = HOSTILE.replace("\ud800", "").replace("\x00", "")  # which no file could hold
    record = build_record(name, overrides={name: name})
    dataclasses.replace(record, experiment=record.experiment | {"name": name}).write(folder)


@pytest.mark.filterwarnings("error")
@pytest.mark.drawn
def test_hostile_names_are_shown_as_text_and_files_stay_in_their_folder(tardigrad: Any, tmp_path: Path):
    hostile_run(tmp_path / "runs" / "\x1b[31m[red]run")
    before = {path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "runs")}
    for arguments in (("plot", "runs"), ("verify", "runs"), ("plot", "runs/nowhere\x1b[0m")):
        _, out, err = tardigrad(*arguments)
        assert out + err
        assert not FORBIDDEN & set(out + err)
    assert {path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "runs")} == before
    drawn = sorted((tmp_path / "runs").glob("*.svg"))
    assert drawn
    for path in drawn:
        assert not FORBIDDEN & set(path.name)
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.parse(path).iter()}
        assert "script" not in tags


def test_a_violation_shows_hostile_values_as_text(tardigrad: Any, tmp_path: Path):
    record = timeline()
    wrong = record.summary | {"mean_staleness": 7.0, "variant": HOSTILE[:-1].replace("\x00", "")}
    dataclasses.replace(record, summary=wrong).write(tmp_path / "runs\x1b[31m")
    code, out, err = tardigrad("verify", ".")
    assert code == 1
    assert "mean_staleness" in out
    assert not FORBIDDEN & set(out + err)


def test_markdown_has_no_tags_and_no_columns_of_strangers():
    summaries = [build_record(name).summary for name in ("<script>x|y</script>", "base")]
    reference = {"source": "nowhere", "baseline": "base", "metric": "final_perplexity", "results": []}
    text = comparison_markdown(comparison(summaries, reference), reference)
    assert "&lt;script&gt;x\\|y&lt;/script&gt;" in text


def test_an_experiment_file_with_hostile_keys_is_refused_in_plain_text(tardigrad: Any):
    code, out, err = tardigrad("validate", "experiment.yaml", experiment={"\x1b[31mname": 1, "model": "\x1b[2J"})
    assert code == 2
    assert "\\x1b[31mname" in err
    assert not FORBIDDEN & set(out + err)


ROOT = Path(__file__).parents[1]


def test_nothing_that_is_read_can_be_code():
    loads: list[str] = []
    for file in [*(ROOT / "simulator").rglob("*.py"), *(ROOT / "models").rglob("*.py")]:
        text = file.read_text(encoding="utf-8")
        assert not re.findall(r"\b(?:pickle|cloudpickle|dill|marshal|shelve)\b|(?<![.\w])(?:eval|exec)\(", text), file
        loads += re.findall(r"\byaml\.\w*load\w*\(.*", text)
    assert loads
    assert all("Loader=_Loader" in call for call in loads)


@pytest.mark.parametrize(
    "content",
    [
        "!!python/object/apply:os.system ['touch hacked']",
        "!!python/name:os.system",
        "name: !!python/object/new:os.system [touch hacked]",
        "[" * 200_000 + "]" * 200_000,
        "a: &a [x]\nb: [*a, *a]",
        "\x00",
    ],
    ids=["apply", "name", "new", "deep", "aliases", "binary"],
)
def test_a_record_of_a_stranger_is_refused_and_runs_nothing(tmp_path: Path, content: str, monkeypatch: Any):
    monkeypatch.chdir(tmp_path)
    record = build_record()
    record.write(tmp_path / "run")
    (tmp_path / "run/checksums.json").unlink()
    (tmp_path / "run/experiment.yaml").write_text(content)
    with pytest.raises(RecordError, match=r"experiment\.yaml: (cannot be read|holds a|missing keys)"):
        RunRecord.read(tmp_path / "run")
    assert not (tmp_path / "hacked").exists()


def test_a_summary_that_is_too_deep_is_refused(tmp_path: Path):
    build_record().write(tmp_path)
    (tmp_path / "checksums.json").unlink()
    (tmp_path / "summary.json").write_text("[" * 200_000)
    with pytest.raises(RecordError, match=r"summary\.json: cannot be read"):
        RunRecord.read(tmp_path)


def test_a_run_writes_below_its_folder_and_into_caches_only(tardigrad: Any, tmp_path: Path, mixed_dtypes: None):
    names = {"name": "../../evil", "variants": {"../../../worse\x1b[0m": {}, "/root/worst": {}}}
    code, out, err = tardigrad("run", "experiment.yaml", experiment=merge(merge(TINY, CLASSIFIER), names))
    assert (code, err) == (0, "")
    assert not FORBIDDEN & set(out)
    made = {path.relative_to(tmp_path) for path in tmp_path.rglob("*")} - {Path("experiment.yaml")}
    assert {path.parts[0] for path in made} == {"runs"}
    assert {path.parts[1] for path in made if len(path.parts) > 1} == {"evil"}
    assert not (tmp_path.parent / "evil").exists()
    assert not Path("/root/worst").exists()

"""Standard output and error whose readers leave, that are full, closed, or of a small alphabet."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from simulator import read_runs
from simulator.experiment.file import merge
from tests.experiments import TINY, outside
from tests.killed_runs import CLASSIFIER

CLI = [sys.executable, "-c", "from simulator.cli.main import main; main()"]


def unread(*arguments: str, folder: Path, errors: bool = False) -> tuple[int, str]:
    """Returns exit code and standard error of a command whose output nobody reads, nor its errors if asked for."""
    reader, writer = os.pipe()
    os.close(reader)
    where = writer if errors else subprocess.PIPE
    ran = subprocess.run([*CLI, *arguments], stdout=writer, stderr=where, cwd=folder, env=outside(), text=True)
    os.close(writer)
    return ran.returncode, ran.stderr or ""


@pytest.mark.parametrize("arguments", [["profiles"], ["--help"], ["schema"], ["run", "--help"]])
def test_a_command_that_only_shows_something_ends_quietly_when_nobody_reads_it(tmp_path: Path, arguments: list[str]):
    assert unread(*arguments, folder=tmp_path) == (128 + 13, "")


def test_a_run_goes_on_to_its_end_when_nobody_reads_what_it_says(tmp_path: Path):
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(merge(TINY, CLASSIFIER)), encoding="utf-8")
    assert unread("run", "experiment.yaml", "--out", "a", folder=tmp_path, errors=True) == (0, "")
    assert len(read_runs([tmp_path / "a"])) == 1
    assert (tmp_path / "a/perplexity_vs_time.png").exists()
    assert unread("verify", "a", folder=tmp_path) == (128 + 13, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no such device")
@pytest.mark.parametrize("arguments", [["profiles"], ["--version"]])
def test_output_that_is_full_is_named(tmp_path: Path, arguments: list[str]):
    with open("/dev/full", "w") as full:
        ran = subprocess.run([*CLI, *arguments], stdout=full, stderr=subprocess.PIPE, cwd=tmp_path, env=outside())
        message = b"tardigrad: standard output: No space left on device: make room, or choose another place\n"
        assert (ran.returncode, ran.stderr) == (2, message)
        ran = subprocess.run([*CLI, *arguments], stdout=subprocess.PIPE, stderr=full, cwd=tmp_path, env=outside())
        assert (ran.returncode, bool(ran.stdout)) == (0, True)


def test_closed_streams_are_no_files(tmp_path: Path):
    code = "from simulator.cli.main import open_standard_streams; import os, sys\n"
    code += "open_standard_streams(); print('lost'); print('lost', file=sys.stderr); sys.stdout.flush()\n"
    code += "os._exit(os.open('made', os.O_CREAT | os.O_WRONLY))"
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code]
    assert subprocess.run(command, cwd=tmp_path, env=outside()).returncode > 2  # else it would be written to
    assert (tmp_path / "made").read_text() == ""


def test_an_encoding_that_lacks_characters_gets_escapes(tmp_path: Path):
    environment = outside() | {"PYTHONIOENCODING": "ascii"}
    for arguments in (["profiles"], ["schema"]):
        ran = subprocess.run([*CLI, *arguments], capture_output=True, cwd=tmp_path, env=environment, check=True)
        assert ran.stdout.decode("ascii")
    plain = subprocess.run([*CLI, "schema"], capture_output=True, cwd=tmp_path, env=outside(), check=True)
    assert json.loads(ran.stdout) == json.loads(plain.stdout)
    ran = subprocess.run([*CLI, "verify", "é"], capture_output=True, cwd=tmp_path, env=environment)
    assert ran.stderr == (
        b"tardigrad: \\xe9: no such folder. Give the folder of a run, or the --out folder of several\n"
    )

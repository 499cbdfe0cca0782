import os
import re
import sysconfig
from pathlib import Path

import pytest
from corpora import texts, write

from simulator.data.sources.stdlib import open_standard_library
from simulator.data.sources.text_files import Unit, open_text_files
from simulator.host.errors import SettingError


def read_standard_library(root: Path | None = None) -> list[bytes]:
    return texts(open_standard_library(root))


def read_text_files(patterns: list[str], unit: Unit) -> list[bytes]:
    return texts(open_text_files(patterns, unit))


def test_the_standard_library_is_read_in_path_order_without_tests_and_packages(tmp_path):
    root = write(
        tmp_path,
        {
            "zlib_like.py": b"z",
            "email/b.py": b"b",
            "email/__init__.py": b" \n",
            "email.py": b"e",
            "email/a.py": b"\xff\xfe not utf-8",
            "email/notes.txt": b"no",
            "test/test_os.py": b"no",
            "lib2to3/tests/test_all.py": b"no",
            "idlelib/idle_test/t.py": b"no",
            "site-packages/p.py": b"no",
            "dist-packages/p.py": b"no",
            "__pycache__/p.py": b"no",
            "config-3.11-x86_64/python-config.py": b"no",
            "_sysconfigdata__linux.py": b"no",
            "sitecustomize.py": b"no",
        },
    )
    assert read_standard_library(root) == [b"e", b"\xff\xfe not utf-8", b"b", b"z"]


def test_the_interpreters_own_library_holds_its_modules():
    documents = set(read_standard_library())
    root = Path(sysconfig.get_path("stdlib"))
    for name in ("os.py", "json/decoder.py", "unittest/mock.py"):
        assert (root / name).read_bytes() in documents
    for name in ("test/test_json/test_decode.py", "test/test_os.py"):
        if (root / name).exists():
            assert (root / name).read_bytes() not in documents


def test_a_library_without_sources_is_an_error(tmp_path):
    with pytest.raises(
        SettingError, match=r"^data\.source = 'python-stdlib': no Python sources under .* source: text$"
    ):
        read_standard_library(tmp_path)


def test_an_unreadable_library_is_an_error(tmp_path):
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere")
    with pytest.raises(SettingError, match=r"data\.source .*gone\.py cannot be read \(No such file or directory\)"):
        read_standard_library(tmp_path)


@pytest.mark.parametrize(
    ("unit", "documents"),
    [
        ("file", [b"one\n", b"\n\ntwo\nlines\n\n \t\r\n\nthree \xe9\r\nwords\r\n\r\nfour"]),
        ("paragraph", [b"one", b"two\nlines", b"three \xe9\r\nwords", b"four"]),
        ("line", [b"one", b"two", b"lines", b"three \xe9", b"words", b"four"]),
    ],
)
def test_a_document_is_what_the_file_says(tmp_path, unit, documents):
    write(
        tmp_path,
        {
            "a.txt": b"one\n",
            "b.txt": b"\n\ntwo\nlines\n\n \t\r\n\nthree \xe9\r\nwords\r\n\r\nfour",
            "blank.txt": b" \n",
            "empty.txt": b"",
        },
    )
    assert read_text_files([f"{tmp_path}/*.txt"], unit) == documents


def test_files_come_sorted_and_once(tmp_path):
    write(tmp_path, {"b/deep/x.txt": b"2", "a.txt": b"1", "c.txt": b"3", "d.md": b"no"})
    (tmp_path / "link.txt").symlink_to(tmp_path / "a.txt")
    patterns = [f"{tmp_path}/c.txt", f"{tmp_path}/**/*.txt", f"{tmp_path}/b/../a.txt"]
    assert read_text_files(patterns, "file") == [b"1", b"2", b"3"]


def test_relative_patterns_start_at_the_working_directory(tmp_path, monkeypatch):
    write(tmp_path, {"texts/a.txt": b"1"})
    monkeypatch.chdir(tmp_path)
    assert read_text_files(["texts/*.txt"], "file") == [b"1"]
    with pytest.raises(SettingError, match=re.escape(f"matches no file (searched from {os.getcwd()}): check the path")):
        read_text_files(["text/*.txt"], "file")


def test_a_pattern_without_files_is_named(tmp_path):
    write(tmp_path, {"a.txt": b"1", "folder.md/x": b"1"})
    for missing, why in (
        ("*.text", r"no file: check the path; \*\* stands for"),
        ("folder.md", "folders only: name the"),
    ):
        with pytest.raises(SettingError, match=f"matches {why}") as caught:
            read_text_files([f"{tmp_path}/*.txt", f"{tmp_path}/{missing}"], "file")
        assert (caught.value.key, caught.value.value) == ("data.files", f"{tmp_path}/{missing}")
        assert str(caught.value).startswith(f"data.files = '{tmp_path}/{missing}': ")


def test_an_unreadable_file_is_named(tmp_path):
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(
        SettingError, match=r"this file cannot be read \(No such file or directory\): make it"
    ) as caught:
        read_text_files([f"{tmp_path}/*.txt"], "file")
    assert (caught.value.key, caught.value.value) == ("data.files", f"{tmp_path}/gone.txt")


def test_a_path_that_looks_like_a_pattern_is_the_file_that_has_it(tmp_path):
    folder = write(tmp_path, {"run[1]/a[2].txt": b"itself", "run1/a2.txt": b"another", "run1/b.txt": b"matched"})
    assert read_text_files([f"{folder}/run[1]/a[2].txt"], "file") == [b"itself"]
    assert read_text_files([f"{folder}/run[[]1]/a[2].txt"], "file") == [b"itself"]
    assert read_text_files([f"{folder}/run[[]1]/*"], "file") == [b"itself"]
    assert read_text_files([f"{folder}/run[1]/b.txt"], "file") == [b"matched"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("texts", "matches folders only: name the files in them, for instance {0}/texts/**/*.txt"),
        ("te*s", "matches folders only: name the files in them, for instance {0}/texts/**/*.txt"),
        (
            "no[1].txt",
            "matches no file: check the path; ** stands for any depth of folders, as in texts/**/*.txt, "
            "and [[] for a bracket",
        ),
        ("no[[]1].txt", "matches no file: check the path; ** stands for any depth of folders, as in texts/**/*.txt"),
    ],
)
def test_a_pattern_that_matches_no_file_says_why(tmp_path, pattern, message):
    write(tmp_path, {"texts/a.txt": b"a"})
    with pytest.raises(SettingError) as caught:
        open_text_files([f"{tmp_path}/{pattern}"], "file")
    assert caught.value.message == message.format(tmp_path)

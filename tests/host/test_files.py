import errno
import os
import shutil
import threading
from pathlib import Path

import pytest

from simulator.host.files import atomic_path, is_locked, locked, refusal, remove_folder


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def interrupted():
        with atomic_path(path) as temporary:
            temporary.write_text("half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path) == ["file"]
    assert path.read_text() == "old"
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == tmp_path
    assert os.listdir(tmp_path) == ["file"]
    assert path.read_text() == "new"


def test_links_and_pipes_stay_what_they_are(tmp_path: Path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there/file").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "there/file")
    os.mkfifo(tmp_path / "pipe")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    for name in ("link", "pipe"):
        with atomic_path(tmp_path / name) as temporary:
            temporary.write_text("new")
    reader.join()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there/file").read_text() == "new"
    assert (tmp_path / "pipe").is_fifo()
    assert read == ["new"]
    assert len(list(tmp_path.rglob("*"))) == 4


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ("RESOURCE_EXHAUSTED: /x/vm.xplane.pb; No space left on device", errno.ENOSPC),
        ("Error opening [OS error 13: EACCES Permission denied]", errno.EACCES),
        ("nobody knows", None),
    ],
)
def test_what_a_library_says_in_its_own_words_is_understood(told: str, code: int | None):
    error = refusal(RuntimeError(told), Path("here"))
    assert (error.errno, "here" in str(error)) == (code, True)


def test_an_interrupted_folder_leaves_the_old_one_and_what_a_killed_process_left_goes(tmp_path):
    path = tmp_path / "folder"
    for content in ("old", None, "new"):
        (tmp_path / ".folder.tmp").mkdir()
        (tmp_path / ".folder.tmp/of a killed process").touch()
        try:
            with atomic_path(path, directory=True) as temporary:
                (temporary / "inside").mkdir()
                (temporary / "inside/file").write_text(content or "half of the n")
                if content is None:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            assert (path / "inside/file").read_text() == "old"
        assert os.listdir(tmp_path) == ["folder"]
        assert os.listdir(path) == ["inside"]
    assert (path / "inside/file").read_text() == "new"


def test_a_folder_and_its_files_are_on_disk_before_they_have_their_name(tmp_path, monkeypatch):
    synced: list[str] = []
    fsync, rename = os.fsync, Path.replace

    def noted(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").resolve().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(Path, "replace", lambda self, target: (synced.append("renamed"), rename(self, target))[1])
    with atomic_path(tmp_path / "folder", directory=True) as temporary:
        (temporary / "file").touch()
    assert synced == ["file", ".folder.tmp", "renamed", tmp_path.name]


def test_a_folder_that_is_removed_is_there_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    folder, removed = tmp_path / "folder", []
    (tmp_path / ".folder.tmp" / "of a killed process").mkdir(parents=True)
    (folder / "inside").mkdir(parents=True)
    rmtree = shutil.rmtree

    def watched(path, **options):
        removed.append((path.name, folder.exists()))
        rmtree(path, **options)

    monkeypatch.setattr(shutil, "rmtree", watched)
    remove_folder(folder)
    assert removed == [(".folder.tmp", True), (".folder.tmp", False)]
    remove_folder(folder)  # which is not there
    assert list(tmp_path.iterdir()) == []


def test_one_at_a_time_holds_a_lock(tmp_path):
    path, others = tmp_path / ".lock", []
    released, busy = threading.Event(), threading.Event()

    def wait_for_it() -> None:
        with locked(path, busy.set):
            others.append(released.is_set())

    other = threading.Thread(target=wait_for_it)
    assert not is_locked(path)
    with locked(path):
        assert is_locked(path)
        other.start()
        assert busy.wait(20)
        released.set()
    other.join(20)
    assert others == [True]
    assert not is_locked(path)


def test_who_finds_a_lock_occupied_may_give_up(tmp_path):
    def give_up() -> None:
        raise ValueError("occupied")

    with locked(tmp_path / ".lock"), pytest.raises(ValueError, match="occupied"), locked(tmp_path / ".lock", give_up):
        pass

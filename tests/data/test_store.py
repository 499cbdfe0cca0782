import errno
import hashlib
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import threading
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from simulator.data import checksums, store, token_store
from simulator.data.sources import Corpus, TextDocument
from simulator.data.store import TokenStore, encoder_of
from simulator.data.tokenizers import Bytes, Encoded
from simulator.experiment.schema.data import GroupedPartition, TextData
from simulator.host.cache_folder import cache_folder
from simulator.host.errors import SettingError
from tests.data import killing

BPE = {"kind": "bpe", "vocabulary": 300}
ONE_BY_ONE = 1  # bytes of a chunk
EMPTY = SettingError("data.files", "*.txt", "hold no text: name others")


class Stopped(BaseException):
    """As if the process had been killed."""


class Counting(Bytes):
    """Counts the documents that it encodes."""

    def __init__(self) -> None:
        self.documents = 0

    def encode(self, documents: Sequence[TextDocument]) -> Encoded:
        self.documents += len(documents)
        return super().encode(documents)


def lines(folder: Path, *texts: bytes, tokenizer: object = "bytes", **more: Any) -> TextData:
    """Writes a file with one document a line."""
    folder.mkdir(exist_ok=True)
    (folder / "corpus.txt").write_bytes(b"".join(text + b"\n" for text in texts))
    return TextData(source="text", files=str(folder / "*.txt"), documents="line", tokenizer=tokenizer, **more)


def corpus(documents: Callable[[], Iterator[TextDocument]], **more: Any) -> Corpus:
    return Corpus(fingerprint={"source": "made up"}, documents=documents, empty=EMPTY, **more)


def unreadable() -> Iterator[TextDocument]:
    raise AssertionError("the source is read")
    yield


def in_cache(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    monkeypatch.setenv("TARDIGRAD_CACHE", str(folder))
    return folder


def content(cache: Path) -> dict[str, bytes]:
    """Returns all files of a cache folder but the locks, and the notes when files were changed."""
    files = (path for path in cache.rglob("*") if path.is_file() and path.suffix not in (".lock", ".checked"))
    return {str(path.relative_to(cache)): path.read_bytes() for path in files}


def undisturbed(monkeypatch: pytest.MonkeyPatch, cache: Path, data: TextData) -> dict[str, bytes]:
    with monkeypatch.context() as patch:
        in_cache(patch, cache)
        token_store(data)
    return content(cache)


def stopped(cache: Path, data: TextData, after: int = 3) -> Path:
    """Prepares so many documents, one by one, and returns the folder that is left."""
    chunks = Counter[str]()

    def progress(doing: str, *_: object) -> None:
        chunks[doing] += 1
        if chunks["tokenising"] == after:
            raise Stopped

    with pytest.raises(Stopped):
        token_store(data, progress, chunk_bytes=ONE_BY_ONE)
    (partial,) = cache.glob("tokens/*.partial")
    return partial


def failure(data: TextData, **options: Any) -> str:
    with pytest.raises(SettingError) as caught:
        token_store(data, **options)
    return str(caught.value)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return in_cache(monkeypatch, tmp_path / "cache")


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    encoder = Counting()
    monkeypatch.setattr(store, "ready", lambda settings: encoder)
    return encoder


def test_a_store_holds_the_tokens_of_all_documents_in_order(tmp_path, cache):
    for name, text in (("b/x.txt", b"ab\n\n \nc\xff\n"), ("a/y.txt", b"d"), ("b/z.txt", b"ef\n")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text)
    data = TextData(source="text", files=str(tmp_path / "**/*.txt"), documents="line")
    made = token_store(data)
    assert made.tokens.tolist() == [100, 256, 97, 98, 256, 99, 255, 256, 101, 102, 256]
    assert made.tokens.dtype == np.uint16
    assert made.lengths.tolist() == [2, 3, 3, 3]
    assert made.starts.tolist() == [0, 2, 5, 8]
    assert made.groups.tolist() == [0, 1, 1, 1]
    assert [made.document(index).tolist() for index in (0, 2)] == [[100, 256], [99, 255, 256]]
    key = made.meta["key"]
    stamps = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in sorted(tmp_path.glob("[ab]/*.txt"))]
    assert key == {
        "format": 2,
        "source": {"source": "text", "documents": "line", "files": stamps},
        "tokenizer": Bytes.hash,
    }
    hashed = b"".join(len(text).to_bytes(8, "little") + text for text in (b"d", b"ab", b"c\xff", b"ef"))
    assert made.meta == {
        "format": 2,
        "documents": 4,
        "tokens": 11,
        "bytes": 7,
        "vocabulary": 257,
        "end_of_document": 256,
        "tokenizer_hash": Bytes.hash,
        "content_hash": hashlib.sha256(hashed).hexdigest(),
        "facts": {},
        "checksums": {
            path.name: zlib.crc32(path.read_bytes()) for path in made.folder.iterdir() if path.suffix == ".bin"
        },
        "key": key,
    }
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]
    assert made.folder == cache / "tokens" / name
    assert sorted(path.name for path in made.folder.iterdir()) == [
        "groups.bin",
        "lengths.bin",
        "meta.json",
        "tokens.bin",
    ]


def test_a_store_is_made_once_and_then_only_read(tmp_path, cache, monkeypatch):
    data = lines(tmp_path / "texts", b"one", b"two")
    first = token_store(data)
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    opened = store.open_corpus(data)
    monkeypatch.setattr(store, "open_corpus", lambda data: Corpus(opened.fingerprint, unreadable, EMPTY))
    told: list[object] = []
    again = token_store(data, lambda *news: told.append(news))
    assert again == first
    assert again.tokens.tolist() == [*b"one", 256, *b"two", 256]
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == before
    assert told == []


def test_what_determines_the_tokens_determines_the_folder(tmp_path, cache):
    texts = tmp_path / "texts"
    data = lines(texts, b"one", b"two")
    same = [
        data,
        data.model_copy(update={"validation_fraction": 0.5, "shards": 7, "feed": "host"}),
        data.model_copy(update={"partition": GroupedPartition(kind="grouped")}),
        data.model_copy(update={"files": (str(texts / "c*.txt"),)}),
    ]
    assert len({token_store(each).folder for each in same}) == 1
    others = [
        data,
        data.model_copy(update={"documents": "file"}),
        lines(texts, b"one", b"two", tokenizer=BPE),
        lines(texts, b"one", b"two", tokenizer={**BPE, "vocabulary": 301}),
        lines(texts, b"one", b"two", tokenizer={**BPE, "train_megabytes": 1}),
    ]
    folders = [token_store(each).folder for each in others]
    lines(texts, b"one", b"Two")
    os.utime(texts / "corpus.txt", ns=(1, 1))
    folders.append(token_store(data).folder)
    (texts / "more.txt").write_bytes(b"three")
    folders.append(token_store(data).folder)
    assert len(set(folders)) == len(folders)


@pytest.mark.parametrize(("vocabulary", "itemsize"), [(256, 1), (257, 2), (65536, 2), (65537, 4)])
def test_tokens_take_as_few_bytes_as_the_vocabulary_allows(tmp_path, cache, monkeypatch, vocabulary, itemsize):
    class Highest(Bytes):
        def encode(self, documents: Sequence[TextDocument]) -> Encoded:
            return Encoded(np.array([0, vocabulary - 1]), np.array([2]))

    encoder = Highest()
    encoder.vocabulary = vocabulary
    monkeypatch.setattr(store, "ready", lambda settings: encoder)
    made = token_store(lines(tmp_path / "texts", b"one"))
    assert made.tokens.tolist() == [0, vocabulary - 1]
    assert (made.folder / "tokens.bin").stat().st_size == 2 * itemsize


def test_a_trained_tokenizer_is_kept_beside_the_tokens(tmp_path, cache):
    data = lines(tmp_path / "texts", b"low lower lowest", b"slow <|endoftext|>", tokenizer=BPE)
    made = token_store(data)
    assert (made.folder / "tokenizer.json").exists()
    encoder = encoder_of(data, made)
    assert made.meta["vocabulary"] == encoder.vocabulary > 257
    assert made.meta["tokenizer_hash"] == encoder.hash
    assert [encoder.decode(made.document(index).tolist()) for index in (0, 1)] == [
        "low lower lowest",
        "slow <|endoftext|>",
    ]
    assert np.flatnonzero(made.tokens == made.meta["end_of_document"]).tolist() == [
        made.lengths[0] - 1,
        made.lengths.sum() - 1,
    ]


def test_a_trained_tokenizer_that_is_damaged(tmp_path, cache):
    data = lines(tmp_path / "texts", b"low lower lowest", tokenizer=BPE)
    made = token_store(data)
    for damage in (lambda path: path.write_bytes(b"{"), os.remove):
        damage(made.folder / "tokenizer.json")
        with pytest.raises(SettingError) as caught:
            encoder_of(data, made)
        assert str(caught.value) == (
            f"data = '{made.folder}': tokenizer.json cannot be read: remove this folder, and it is made anew"
        )


def test_the_size_of_chunks_changes_nothing(tmp_path, monkeypatch):
    data = lines(tmp_path / "texts", *(b"x" * (number % 7 + 1) for number in range(20)), tokenizer=BPE)
    whole = undisturbed(monkeypatch, tmp_path / "whole", data)
    in_cache(monkeypatch, tmp_path / "parts")
    token_store(data, chunk_bytes=650)
    assert content(tmp_path / "parts") == whole


def test_progress_is_told_chunk_by_chunk(tmp_path, cache, monkeypatch):
    told: list[object] = []
    data = lines(tmp_path / "texts", b"low", b"lower", b"lowest", tokenizer=BPE)
    token_store(data, lambda *news: told.append(news), chunk_bytes=400)
    assert told == [
        ("training the tokenizer", 0, None, ""),
        ("tokenising", 8, 17, "bytes"),
        ("tokenising", 14, 17, "bytes"),
    ]
    texts = [TextDocument(text, "", "") for text in (b"a", b"b", b"c")]
    monkeypatch.setattr(store, "open_corpus", lambda data: corpus(lambda: iter(texts), size=5, unit="documents"))
    told.clear()
    token_store(lines(tmp_path / "texts", b"low"), lambda *news: told.append(news), chunk_bytes=400)
    assert told == [("tokenising", 2, 5, "documents"), ("tokenising", 3, 5, "documents")]


def test_an_error_of_who_is_told_is_not_taken_for_one_of_the_disk(tmp_path, cache):
    def progress(*_: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "nobody listens")

    with pytest.raises(BrokenPipeError):
        token_store(lines(tmp_path / "texts", b"one"), progress)


def test_at_most_two_chunks_of_documents_are_in_memory(tmp_path, cache, monkeypatch):
    alive, most = 0, 0

    class Text(bytes):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def documents() -> Iterator[TextDocument]:
        nonlocal alive, most
        for _ in range(100):
            alive += 1
            most = max(most, alive)
            yield TextDocument(Text(100), "", "")

    monkeypatch.setattr(store, "open_corpus", lambda data: corpus(documents))
    assert token_store(lines(tmp_path / "texts", b""), chunk_bytes=3_000).meta["documents"] == 100
    assert 11 <= most <= 21  # a chunk is 10 documents of 100 bytes, each with 200 bytes of its own
    assert alive == 0


def test_small_documents_count_with_what_they_take_in_memory(tmp_path, cache):
    data = lines(tmp_path / "texts", *[b"x"] * 10)
    told: list[int] = []
    token_store(data, lambda doing, done, *_: told.append(done), chunk_bytes=1000)
    assert told == [5, 10]


@pytest.mark.parametrize("tokenizer", ["bytes", BPE])
def test_a_source_without_text_leaves_nothing_behind(tmp_path, cache, tokenizer):
    data = lines(tmp_path / "texts", b" ", tokenizer=tokenizer)
    for _ in range(2):
        assert failure(data) == (
            f"data.files = ['{tmp_path}/texts/*.txt']: the matching files hold no text: name files that are not empty"
        )
        assert content(cache) == {}


def test_a_document_that_cannot_be_encoded_ends_the_preparation_and_what_was_before_it_is_kept(tmp_path, cache):
    data = lines(tmp_path / "texts", b"one", b"two", b"\xff", b"four", tokenizer=BPE)
    path = tmp_path / "bpe.json"
    path.write_bytes(store.train_bpe(data.tokenizer, [TextDocument(b"one", "", "")]))
    data = lines(tmp_path / "texts", b"one", b"two", b"\xff", b"four", tokenizer={"kind": "file", "path": str(path)})
    message = failure(data, chunk_bytes=ONE_BY_ONE)
    assert message.startswith(f"data.tokenizer = '{tmp_path}/texts/corpus.txt, line 3': this document is not valid UTF")
    (progress,) = cache.glob("tokens/*.partial/progress.json")
    assert json.loads(progress.read_text())["documents"] == 2


def steps_of(data: TextData, patch: pytest.MonkeyPatch, most: int) -> tuple[Counter[str], bool]:
    """Prepares one by one, stops before one step more, and returns what was told and whether there was no such step."""
    steps, told = 0, Counter[str]()

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps > most:
                raise Stopped
            return function(*arguments, **options)

        return step

    for where, name in ((os, "fsync"), (os, "replace"), (os, "mkdir"), (Path, "unlink")):
        patch.setattr(where, name, counted(getattr(where, name)))
    try:
        token_store(data, lambda doing, *_: told.update([doing]), chunk_bytes=ONE_BY_ONE)
    except Stopped:
        return told, False
    return told, True


@pytest.mark.parametrize("tokenizer", ["bytes", BPE])
def test_a_preparation_may_end_before_any_of_its_steps(tmp_path, monkeypatch, tokenizer):
    data = lines(tmp_path / "texts", b"low", b"lower", b"lowest", tokenizer=tokenizer)
    expected = undisturbed(monkeypatch, tmp_path / "undisturbed", data)
    for most in range(100):
        cache = in_cache(monkeypatch, tmp_path / f"{most} steps")
        with monkeypatch.context() as patch:
            before, whole = steps_of(data, patch, most)
        if whole:
            break
        trained = bool(list(cache.glob("tokens/*/tokenizer.json")))
        after: Counter[str] = Counter()
        token_store(data, lambda doing, *_, after=after: after.update([doing]), chunk_bytes=ONE_BY_ONE)
        assert content(cache) == expected
        assert after["tokenising"] <= 3 - before["tokenising"]
        assert after["training the tokenizer"] == (tokenizer == BPE and not trained)
    assert 20 < most < 60


def test_a_stopped_preparation_goes_on_where_it_was(tmp_path, cache, counting, monkeypatch):
    texts = [b"one", b"two", b"three", b"four", b"five"]
    data = lines(tmp_path / "texts", *texts)
    expected = undisturbed(monkeypatch, tmp_path / "undisturbed", data)
    partial = stopped(cache, data, after=3)
    for name in ("tokens.bin", "lengths.bin", "groups.bin"):
        with open(partial / name, "ab") as file:
            file.write(b"half of what was to come")
    counting.documents = 0
    token_store(data)
    assert counting.documents == 2
    assert content(cache) == expected


def damaged(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda partial: (partial / name).write_bytes(content)


CHECKSUMS = {
    "tokens.bin": zlib.crc32(np.array([*b"one", 256, *b"two", 256, *b"three", 256], "<u2").tobytes()),
    "lengths.bin": zlib.crc32(np.array([4, 4, 6], "<i8").tobytes()),
    "groups.bin": zlib.crc32(np.zeros(3, "<i4").tobytes()),
}


def account(**changed: object) -> bytes:
    kept = {"format": 2, "documents": 3, "tokens": 14, "bytes": 11, "checksums": CHECKSUMS}
    return json.dumps(kept | changed).encode()


@pytest.mark.parametrize(
    "damage",
    [
        damaged("progress.json", b""),
        damaged("progress.json", account()[:-9]),
        damaged("progress.json", b"\xff\x00"),
        damaged("progress.json", b"[]"),
        damaged("progress.json", b"null"),
        damaged("progress.json", b'{"format": 2, "documents": 3}'),
        damaged("progress.json", account(checksums={"tokens.bin": 1})),
        damaged("progress.json", account(documents=-1)),
        damaged("progress.json", account(tokens="many")),
        damaged("progress.json", account(format=1)),
        damaged("progress.json", account(documents=4)),
        damaged("progress.json", account(tokens=15)),
        damaged("meta.json", account(documents=5)),
        damaged("tokens.bin", b""),
        damaged("groups.bin", b"123"),
        lambda partial: (partial / "progress.json").unlink(),
        lambda partial: (partial / "lengths.bin").unlink(),
    ],
)
def test_what_cannot_be_trusted_is_made_again_from_the_start(tmp_path, cache, counting, monkeypatch, damage):
    data = lines(tmp_path / "texts", b"one", b"two", b"three", b"four", b"five")
    expected = undisturbed(monkeypatch, tmp_path / "undisturbed", data)
    partial = stopped(cache, data, after=3)
    assert json.loads((partial / "progress.json").read_text()) == json.loads(account())
    damage(partial)
    counting.documents = 0
    token_store(data)
    assert counting.documents == 5
    assert content(cache) == expected


def test_after_starting_over_progress_is_kept_again(tmp_path, cache, counting):
    data = lines(tmp_path / "texts", b"one", b"two", b"three", b"four", b"five")
    partial = stopped(cache, data, after=3)
    damaged("meta.json", account(documents=5))(partial)
    stopped(cache, data, after=2)
    counting.documents = 0
    token_store(data)
    assert counting.documents == 3


def test_a_damaged_tokenizer_of_a_stopped_preparation(tmp_path, cache):
    data = lines(tmp_path / "texts", b"low lower", b"lowest", tokenizer=BPE)
    partial = stopped(cache, data, after=1)
    (partial / "tokenizer.json").write_bytes(b"{}")
    assert (
        failure(data) == f"data = '{partial}': tokenizer.json cannot be read: remove this folder, and it is made anew"
    )


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Returns a folder with a corpus and caches, and what the processes did that made these."""
    folder = tmp_path_factory.mktemp("killed")
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefgh", k=draw.randint(1, 9))) for _ in range(1000)]
    texts = (" ".join(draw.choices(words, k=draw.randint(1, 30))) for _ in range(300))
    (folder / "corpus.txt").write_text("\n".join(texts))
    script = [sys.executable, "-m", killing.__name__, str(folder)]
    root = Path(killing.__file__).parents[2]
    done = subprocess.run(script, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


@pytest.mark.parametrize(("cache", "tokenizer"), [("bytes", "bytes"), ("bpe", {"kind": "bpe", "vocabulary": 1000})])
def test_killing_a_preparation_loses_nothing_that_was_kept(killed, tmp_path, monkeypatch, cache, tokenizer):
    folder, outcomes = killed
    data = TextData(source="text", files=str(folder / "*.txt"), documents="line", tokenizer=tokenizer)
    assert content(folder / cache) == undisturbed(monkeypatch, tmp_path, data)
    outcome = outcomes[cache]
    assert outcome["last"]["status"] == 0
    assert len(outcome["killed"]) >= 24
    assert {each["status"] for each in outcome["killed"]} == {-9}
    assert not any(state["complete"] for state in outcome["states"])
    kept = [state["kept"] for state in outcome["states"]]
    assert kept == sorted(kept)
    assert len(set(kept)) > 5
    assert 0 < kept[-1] < 300
    whole = outcomes["both"][0]["steps"]["k"]
    chunks = sum(each["steps"].get("k", 0) for each in (*outcome["killed"], outcome["last"]))
    assert whole - len(outcome["killed"]) <= chunks <= whole


def test_killing_the_training_of_a_tokenizer_starts_it_again(killed):
    _, outcomes = killed
    states = [state["tokenizer"] for state in outcomes["bpe"]["states"]]
    assert states == sorted(states)
    trainings = [each["steps"].get("t", 0) for each in outcomes["bpe"]["killed"]]
    assert sum(trainings) >= 2
    assert all(training == 0 for training, before in zip(trainings[1:], states[:-1], strict=True) if before)


def test_of_two_processes_one_waits_while_the_other_makes_the_store(killed, tmp_path, monkeypatch):
    folder, outcomes = killed
    data = TextData(source="text", files=str(folder / "*.txt"), documents="line")
    first, second = outcomes["both"]
    assert (first["status"], second["status"]) == (0, 0)
    assert first["steps"]["k"] > 3
    assert second["steps"] == {"w": 1}
    assert content(folder / "both") == undisturbed(monkeypatch, tmp_path, data)


def test_who_waits_for_a_process_that_is_killed_goes_on_where_it_was(killed, tmp_path, monkeypatch):
    folder, outcomes = killed
    data = TextData(source="text", files=str(folder / "*.txt"), documents="line")
    first, second = outcomes["heir"]
    whole = outcomes["both"][0]["steps"]["k"]
    assert (first["status"], first["steps"]["k"]) == (-9, 3)
    assert (second["status"], second["steps"]["w"], second["steps"]["k"]) == (0, 1, whole - 3)
    assert content(folder / "heir") == undisturbed(monkeypatch, tmp_path, data)


def test_of_two_threads_one_waits_while_the_other_makes_the_store(tmp_path, cache, monkeypatch):
    readings: list[str] = []
    waits = threading.Event()

    def documents() -> Iterator[TextDocument]:
        readings.append("once")
        assert waits.wait(timeout=20)
        yield TextDocument(b"one", "", "")

    def progress(doing: str, *_: object) -> None:
        if doing == "waiting for another process that prepares the same tokens":
            waits.set()

    monkeypatch.setattr(store, "open_corpus", lambda data: corpus(documents))
    data = lines(tmp_path / "texts", b"")
    made: list[TokenStore] = []
    threads = [threading.Thread(target=lambda: made.append(token_store(data, progress))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert readings == ["once"]
    assert [each.tokens.tolist() for each in made] == [[*b"one", 256]] * 2


def test_a_full_disk_is_one_error_and_what_was_kept_stays(tmp_path, cache, counting, monkeypatch):
    data = lines(tmp_path / "texts", b"one", b"two", b"three", b"four", b"five")
    expected = undisturbed(monkeypatch, tmp_path / "undisturbed", data)
    partial = stopped(cache, data, after=3)
    before = content(cache)
    temporary = partial / ".full.tmp"
    temporary.symlink_to("/dev/full")
    with monkeypatch.context() as patch:
        patch.setattr(uuid, "uuid4", lambda: SimpleNamespace(hex="full"))
        message = failure(data)
    assert message == (
        f"data = '{partial.with_suffix('')}': tokens cannot be written (No space left on device): make room and start "
        "again, which goes on from what has been kept, or set TARDIGRAD_CACHE to another folder"
    )
    assert not temporary.is_symlink()
    after = content(cache)
    assert after.keys() == before.keys()
    assert all(after[name].startswith(before[name]) for name in before)
    counting.documents = 0
    token_store(data)
    assert counting.documents == 2
    assert content(cache) == expected


@pytest.mark.parametrize(("limit", "fit"), [(300, 5), (1000, 16)])
def test_a_file_that_may_not_grow_is_one_error_and_what_was_kept_stays(
    tmp_path, cache, counting, monkeypatch, limit, fit
):
    data = lines(tmp_path / "texts", *[b"x" * 29] * 20)
    expected = undisturbed(monkeypatch, tmp_path / "undisturbed", data)
    usual, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    try:
        message = failure(data, chunk_bytes=ONE_BY_ONE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (usual, most))
    (partial,) = cache.glob("tokens/*.partial")
    assert message == (
        f"data = '{partial.with_suffix('')}': tokens cannot be written (File too large): make room and start again, "
        "which goes on from what has been kept, or set TARDIGRAD_CACHE to another folder"
    )
    assert json.loads((partial / "progress.json").read_text())["documents"] == fit
    counting.documents = 0
    token_store(data)
    assert counting.documents == 20 - fit
    assert content(cache) == expected


def test_a_cache_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    data = lines(tmp_path / "texts", b"one")
    in_cache(monkeypatch, tmp_path / "texts" / "corpus.txt")
    assert re.fullmatch(
        rf"data = '{tmp_path}/texts/corpus\.txt/tokens/[0-9a-f]{{24}}': tokens cannot be written \(Not a directory\): "
        "make it a folder that can be written to, or set TARDIGRAD_CACHE to another folder",
        failure(data),
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_store_in_a_folder_that_cannot_be_written_to_is_read(tmp_path, cache):
    data = lines(tmp_path / "texts", b"one")
    token_store(data)
    for path in (cache, *cache.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert token_store(data).tokens.tolist() == [*b"one", 256]
    finally:
        for path in (cache, *cache.rglob("*")):
            path.chmod(0o755)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("meta.json", b'{"format": 0}', "was written by another version (its format is 0, not 2)"),
        ("meta.json", b'{"format": "3", "more": 1}', "was written by another version (its format is 3, not 2)"),
        ("meta.json", b"", "meta.json is damaged"),
        ("meta.json", b"\xff", "meta.json is damaged"),
        ("meta.json", b"[]", "meta.json is damaged"),
        ("meta.json", b'{"documents": 1}', "meta.json is damaged"),
        ("meta.json", b'{"format": 2, "documents": 1}', "meta.json is damaged"),
        ("meta.json", b'{"format": 2, "vocabulary": null}', "meta.json is damaged"),
        ("meta.json", b'{"format": 2, "checksum": 0}', "meta.json is damaged"),
        ("tokens.bin", b"12345678", "tokens.bin is not what was written to it (its checksum differs)"),
        ("lengths.bin", b"12345678", "lengths.bin is not what was written to it (its checksum differs)"),
        ("groups.bin", b"1234", "groups.bin is not what was written to it (its checksum differs)"),
        ("tokens.bin", b"1234567", "tokens.bin is not as long as meta.json says"),
        ("tokens.bin", b"123456789", "tokens.bin is not as long as meta.json says"),
        ("lengths.bin", b"", "lengths.bin is not as long as meta.json says"),
        ("groups.bin", None, "groups.bin is not as long as meta.json says"),
    ],
)
def test_a_store_that_is_damaged_or_of_another_version_is_to_be_removed(tmp_path, cache, name, content, reason):
    data = lines(tmp_path / "texts", b"one")
    folder = token_store(data).folder
    assert (folder / "tokens.bin").stat().st_size == 8
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    assert failure(data) == f"data = '{folder}': {reason}: remove this folder, and it is made anew"
    shutil.rmtree(folder)
    assert token_store(data).tokens.tolist() == [*b"one", 256]


def test_any_byte_that_changes_is_noticed(tmp_path, cache):
    data = lines(tmp_path / "texts", b"low lower", b"lowest", tokenizer=BPE)
    folder = token_store(data).folder
    whole = content(cache)
    for path in sorted(folder.iterdir()):
        good = path.read_bytes()
        for place in range(0, len(good), 1 + len(good) // 7):
            with open(path, "r+b") as file:
                file.seek(place)
                file.write(bytes([good[place] ^ 1]))
            assert f"data = '{folder}': {path.name} " in failure(data) or path.name == "meta.json"
            assert re.search(r": remove this folder, and it is made anew$", failure(data))
            path.write_bytes(good)
            token_store(data)
    assert content(cache) == whole


def test_what_is_as_it_was_is_not_read_again_and_what_may_not_be_is(tmp_path, cache, monkeypatch):
    data = lines(tmp_path / "texts", b"one", b"two")
    folder = token_store(data).folder
    read: list[int] = []
    monkeypatch.setattr(
        checksums, "checksum", lambda part, before=0: read.append(len(part)) or zlib.crc32(part, before)
    )
    token_store(data)
    assert read == []
    tokens = folder / "tokens.bin"
    good, changed = tokens.read_bytes(), tokens.stat().st_mtime_ns
    tokens.write_bytes(b"?" * len(good))
    os.utime(tokens, ns=(changed, changed))  # as if it had not been written to
    assert "tokens.bin is not what was written to it" in failure(data)
    tokens.write_bytes(good)
    assert token_store(data).tokens.tolist() == [*b"one", 256, *b"two", 256]
    read.clear()
    token_store(data)
    assert read == []
    folder.with_suffix(".checked").write_bytes(b"{")
    token_store(data)
    assert sum(read) == sum(path.stat().st_size for path in folder.glob("*.bin"))


def test_a_store_that_was_copied_is_read_once(tmp_path, cache, monkeypatch):
    data = lines(tmp_path / "texts", b"one", b"two")
    token_store(data)
    shutil.copytree(cache, tmp_path / "copy")
    in_cache(monkeypatch, tmp_path / "copy")
    told: list[object] = []
    monkeypatch.setattr(checksums, "_REPORTED", 1)
    token_store(data, lambda *news: told.append(news))
    assert {doing for doing, *_ in told} == {"checking the tokens"}
    assert [done for _, done, _, _ in told] == [32, 40]
    told.clear()
    token_store(data, lambda *news: told.append(news))
    assert told == []


def test_a_store_whose_description_cannot_be_read(tmp_path, cache):
    data = lines(tmp_path / "texts", b"one")
    folder = token_store(data).folder
    (folder / "meta.json").unlink()
    (folder / "meta.json").mkdir()
    assert failure(data) == (
        f"data = '{folder}': meta.json cannot be read (Is a directory): remove this folder, and it is made anew"
    )


def test_a_folder_without_a_description_is_replaced(tmp_path, cache):
    data = lines(tmp_path / "texts", b"one")
    folder = token_store(data).folder
    (folder / "meta.json").unlink()
    (folder / "tokens.bin").write_bytes(b"?")
    assert token_store(data).tokens.tolist() == [*b"one", 256]


def test_the_cache_folder_is_the_chosen_one_or_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.chdir(tmp_path)
    for variables, expected in (
        ({"TARDIGRAD_CACHE": "/big/disk", "XDG_CACHE_HOME": "/x"}, "/big/disk"),
        ({"TARDIGRAD_CACHE": "~/disk"}, "/home/ada/disk"),
        ({"TARDIGRAD_CACHE": "here"}, f"{tmp_path}/here"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/tardigrad"),
        ({"TARDIGRAD_CACHE": "", "XDG_CACHE_HOME": ""}, "/home/ada/.cache/tardigrad"),
        ({}, "/home/ada/.cache/tardigrad"),
    ):
        for name in ("TARDIGRAD_CACHE", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert str(cache_folder()) == expected
    monkeypatch.setenv("TARDIGRAD_CACHE", "~no-such-user/x")
    with pytest.raises(SettingError, match=r"^TARDIGRAD_CACHE = '~no-such-user/x': there is no such home folder"):
        cache_folder()

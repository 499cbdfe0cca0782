"""The token store: a source's tokens in memory-mapped files, made once and named by a hash of all that determines them.

    TARDIGRAD_CACHE (or ~/.cache/tardigrad)/
      tokens/KEY/           complete: meta.json, tokens.bin, lengths.bin, groups.bin, and tokenizer.json if trained
      tokens/KEY.partial/   being made, or left by a preparation that was stopped; progress.json says how far it came
      tokens/KEY.checked    when its files were last compared with their checksums
      tokens/KEY.lock       held while it is being made

A stopped preparation resumes where it last wrote `progress.json`: it reads the source again from the start, but
tokenises only what is missing.
"""

import errno
import hashlib
import importlib.metadata
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.data.checksums import changed_file, checksum
from simulator.data.progress import PrepareProgress, silent
from simulator.data.sources import Corpus, TextDocument, open_corpus
from simulator.data.tokenizers import Encoded, Encoder, HuggingFace, ready, token_dtype, train_bpe
from simulator.experiment.schema.data import DocumentData, TrainedTokenizer
from simulator.host.cache_folder import cache_folder
from simulator.host.errors import SettingError
from simulator.host.files import locked, put, write_file

FORMAT = 2
CHUNK_BYTES = 4_000_000
_OFTEN = 1000  # documents
_PER_DOCUMENT = 200  # bytes that it takes in memory beside its text
_META, _PROGRESS, _TOKENIZER = "meta.json", "progress.json", "tokenizer.json"
_COUNTS = ("documents", "tokens", "bytes")
_COLUMNS = {"tokens": "tokens", "lengths": "documents", "groups": "documents"}
"""The files, and what they hold one entry for each of."""


@dataclass(frozen=True)
class TokenStore:
    """The documents of a source as tokens, in the source's order.

    Attributes:
        folder: that holds it.
        meta: documents, tokens, bytes, vocabulary, end_of_document, tokenizer_hash, content_hash, facts, the checksums
            of the other files, and the key from which the folder's name is made.
    """

    folder: Path
    meta: Mapping[str, Any]

    @cached_property
    def tokens(self) -> npt.NDArray[Any]:
        """Token ids [N], memory-mapped."""
        mapped = np.memmap(self.folder / "tokens.bin", token_dtype(self.meta["vocabulary"]), mode="r")
        return mapped.view(np.ndarray)  # of which slices are cheaper

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each document, int64 [D], the one that ends it included."""
        return np.fromfile(self.folder / "lengths.bin", "<i8")

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """Start of each document, int64 [D]."""
        return np.cumsum(self.lengths) - self.lengths

    @cached_property
    def groups(self) -> npt.NDArray[np.int32]:
        """Each document's group, int32 [D], numbered as they first came."""
        return np.fromfile(self.folder / "groups.bin", "<i4")

    def document(self, index: int) -> npt.NDArray[Any]:
        """Returns the tokens of one document, with the one that ends it."""
        start = int(self.starts[index])
        return self.tokens[start : start + int(self.lengths[index])]


def token_store(
    data: DocumentData, progress: PrepareProgress | None = None, *, chunk_bytes: int = CHUNK_BYTES
) -> TokenStore:
    """Returns the tokens of a `data` section, made now if they are not in the cache folder.

    Args:
        data: the section.
        progress: called with the progress.
        chunk_bytes: memory for the documents that are tokenised, and then kept whatever happens, at a time; twice as
            much is used, as the next ones are read meanwhile.

    Raises:
        SettingError: the source cannot be read or holds no text, the tokenizer does not fit it, the disk is full, or
            the store in the cache folder is damaged or of another version.
    """
    corpus = open_corpus(data)
    encoder = ready(data.tokenizer)
    key = _key(data, corpus, encoder)
    folder = cache_folder() / "tokens" / hashlib.sha256(_json(key)).hexdigest()[:24]
    report = progress or silent
    if not _made(folder):
        with _alone(folder, report):
            if not _made(folder):  # else another process has made it in the meantime
                _Preparation(data, corpus, encoder, key, folder, report, chunk_bytes).run()
    return _opened(folder, report)


def encoder_of(data: DocumentData, store: TokenStore) -> Encoder:
    """Returns the tokenizer that a store was made with."""
    return ready(data.tokenizer) or _kept_tokenizer(store.folder)


def _kept_tokenizer(folder: Path) -> HuggingFace:
    try:
        return HuggingFace((folder / _TOKENIZER).read_bytes(), str(folder / _TOKENIZER))
    except (OSError, SettingError) as error:
        raise _damaged(folder, f"{_TOKENIZER} cannot be read") from error


def _key(data: DocumentData, corpus: Corpus, encoder: Encoder | None) -> dict[str, Any]:
    """Returns all that determines a store's content."""
    trained = [data.tokenizer.model_dump(mode="json"), importlib.metadata.version("tokenizers")]
    return {"format": FORMAT, "source": corpus.fingerprint, "tokenizer": encoder.hash if encoder else trained}


def _made(folder: Path) -> bool:
    with writing(folder):
        return (folder / _META).exists()


def _opened(folder: Path, report: PrepareProgress) -> TokenStore:
    meta = _meta(folder)
    for path, size in _sizes(folder, meta, meta["vocabulary"]).items():
        if not path.exists() or path.stat().st_size != size:
            raise _damaged(folder, f"{path.name} is not as long as {_META} says")
    changed = changed_file(folder, meta["checksums"], report)
    if changed is not None:
        raise _damaged(folder, f"{changed} is not what was written to it (its checksum differs)")
    return TokenStore(folder, meta)


def _meta(folder: Path) -> Mapping[str, Any]:
    """Returns a store's description, whose own checksum is that of the rest of it."""
    try:
        meta = json.loads((folder / _META).read_text(encoding="utf-8"))
        found = meta["format"]
        whole = found != FORMAT or meta.pop("checksum") == checksum(_json(meta))
    except OSError as error:
        raise _damaged(folder, f"{_META} cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged(folder, f"{_META} is damaged") from error
    if found != FORMAT:
        raise _damaged(folder, f"was written by another version (its format is {found}, not {FORMAT})")
    if not whole:
        raise _damaged(folder, f"{_META} is damaged")
    return dict(meta)


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _damaged(folder: Path, what: str) -> SettingError:
    return SettingError("data", str(folder), f"{what}: remove this folder, and it is made anew")


def _dtype(column: str, vocabulary: int) -> np.dtype[Any]:
    return np.dtype({"lengths": "<i8", "groups": "<i4"}.get(column) or token_dtype(vocabulary))


def _sizes(folder: Path, counts: Mapping[str, int], vocabulary: int) -> dict[Path, int]:
    """Returns the bytes of every column's file."""
    bytes_of = {name: counts[what] * _dtype(name, vocabulary).itemsize for name, what in _COLUMNS.items()}
    return {folder / f"{name}.bin": size for name, size in bytes_of.items()}


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns errors of the operating system into a SettingError with the remedy; saved parts stay."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            remedy = "make room and start again, which goes on from what has been kept"
        else:
            remedy = "make it a folder that can be written to"
        message = f"tokens cannot be written ({error.strerror or error}): {remedy}, or set TARDIGRAD_CACHE"
        raise SettingError("data", str(folder), f"{message} to another folder") from error


@contextmanager
def _alone(folder: Path, report: PrepareProgress) -> Iterator[None]:
    with ExitStack() as stack:
        with writing(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            waiting = "waiting for another process that prepares the same tokens", 0, None, ""
            stack.enter_context(locked(folder.with_suffix(".lock"), lambda: report(*waiting)))
        yield


class _Preparation:
    def __init__(
        self,
        data: DocumentData,
        corpus: Corpus,
        encoder: Encoder | None,
        key: Mapping[str, Any],
        folder: Path,
        report: PrepareProgress,
        chunk_bytes: int,
    ):
        self._data, self._corpus, self._key = data, corpus, key
        self._folder, self._partial = folder, folder.with_suffix(".partial")
        self._report, self._chunk_bytes = report, chunk_bytes
        self._digest = hashlib.sha256()
        self._groups: dict[str, int] = {}
        self._kept = self._resumed()
        self._encoder = encoder or self._trained()

    def run(self) -> None:
        """Makes the missing parts, then the complete store visible at once."""
        self._cut()
        with ThreadPoolExecutor(1) as pool:  # reads on while a chunk is tokenised
            waiting: tuple[list[TextDocument], Future[Encoded]] | None = None
            for chunk in self._chunks(self._kept["documents"]):
                if waiting is not None:
                    self._keep(waiting[0], waiting[1].result())
                waiting = chunk, pool.submit(self._encoder.encode, chunk)
            if waiting is not None:
                self._keep(waiting[0], waiting[1].result())
        if not self._kept["documents"]:
            shutil.rmtree(self._partial, ignore_errors=True)
            raise self._corpus.empty
        if open_corpus(self._data).fingerprint != self._corpus.fingerprint:
            shutil.rmtree(self._partial, ignore_errors=True)
            message = "was changed while it was read, so its tokens may be of either state: start again"
            raise SettingError("data", self._data.source, message)
        self._finish()

    def _resumed(self) -> dict[str, Any]:
        """Returns the account of the saved parts; without a trustworthy one they are deleted."""
        with writing(self._folder):
            for name in (_META, _PROGRESS):
                kept = _account(self._partial / name)
                if kept is not None:
                    return kept
            if self._partial.exists():
                shutil.rmtree(self._partial)
            self._partial.mkdir()
            write_file(self._partial / _PROGRESS, _json(_nothing()))
        return _nothing()

    def _trained(self) -> Encoder:
        assert isinstance(self._data.tokenizer, TrainedTokenizer)
        path = self._partial / _TOKENIZER
        if not path.exists():
            self._report("training the tokenizer", 0, None, "")
            content = train_bpe(self._data.tokenizer, self._corpus.documents())
            with writing(self._folder):
                write_file(path, content)
        return _kept_tokenizer(self._partial)

    def _cut(self) -> None:
        """Cuts off data behind the last account; starts over if there are less than it says."""
        with writing(self._folder):
            sizes = _sizes(self._partial, self._kept, self._encoder.vocabulary)
            if any(size and (not path.exists() or path.stat().st_size < size) for path, size in sizes.items()):
                (self._partial / _META).unlink(missing_ok=True)
                self._kept, sizes = _nothing(), dict.fromkeys(sizes, 0)
            for path, size in sizes.items():
                with open(path, "ab") as file:
                    file.truncate(size)

    def _chunks(self, done: int) -> Iterator[list[TextDocument]]:
        """Yields chunks of the documents that are not tokenised yet; all documents are counted and hashed."""
        chunk: list[TextDocument] = []
        size = 0
        for number, document in enumerate(self._corpus.documents()):
            self._digest.update(len(document.text).to_bytes(8, "little"))
            self._digest.update(document.text)
            self._groups.setdefault(document.group, len(self._groups))
            if number < done:
                if number % _OFTEN == 0:
                    self._report("finding the place again", number, done, "documents")
                continue
            chunk.append(document)
            size += len(document.text) + _PER_DOCUMENT
            if size >= self._chunk_bytes:
                yield chunk
                chunk, size = [], 0
        if chunk:
            yield chunk

    def _keep(self, documents: list[TextDocument], encoded: Encoded) -> None:
        """Appends a chunk durably."""
        groups = np.array([self._groups[document.group] for document in documents])
        with writing(self._folder):
            for name, values in zip(_COLUMNS, (encoded.tokens, encoded.lengths, groups), strict=True):
                content = values.astype(_dtype(name, self._encoder.vocabulary), copy=False).data
                with open(self._partial / f"{name}.bin", "ab") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                self._kept["checksums"][f"{name}.bin"] = checksum(content, self._kept["checksums"][f"{name}.bin"])
            self._kept["documents"] += len(documents)
            self._kept["tokens"] += len(encoded.tokens)
            self._kept["bytes"] += sum(len(document.text) for document in documents)
            write_file(self._partial / _PROGRESS, _json(self._kept))
        self._report("tokenising", self._kept[self._corpus.unit], self._corpus.size, self._corpus.unit)

    def _finish(self) -> None:
        tokenizer = self._partial / _TOKENIZER
        if tokenizer.exists():
            self._kept["checksums"][_TOKENIZER] = checksum(tokenizer.read_bytes())
        meta = {
            **self._kept,
            "vocabulary": self._encoder.vocabulary,
            "end_of_document": self._encoder.end_of_document,
            "tokenizer_hash": self._encoder.hash,
            "content_hash": self._digest.hexdigest(),
            "facts": dict(self._corpus.facts),
            "key": self._key,
        }
        with writing(self._folder):
            whole = meta | {"checksum": checksum(_json(meta))}
            write_file(self._partial / _META, json.dumps(whole, indent=1).encode())
            for path in (self._partial / _PROGRESS, *self._partial.glob(".*.tmp")):  # of writes that were cut short
                path.unlink(missing_ok=True)
            put(self._partial, self._folder)  # in place of a folder without meta.json, which is not one of ours


def _nothing() -> dict[str, Any]:
    """Returns the account of an empty preparation: amounts, and the checksums of the columns."""
    return {"format": FORMAT, **dict.fromkeys(_COUNTS, 0), "checksums": {f"{name}.bin": 0 for name in _COLUMNS}}


def _account(path: Path) -> dict[str, Any] | None:
    """Returns the account that a file holds, None if there is none that can be trusted."""
    try:
        found = json.loads(path.read_bytes())
        counts = {name: int(found[name]) for name in _COUNTS}
        checksums = {name: int(found["checksums"][name]) for name in _nothing()["checksums"]}
        trusted = found["format"] == FORMAT and min(counts.values()) >= 0
        return {"format": FORMAT, **counts, "checksums": checksums} if trusted else None
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None

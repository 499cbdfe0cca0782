"""Tokenizers: from documents to token ids, each document followed by a token that ends it."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from simulator.data.sources import TextDocument
from simulator.experiment.schema.data import (
    ByteTokenizer,
    FileTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    TrainedTokenizer,
)
from simulator.host.errors import SettingError
from simulator.host.nearest import alike

END_OF_TEXT = "<|endoftext|>"
_SHOWN = 20  # special tokens in a message
_USUAL_ENDS = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>", "[EOS]", "<|eos|>", "[SEP]")


class Encoded(NamedTuple):
    """Documents as tokens, one after another.

    Attributes:
        tokens: token ids [N], of the smallest dtype that holds the vocabulary.
        lengths: int64 [D], tokens of each document, the one that ends it included.
    """

    tokens: npt.NDArray[Any]
    lengths: npt.NDArray[np.int64]


class Encoder(Protocol):
    """A tokenizer that is ready.

    Attributes:
        vocabulary: number of token ids.
        end_of_document: the id that follows every document.
        hash: sha256, in hexadecimal, of what determines the tokens.
    """

    vocabulary: int
    end_of_document: int
    hash: str

    def encode(self, documents: Sequence[TextDocument]) -> Encoded:
        """Returns the documents' tokens."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Returns readable text."""


def token_dtype(vocabulary: int) -> type[np.uint8] | type[np.uint16] | type[np.int32]:
    """Returns the smallest dtype that holds token ids 0 ... vocabulary - 1."""
    if vocabulary <= 2**8:
        return np.uint8
    return np.uint16 if vocabulary <= 2**16 else np.int32


class Bytes:
    """The bytes themselves."""

    end_of_document = 256
    vocabulary = 257
    hash = hashlib.sha256(b"bytes 0 ... 255, end of document 256").hexdigest()

    def encode(self, documents: Sequence[TextDocument]) -> Encoded:
        """Returns the documents' bytes, of any encoding."""
        lengths_D = np.array([len(document.text) + 1 for document in documents], np.int64)
        ends_D = np.cumsum(lengths_D) - 1
        tokens_N = np.empty(lengths_D.sum(), token_dtype(self.vocabulary))
        is_byte_N = np.ones(len(tokens_N), bool)
        is_byte_N[ends_D] = False
        tokens_N[is_byte_N] = np.frombuffer(b"".join(document.text for document in documents), np.uint8)
        tokens_N[ends_D] = self.end_of_document
        return Encoded(tokens_N, lengths_D)

    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the text; bytes that are not UTF-8 are replaced."""
        return bytes(token for token in tokens if token < 256).decode(errors="replace")


class HuggingFace:
    """A tokenizer of Hugging Face's tokenizers, which works on all cores.

    Text that looks like a special token stays text, unless the model itself has it as a piece, as Unigram models have.
    Padding, truncation, dropout and the special tokens that the file would add are left out.

    Args:
        content: of its tokenizer.json.
        path: where it was read, for messages.
        end: the token that follows every document; looked for among the usual names when absent.

    Raises:
        SettingError: it is no tokenizer, or has no such token.
    """

    def __init__(self, content: bytes, path: str, end: str | None = None):
        from tokenizers import Tokenizer as Tokens  # here and below: bytes need no library
        from tokenizers import models

        try:
            self._tokens = Tokens.from_buffer(content)
        except Exception as error:  # the library raises nothing more special
            message = f"this is no tokenizer.json ({error}): give one that Hugging Face's tokenizers has written"
            raise SettingError("data.tokenizer.path", path, message) from error
        self._tokens.no_padding()
        self._tokens.no_truncation()
        if isinstance(self._tokens.model, models.BPE):
            self._tokens.model.dropout = None
        self._path = path
        ids = self._tokens.get_vocab(with_added_tokens=True)
        added = [token.content for token in self._tokens.get_added_tokens_decoder().values()]
        found = _end(ids, added, path, end)
        self._tokens.add_special_tokens([found])  # which it may have without calling it special
        self._tokens.encode_special_tokens = True  # as text
        self.end_of_document: int = ids[found]
        self.vocabulary = max(ids.values()) + 1
        self.hash = hashlib.sha256(found.encode() + b"\0" + content).hexdigest()

    def encode(self, documents: Sequence[TextDocument]) -> Encoded:
        """Returns the documents' tokens."""
        texts = list(_decoded(documents))
        try:
            encodings = self._tokens.encode_batch_fast(texts, add_special_tokens=False)
        except Exception as error:  # the library raises nothing more special
            message = f"this tokenizer cannot encode the documents ({error}): give one that encodes any text"
            raise SettingError("data.tokenizer.path", self._path, message) from error
        return _joined((encoding.ids for encoding in encodings), self.end_of_document, self.vocabulary)

    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the text."""
        return str(self._tokens.decode([int(token) for token in tokens], skip_special_tokens=True))


def _end(ids: Mapping[str, int], added: Sequence[str], path: str, name: str | None) -> str:
    """Returns the token that is to follow every document."""
    if name is not None:
        if name in ids:
            return name
        shown = ", ".join(sorted(added)[:_SHOWN]) + (", ..." if len(added) > _SHOWN else "")
        close = alike(name, added)
        remedy = f"did you mean {close[0]!r}?" if close else f"its special tokens are {shown or 'none'}"
        raise SettingError("data.tokenizer.end_of_document", name, f"{path} has no such token: {remedy}")
    found = next((usual for usual in _USUAL_ENDS if usual in ids), None)
    if found is None:
        message = f"is missing, and {path} has none of {', '.join(_USUAL_ENDS)}"
        raise SettingError(
            "data.tokenizer.end_of_document", None, f"{message}: name the token that is to follow every document"
        )
    return found


class SentencePiece:
    """A SentencePiece model.

    Raises:
        SettingError: the library is not installed, or the file is no model, or one without an end of sentence.
    """

    def __init__(self, content: bytes, path: str):
        try:
            from sentencepiece import SentencePieceProcessor
        except ImportError as error:
            message = "needs the library sentencepiece: install it with `pip install 'tardigrad[sentencepiece]'`"
            raise SettingError("data.tokenizer.kind", "sentencepiece", message) from error
        self._pieces = SentencePieceProcessor()
        try:
            self._pieces.LoadFromSerializedProto(content)
        except RuntimeError as error:
            message = "this is no SentencePiece model: give the .model file that its trainer has written"
            raise SettingError("data.tokenizer.path", path, message) from error
        self.end_of_document: int = self._pieces.eos_id()
        if self.end_of_document < 0:
            message = "this model has no end of sentence, which is to follow every document: train it with eos_id"
            raise SettingError("data.tokenizer.path", path, message)
        self.vocabulary: int = self._pieces.vocab_size()
        self.hash = hashlib.sha256(content).hexdigest()

    def encode(self, documents: Sequence[TextDocument]) -> Encoded:
        """Returns the documents' pieces."""
        return _joined(
            self._pieces.encode(list(_decoded(documents)), num_threads=-1), self.end_of_document, self.vocabulary
        )

    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the text."""
        return str(self._pieces.decode([int(token) for token in tokens]))


def _decoded(documents: Iterable[TextDocument]) -> Iterator[str]:
    for document in documents:
        try:
            yield document.text.decode()
        except UnicodeDecodeError as error:
            raise SettingError(
                "data.tokenizer",
                document.place,
                f"this document is not valid UTF-8 (byte {error.start + 1}: {document.text[error.start]:#04x}): "
                "convert it, leave it out, or use tokenizer: bytes, which reads anything",
            ) from error


def _joined(ids: Iterable[Sequence[int]], end: int, vocabulary: int) -> Encoded:
    lengths: list[int] = []

    def pieces() -> Iterator[Sequence[int]]:
        for document in ids:
            lengths.append(len(document) + 1)
            yield document
            yield (end,)

    tokens_N = np.fromiter(chain.from_iterable(pieces()), token_dtype(vocabulary))
    return Encoded(tokens_N, np.array(lengths, np.int64))


def train_bpe(settings: TrainedTokenizer, documents: Iterable[TextDocument]) -> bytes:
    """Trains byte-level BPE on the first documents, as many as the settings say; the same ones give the same result.

    Args:
        settings: size of the vocabulary, and how much to train on.
        documents: the source's.

    Returns:
        The content of a tokenizer.json.
    """
    from tokenizers import Tokenizer as Tokens
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokens = Tokens(models.BPE())
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokens.train_from_iterator(_decoded(_first(documents, settings.train_megabytes * 1e6)), trainer)
    return str(tokens.to_str()).encode()


def _first(documents: Iterable[TextDocument], size: float) -> Iterator[TextDocument]:
    for document in documents:
        yield document
        size -= len(document.text)
        if size <= 0:
            return


def ready(settings: Tokenizer) -> Encoder | None:
    """Returns the tokenizer, None where it has to be trained first.

    Raises:
        SettingError: its file cannot be read, or is none.
    """
    match settings:
        case ByteTokenizer():
            return Bytes()
        case FileTokenizer():
            return HuggingFace(_content(settings.path), settings.path, settings.end_of_document)
        case SentencePieceTokenizer():
            return SentencePiece(_content(settings.path), settings.path)
        case TrainedTokenizer():
            return None


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        message = f"this file cannot be read ({error.strerror}): check the path"
        raise SettingError("data.tokenizer.path", path, message) from error

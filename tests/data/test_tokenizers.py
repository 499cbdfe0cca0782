import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Tokens

from simulator.data.sources import TextDocument
from simulator.data.tokenizers import Bytes, Encoder, HuggingFace, ready, token_dtype, train_bpe
from simulator.experiment.schema.data import ByteTokenizer, FileTokenizer, SentencePieceTokenizer, TrainedTokenizer
from simulator.host.errors import SettingError

PROSE = [
    "low lower lowest; new newer newest; wide wider widest",
    "  a slow newt, a low tide\n\n\twider than the widest",
    "Grüße, señor! 東京の本 🐻‍❄️ naïve café",
]
NOT_A_MODEL = [b"", b"garbage", bytes(range(256)), b'{"model": {}}']


def documents(*texts: str | bytes) -> list[TextDocument]:
    return [
        TextDocument(text.encode() if isinstance(text, str) else text, "", f"corpus.txt, line {number}")
        for number, text in enumerate(texts, start=1)
    ]


def trained(vocabulary: int = 300, texts: list[str] = PROSE, megabytes: float = 1.0) -> bytes:
    settings = TrainedTokenizer(kind="bpe", vocabulary=vocabulary, train_megabytes=megabytes)
    return train_bpe(settings, documents(*texts))


def words(*names: str) -> dict[str, Any]:
    """Returns the content of a tokenizer.json that knows these words, numbered from 0."""
    tokens = Tokens(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token=names[0]))
    tokens.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    content: dict[str, Any] = json.loads(tokens.to_str())
    return content


def written(folder: Path, content: dict[str, Any] | bytes) -> str:
    path = folder / "tokenizer.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return str(path)


def from_file(path: str, end: str | None = None) -> Encoder:
    encoder = ready(FileTokenizer(kind="file", path=path, end_of_document=end))
    assert encoder is not None
    return encoder


def encoded(encoder: Encoder, *texts: str | bytes) -> list[list[int]]:
    tokens, lengths = encoder.encode(documents(*texts))
    assert tokens.dtype == token_dtype(encoder.vocabulary)
    assert lengths.dtype == np.int64
    assert lengths.sum() == len(tokens)
    return [piece.tolist() for piece in np.split(tokens, np.cumsum(lengths)[:-1])]


def message_of(tokenizer: FileTokenizer | SentencePieceTokenizer) -> str:
    with pytest.raises(SettingError) as caught:
        ready(tokenizer)
    return str(caught.value)


@pytest.fixture(scope="module")
def pieces() -> Iterator[Any]:
    """Trains a SentencePiece model and returns its content."""
    from sentencepiece import SentencePieceTrainer

    def train(**options: Any) -> bytes:
        model = io.BytesIO()
        SentencePieceTrainer.train(
            sentence_iterator=iter(["low lower lowest", "new newer newest", "</s>"] * 5),
            model_writer=model,
            vocab_size=24,
            model_type="bpe",
            minloglevel=2,
            **options,
        )
        return model.getvalue()

    return train


@pytest.fixture(scope="module")
def sentence_model(pieces: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("pieces") / "tiny.model"
    path.write_bytes(pieces())
    return str(path)


@pytest.mark.parametrize(
    ("vocabulary", "dtype"),
    [(2, np.uint8), (256, np.uint8), (257, np.uint16), (65536, np.uint16), (65537, np.int32), (262144, np.int32)],
)
def test_tokens_take_the_smallest_type_that_holds_the_vocabulary(vocabulary, dtype):
    assert token_dtype(vocabulary) is dtype


def test_bytes_are_their_own_tokens_and_256_ends_a_document():
    encoder = ready(ByteTokenizer(kind="bytes"))
    assert isinstance(encoder, Bytes)
    assert (encoder.vocabulary, encoder.end_of_document) == (257, 256)
    tokens, lengths = encoder.encode(documents("aé", b"\xff\x00", "b"))
    assert tokens.tolist() == [97, 195, 169, 256, 255, 0, 256, 98, 256]
    assert lengths.tolist() == [4, 3, 2]
    assert (tokens.dtype, lengths.dtype) == (np.uint16, np.int64)
    assert encoder.decode(tokens.tolist()) == "aé\ufffd\x00b"


def test_bpe_joins_the_pairs_that_are_most_frequent():
    encoder = HuggingFace(trained(vocabulary=259, texts=["ab ab ab ab cd cd cd abx"]), "tokenizer.json")
    # 0 is the end, 1 to 256 are the bytes in the order of their stand-ins ("!" is 1, "a" is 65, space is 221)
    assert (encoder.vocabulary, encoder.end_of_document) == (259, 0)
    assert encoded(encoder, "ab", "ba", "ab ab", "\x00") == [[257, 0], [66, 65, 0], [257, 258, 0], [189, 0]]


def test_bpe_has_the_vocabulary_that_was_asked_for_and_less_where_the_text_has_no_more_merges():
    for vocabulary, expected in ((257, 257), (260, 260), (300, 300)):
        encoder = HuggingFace(trained(vocabulary), "tokenizer.json")
        assert encoder.vocabulary == expected
        assert np.max(encoder.encode(documents(*PROSE)).tokens) < expected
    # "xyz" has the merges xy and xyz, and with the space before it only one more
    assert HuggingFace(trained(1000, ["xyz xyz"]), "tokenizer.json").vocabulary == 257 + 3


def test_bpe_is_trained_on_the_first_documents_only():
    texts = [name * 400 for name in ("ab ", "cd ", "ef ")]  # 1200 bytes each
    one, two, three = (trained(texts=texts[:number]) for number in (1, 2, 3))
    assert len({one, two, three}) == 3
    taken = [trained(texts=texts, megabytes=megabytes) for megabytes in (0.0001, 0.0012, 0.0013, 0.0024, 0.0025)]
    assert taken == [one, one, two, two, three]


def test_bpe_gives_back_any_text_and_never_joins_documents():
    encoder = HuggingFace(trained(), "tokenizer.json")
    texts = [*PROSE, "never seen: \x00\x7f\u2028 \U0010ffff e\u0301", " ", "\r\n\t", "lo", "w", "low"]
    apart = encoded(encoder, *texts)
    assert [encoder.decode(tokens) for tokens in apart] == texts
    assert [tokens[-1] for tokens in apart] == [0] * len(texts)
    assert all(0 not in tokens[:-1] for tokens in apart)
    assert [len(tokens) for tokens in apart[-3:]] == [2, 2, 2]


TRAIN = """
import sys
from simulator.data.sources import TextDocument
from simulator.data.tokenizers import train_bpe
from simulator.experiment.schema.data import TrainedTokenizer
texts = ["".join("abcdefgh "[i * i * seed % 9] for i in range(300)) for seed in range(1, 60)]
documents = [TextDocument(text.encode(), "", "") for text in texts]
sys.stdout.buffer.write(train_bpe(TrainedTokenizer(kind="bpe", vocabulary=400), documents))
"""


def test_bpe_is_the_same_in_every_process():
    trainings = [
        subprocess.Popen(
            [sys.executable, "-c", TRAIN],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads},
        )
        for seed, threads in (("1", "1"), ("2", "4"))
    ]
    first, second = (training.communicate()[0] for training in trainings)
    assert first == second
    assert HuggingFace(first, "tokenizer.json").vocabulary > 300


@pytest.mark.parametrize("special", [True, False])
def test_text_that_looks_like_the_end_of_a_document_stays_text(tmp_path, special):
    tokens = Tokens.from_str(trained(texts=["aa bb"]).decode())
    tokens.add_tokens([AddedToken("<eos>", special=special)])
    path = written(tmp_path, tokens.to_str().encode())
    for end in ("<|endoftext|>", "<eos>"):
        encoder = from_file(path, end)
        text = f"one {end} two{end}"
        (ids,) = encoded(encoder, text)
        assert ids.index(encoder.end_of_document) == len(ids) - 1
        assert encoder.decode(ids) == text


def test_a_file_that_training_has_made_gives_the_same_tokens(tmp_path):
    content = trained()
    encoder, again = HuggingFace(content, "here"), from_file(written(tmp_path, content))
    assert encoded(encoder, *PROSE) == encoded(again, *PROSE)
    assert (encoder.hash, encoder.vocabulary, encoder.end_of_document) == (
        again.hash,
        again.vocabulary,
        again.end_of_document,
    )


@pytest.mark.parametrize(
    ("names", "end", "expected"),
    [
        (["?", "low", "new", "</s>"], None, 3),
        (["?", "[SEP]", "low", "<eos>"], None, 3),
        (["<|endoftext|>", "low", "</s>"], None, 0),
        (["?", "low", "stop", "</s>"], "stop", 2),
    ],
)
def test_the_end_of_a_document_is_the_named_token_or_a_usual_one(tmp_path, names, end, expected):
    encoder = from_file(written(tmp_path, words(*names)), end)
    assert encoder.vocabulary == len(names)
    assert encoder.end_of_document == expected
    low = names.index("low")
    assert encoded(encoder, "low low", "low") == [[low, low, expected], [low, expected]]


def test_a_vocabulary_with_gaps_reaches_to_its_highest_id(tmp_path):
    content = words("?", "low", "</s>")
    content["model"]["vocab"] = {"?": 0, "low": 70_000, "</s>": 2}
    encoder = from_file(written(tmp_path, content))
    assert encoder.vocabulary == 70_001
    assert encoded(encoder, "low") == [[70_000, 2]]


def test_what_a_file_adds_cuts_fills_or_draws_changes_no_tokens(tmp_path):
    plain = trained()
    tokens = Tokens.from_str(plain.decode())
    tokens.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A <|endoftext|>", special_tokens=[("<|endoftext|>", 0)]
    )
    tokens.enable_padding(length=64, pad_token="<|endoftext|>")
    tokens.enable_truncation(4)
    content = json.loads(tokens.to_str())
    content["model"]["dropout"] = 0.9
    busy = from_file(written(tmp_path, content))
    expected = encoded(HuggingFace(plain, ""), *PROSE)
    assert encoded(busy, *PROSE) == expected
    assert encoded(busy, *PROSE) == expected


def test_a_file_without_an_end_lists_the_usual_ones(tmp_path):
    path = written(tmp_path, words("?", "low"))
    assert message_of(FileTokenizer(kind="file", path=path)) == (
        f"data.tokenizer.end_of_document: is missing, and {path} has none of <|endoftext|>, <|end_of_text|>, "
        "</s>, <eos>, [EOS], <|eos|>, [SEP]: name the token that is to follow every document"
    )


@pytest.mark.parametrize(
    ("special", "end", "remedy"),
    [
        (["<|endoftext|>", "<|pad|>"], "<endoftext>", "did you mean '<|endoftext|>'?"),
        (["<|stop|>", "<|pad|>"], "[EOS]", "its special tokens are <|pad|>, <|stop|>"),
        ([], "[EOS]", "its special tokens are none"),
        (["[1]"], "", "its special tokens are [1]"),
        (
            [f"[{number:02}]" for number in range(99)],
            "STOP",
            f"its special tokens are {', '.join(f'[{number:02}]' for number in range(20))}, ...",
        ),
    ],
)
def test_a_named_end_that_is_none_of_its_tokens(tmp_path, special, end, remedy):
    tokens = Tokens.from_str(json.dumps(words("?", "low")))
    tokens.add_special_tokens(special)
    path = written(tmp_path, tokens.to_str().encode())
    assert message_of(FileTokenizer(kind="file", path=path, end_of_document=end)) == (
        f"data.tokenizer.end_of_document = {end!r}: {path} has no such token: {remedy}"
    )


@pytest.mark.parametrize("content", [*NOT_A_MODEL, b"[]", trained()[:1000], trained().replace(b"low", b"\xff\xff", 1)])
def test_a_file_that_is_no_tokenizer_json(tmp_path, content):
    path = written(tmp_path, content)
    message = message_of(FileTokenizer(kind="file", path=path))
    assert re.fullmatch(
        rf"data\.tokenizer\.path = '{re.escape(path)}': this is no tokenizer\.json \(.+\): "
        "give one that Hugging Face's tokenizers has written",
        message,
    )


@pytest.mark.parametrize("kind", [FileTokenizer, SentencePieceTokenizer])
def test_a_file_that_cannot_be_read(tmp_path, kind):
    names = {FileTokenizer: "file", SentencePieceTokenizer: "sentencepiece"}
    for path, reason in ((tmp_path / "nowhere", "No such file or directory"), (tmp_path, "Is a directory")):
        assert message_of(kind(kind=names[kind], path=str(path))) == (
            f"data.tokenizer.path = '{path}': this file cannot be read ({reason}): check the path"
        )


def test_a_tokenizer_that_has_no_token_for_some_text(tmp_path):
    content = words("?", "low", "</s>")
    content["model"]["unk_token"] = "[UNK]"
    path = written(tmp_path, content)
    with pytest.raises(SettingError) as caught:
        from_file(path).encode(documents("low", "high"))
    assert str(caught.value) == (
        f"data.tokenizer.path = '{path}': this tokenizer cannot encode the documents (WordLevel error: "
        "Missing [UNK] token from the vocabulary): give one that encodes any text"
    )


def test_hashes_differ_where_tokens_differ(tmp_path, sentence_model):
    content = words("?", "low", "</s>", "<eos>")
    lower = Tokens.from_str(json.dumps(content))
    lower.normalizer = normalizers.Lowercase()
    hashes = [
        Bytes().hash,
        from_file(written(tmp_path, content)).hash,
        from_file(written(tmp_path, content), "<eos>").hash,
        from_file(written(tmp_path, words("?", "low", "<eos>", "</s>"))).hash,
        from_file(written(tmp_path, lower.to_str().encode())).hash,
        HuggingFace(trained(300), "").hash,
        HuggingFace(trained(299), "").hash,
        ready(SentencePieceTokenizer(kind="sentencepiece", path=sentence_model)).hash,
    ]
    assert len(set(hashes)) == len(hashes)
    assert all(re.fullmatch("[0-9a-f]{64}", each) for each in hashes)
    assert from_file(written(tmp_path, content), "</s>").hash == hashes[1]


def test_a_tokenizer_that_is_to_be_trained_is_not_ready():
    assert ready(TrainedTokenizer(kind="bpe")) is None


def test_sentencepiece_splits_documents_as_its_library_does(sentence_model):
    from sentencepiece import SentencePieceProcessor

    library = SentencePieceProcessor(model_file=sentence_model)
    encoder = ready(SentencePieceTokenizer(kind="sentencepiece", path=sentence_model))
    assert (encoder.vocabulary, encoder.end_of_document) == (24, 2)
    texts = ["lower low", "newest", "west </s> or west</s>"]
    apart = encoded(encoder, *texts)
    assert apart == [[*library.encode(text), 2] for text in texts]
    assert all(2 not in tokens[:-1] for tokens in apart)
    assert [encoder.decode(tokens) for tokens in apart[:2]] == texts[:2]


@pytest.mark.parametrize("content", NOT_A_MODEL)
def test_a_file_that_is_no_sentencepiece_model(tmp_path, content, capfd):
    path = written(tmp_path, content)
    assert message_of(SentencePieceTokenizer(kind="sentencepiece", path=path)) == (
        f"data.tokenizer.path = '{path}': this is no SentencePiece model: give the .model file that its trainer has "
        "written"
    )
    assert capfd.readouterr() == ("", "")


def test_a_sentencepiece_model_without_an_end(tmp_path, pieces):
    path = written(tmp_path, pieces(eos_id=-1))
    assert message_of(SentencePieceTokenizer(kind="sentencepiece", path=path)) == (
        f"data.tokenizer.path = '{path}': this model has no end of sentence, which is to follow every document: train "
        "it with eos_id"
    )


def test_sentencepiece_that_is_not_installed(sentence_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    assert message_of(SentencePieceTokenizer(kind="sentencepiece", path=sentence_model)) == (
        "data.tokenizer.kind = 'sentencepiece': needs the library sentencepiece: install it with "
        "`pip install 'tardigrad[sentencepiece]'`"
    )


def test_text_that_is_not_utf8_is_named_with_its_place_and_byte(sentence_model):
    settings = TrainedTokenizer(kind="bpe", vocabulary=300)
    texts = documents("fine", b"caf\xe9 au lait", "fine")
    readers = [
        HuggingFace(trained(), "").encode,
        ready(SentencePieceTokenizer(kind="sentencepiece", path=sentence_model)).encode,
        lambda texts: train_bpe(settings, texts),
    ]
    for read in readers:
        with pytest.raises(SettingError) as caught:
            read(texts)
        assert str(caught.value) == (
            "data.tokenizer = 'corpus.txt, line 2': this document is not valid UTF-8 (byte 4: 0xe9): convert it, "
            "leave it out, or use tokenizer: bytes, which reads anything"
        )

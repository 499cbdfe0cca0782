"""TensorFlow Datasets that have been prepared; array_record and Parquet files are read without TensorFlow."""

import errno
import hashlib
import importlib
import importlib.util
import itertools
import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from simulator.data.sources.corpus import Corpus, TextDocument, group_name, value_within
from simulator.data.sources.input_files import Stamp, open_parquet_file, stamp_of
from simulator.experiment.problems import nearest
from simulator.experiment.schema.data import TfdsData
from simulator.host.cache_folder import cache_folder
from simulator.host.errors import SettingError

_NAME = re.compile(r"\w+(/[\w.-]+)?(:(\d+|\*)(\.(\d+|\*)){2})?")
_FORMATS = ("array_record", "parquet", "tfrecord")  # the first that there is is read
_ROWS = 64  # read at a time
_COPIED = 2**24  # bytes at a time


def open_tfds(data: TfdsData, group_field: str | None = None) -> Corpus:
    """Returns the texts of one split of a prepared data set.

    Args:
        data: which one.
        group_field: feature by which documents are grouped; `meta.id` is the feature `id` of those under `meta`.
    """
    builder = _builder(data)
    file_format = _choose_format(builder.info, data)
    split = _split(builder.info, data)
    field = _text_feature(builder.info.features, data)
    if group_field is not None:
        _check_group(builder.info.features, group_field)
    wanted = _only(builder.info.features, [name for name in (field, group_field) if name is not None])
    nothing = f"all documents of {data.name} are empty: name another feature or split"
    with _reading(data):
        stamps = [_stamp(os.fspath(path)) for path in split.filepaths]

    def documents() -> Iterator[TextDocument]:
        for number, example in enumerate(_examples(split.file_instructions, file_format, wanted, data)):
            text = value_within(example, field)
            if text is not None and text.strip():
                group = "" if group_field is None else group_name(value_within(example, group_field))
                yield TextDocument(text, group, f"{data.name}, {data.split}, example {number}")

    return Corpus(
        fingerprint={
            "source": "tfds",
            "name": builder.info.full_name,
            "split": data.split,
            "field": field,
            "group": group_field,
            "files": stamps,
        },
        documents=documents,
        empty=SettingError("data.field", field, nothing),
        size=split.num_examples,
        unit="documents",
        facts={"tfds_name": builder.info.full_name},
    )


def _builder(data: TfdsData) -> Any:
    if not _NAME.fullmatch(data.name):
        message = "is no name of a data set: write one such as lm1b, c4/en or c4/en:3.1.0"
        raise SettingError("data.name", data.name, message)
    import tensorflow_datasets as tfds  # here and below: TFDS takes seconds to load

    folder = None if data.data_dir is None else os.path.expanduser(data.data_dir)
    where = folder or tfds.core.constants.DATA_DIR
    try:
        builder = tfds.builder(data.name, data_dir=folder, try_gcs=False)
    except tfds.core.DatasetNotFoundError as error:
        raise _not_prepared(data.name, where, known=False) from error
    except Exception as error:  # whatever a builder's own code raises
        remedy = "check name and version, or prepare it again"
        if _elsewhere(where):
            remedy = "check the address, which may begin with gs://, s3://, az:// or hf://, and install what reads it: "
            remedy += "gcsfs, s3fs, adlfs or huggingface_hub (with TensorFlow also set EPATH_USE_TF=false)"
        message = f"cannot be opened in {where} ({_reason(error)}): {remedy}"
        raise SettingError("data.name", data.name, message) from error
    if not builder.info.splits:
        raise _not_prepared(data.name, where, known=True)
    return builder


def _not_prepared(name: str, where: str, *, known: bool) -> SettingError:
    from etils import epath

    folder = epath.Path(where)
    infos = [path for depth in ("*/*", "*/*/*") for path in folder.glob(f"{depth}/dataset_info.json")]
    there = [path.parent.relative_to(folder).parts for path in infos]
    names = [f"{'/'.join(parts)}:{version}" for *parts, version in there]
    found = nearest(name, names) if names else "nothing is"
    remedy = "correct data.name or data.data_dir, or prepare it"
    if not known:
        remedy += " if it is one of TensorFlow Datasets' own, many of which are known only with the extra tf,"
    make = f"tfds.builder({name!r}, data_dir={where!r}, file_format='array_record').download_and_prepare()"
    message = f"is not prepared in {where} ({found}): {remedy} in Python: import tensorflow_datasets as tfds; {make}"
    return SettingError("data.name", name, message)


def _choose_format(info: Any, data: TfdsData) -> str:
    stored = {file_format.value for file_format in info.available_file_formats()}
    chosen = next((name for name in _FORMATS if name in stored), None)
    again = "prepare the data set again with tfds.builder(..., file_format='array_record')"
    if chosen is None:
        message = f"is stored as {', '.join(sorted(stored))} files, which are not read: {again}"
        raise SettingError("data.name", data.name, message)
    if chosen == "tfrecord" and importlib.util.find_spec("tensorflow") is None:
        raise SettingError(
            "data.name",
            data.name,
            "is stored as tfrecord files, which only TensorFlow reads: install it with `pip install 'tardigrad[tf]'`, "
            f"or {again}",
        )
    if info.file_format.value != chosen:
        info.set_file_format(chosen, override=True, override_if_initialized=True)
    return chosen


def _split(info: Any, data: TfdsData) -> Any:
    """Returns a split or parts of splits, none of which is empty; of a part that is too large TFDS has an error."""
    for part in data.split.split("+"):
        name = part.partition("[")[0].strip()
        try:
            examples = info.splits[part].num_examples
        except (AssertionError, KeyError, ValueError) as error:
            raise SettingError("data.split", data.split, _no_such_split(info, part, name)) from error
        if examples < 1:  # the difference of its ends
            remedy = f"write a part that is larger, and begins before it ends, such as {name}[:10%]"
            raise SettingError("data.split", data.split, f"{info.full_name} has no examples in {part}: {remedy}")
    return info.splits[data.split]


def _no_such_split(info: Any, part: str, name: str) -> str:
    if "[" in part and name in info.splits:
        remedy = f"write a part of them as {name}[:10%], {name}[5:20] or {name}[-5:]"
        return f"{info.full_name} has no {part}: {name} has {info.splits[name].num_examples:,} examples; {remedy}"
    names = [f"{each} ({split.num_examples:,} examples)" for each, split in info.splits.items()]
    some = f"{next(iter(info.splits))}[:10%]"
    return f"{info.full_name} has no such split: use one of {', '.join(names)}, or a part such as {some}"


def _text_feature(features: Any, data: TfdsData) -> str:
    kinds = _kinds(features)
    texts = [name for name, kind in kinds.items() if kind == "text"]
    listed = ", ".join(f"{name} ({kind})" for name, kind in kinds.items()) or "no named features"
    if data.field is not None:
        if data.field not in texts:
            what = "is no text" if data.field in kinds else "there is no such feature"
            raise SettingError("data.field", data.field, f"{what}: {data.name} has {listed}")
        return data.field
    if "text" in texts:
        return "text"
    if len(texts) == 1:
        return texts[0]
    if texts:
        raise SettingError("data.field", None, f"{data.name} has several texts: choose one of {', '.join(texts)}")
    raise SettingError("data.name", data.name, f"has no text feature, only {listed}: choose a data set with text")


def _check_group(features: Any, name: str) -> None:
    found = _named(features)
    if name not in found:
        raise SettingError("data.partition.groups.field", name, f"no such feature: {nearest(name, found)}")
    if not _is_single(found[name]):
        message = f"is no single value but {_kinds(features)[name]}: name a feature with one value per document"
        raise SettingError("data.partition.groups.field", name, message)


def _kinds(features: Any) -> dict[str, str]:
    """Returns the features by name, sorted, and their kinds: the data type of single values."""
    import numpy as np

    kinds = {}
    for name, feature in sorted(_named(features).items()):
        kinds[name] = type(feature).__name__
        if _is_single(feature):
            dtype = np.dtype(feature.np_dtype)
            kinds[name] = "text" if dtype == np.dtype(object) else dtype.name
    return kinds


def _named(features: Any) -> dict[str, Any]:
    """Returns the features by name, those under a name behind it and a dot."""
    from tensorflow_datasets.core.features import FeaturesDict

    named = {}
    for name, feature in features.items() if isinstance(features, FeaturesDict) else ():
        named[name] = feature
        named |= {f"{name}.{inner}": each for inner, each in _named(feature).items()}
    return named


def _is_single(feature: Any) -> bool:
    return bool(feature.shape == ())


def _only(features: Any, names: Collection[str]) -> Any:
    """Returns some features alone, each where it is."""
    from tensorflow_datasets.core.features import FeaturesDict

    inner: dict[str, list[str]] = {}
    for name in names:
        first, _, rest = (name, "", "") if name in features else name.partition(".")
        inner.setdefault(first, []).append(rest)
    return FeaturesDict(
        {name: _only(features[name], rests) if all(rests) else features[name] for name, rests in inner.items()}
    )


def _stamp(path: str) -> Stamp:
    """Returns the stamp of a file here or elsewhere."""
    if not _elsewhere(path):
        return stamp_of(path)
    from etils import epath

    with _reached(path):
        status = epath.Path(path).stat()
        changed = int(status.mtime * 1e9) or _mark(path)
    return path, status.length, changed


def _mark(path: str) -> int:
    """Returns a version mark, such as an ETag, of a file whose storage tells epath no times."""
    import fsspec

    storage, place = fsspec.core.url_to_fs(path)
    return int.from_bytes(hashlib.sha256(str(storage.ukey(place)).encode()).digest()[:7], "little")


def _examples(parts: Any, file_format: str, features: Any, data: TfdsData) -> Iterator[dict[str, Any]]:
    with _reading(data):
        for part in parts:
            read = 0
            for record in _records(part, file_format):
                yield features.deserialize_example_np(record)
                read += 1
            if read != part.take:
                raise EOFError(f"{part.filename} holds {part.take - read} examples less than it should")


def _records(part: Any, file_format: str) -> Iterator[bytes]:
    """Yields the examples of a part of a file, serialized."""
    match file_format:
        case "array_record":
            reader = importlib.import_module("array_record.python.array_record_data_source")
            with _nearby(part.filename) as path, reader.ArrayRecordDataSource([part.replace(filename=path)]) as source:
                for first in range(0, len(source), _ROWS):
                    yield from source.__getitems__(range(first, min(first + _ROWS, len(source))))
        case "parquet":
            with _nearby(part.filename) as path, open_parquet_file(path) as file:
                values = itertools.chain.from_iterable(batch.column(0) for batch in file.iter_batches(_ROWS))
                for value in itertools.islice(values, part.skip, part.skip + part.take):
                    yield value.as_py()
        case _:
            tf = importlib.import_module("tensorflow")
            with suppress(RuntimeError):  # TensorFlow is at work already
                tf.config.set_visible_devices([], "GPU")  # it would take the memory that JAX needs
            with _nearby(part.filename) as path:
                yield from tf.data.TFRecordDataset(path).skip(part.skip).take(part.take).as_numpy_iterator()


def _elsewhere(path: str) -> bool:
    return "://" in path


@contextmanager
def _nearby(path: str) -> Iterator[str]:
    """Yields a path that can be opened: of a file that is elsewhere that of a copy, removed afterwards."""
    if not _elsewhere(path):
        yield path
        return
    from etils import epath

    copy = cache_folder() / "remote" / hashlib.sha256(path.encode()).hexdigest()[:24] / path.rsplit("/", 1)[1]
    try:
        with _reached(path), epath.Path(path).open("rb") as there:
            copy.parent.mkdir(parents=True, exist_ok=True)
            with copy.open("wb") as here:  # in place of what a process that was killed has left
                shutil.copyfileobj(there, here, _COPIED)
        yield str(copy)
    finally:
        shutil.rmtree(copy.parent, ignore_errors=True)


@contextmanager
def _reached(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = f"make room in {cache_folder()}, where it is copied to" if full else "check network and rights"
        message = f"this file cannot be copied ({_reason(error)}): {remedy}, and start again"
        raise SettingError("data.data_dir", path, message) from error


@contextmanager
def _reading(data: TfdsData) -> Iterator[None]:
    try:
        yield
    except (SettingError, MemoryError):
        raise
    except Exception as error:
        message = f"its files are damaged or incomplete ({_reason(error)}): prepare it again, as array_record files"
        raise SettingError("data.name", data.name, message) from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return re.sub(r"^Failed to construct dataset .*?\}\": ", "", text)[:300]

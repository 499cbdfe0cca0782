"""The `data` section of an experiment file: where text comes from, how it becomes tokens, who learns from what."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from simulator.experiment.schema.section import ConflictError, Conflicts, Section
from simulator.experiment.schema.units import Fraction, Members, Positive, PositiveInt


class ByteTokenizer(Section):
    """Token ids 0 to 255 are bytes, 256 ends a document. Reads any bytes, text or not."""

    kind: Literal["bytes"]


class FileTokenizer(Section):
    """A `tokenizer.json` as Hugging Face's tokenizers writes it."""

    kind: Literal["file"]
    path: str = Field(description="the file, relative to the experiment file", examples=["tokenizer.json"])
    end_of_document: str | None = Field(
        None,
        description="the token that follows every document; found among the usual names when absent",
        examples=["<|endoftext|>"],
    )


class SentencePieceTokenizer(Section):
    """A SentencePiece model; needs the extra `sentencepiece`. Its end of sentence follows every document."""

    kind: Literal["sentencepiece"]
    path: str = Field(description="the .model file, relative to the experiment file", examples=["tokenizer.model"])


class TrainedTokenizer(Section):
    """Byte-level BPE, trained on the source itself and kept beside the tokens."""

    kind: Literal["bpe"]
    vocabulary: Annotated[PositiveInt, Field(ge=257)] = Field(
        32_000, description="token ids at most: 256 bytes, the end of a document, and as many merges as there are"
    )
    train_megabytes: Positive = Field(256, description="how much of the source it is trained on, from the start, in MB")


Tokenizer = Annotated[
    ByteTokenizer | FileTokenizer | SentencePieceTokenizer | TrainedTokenizer, Field(discriminator="kind")
]


class FolderGroups(Section):
    """Documents of one folder belong together."""

    kind: Literal["folder"]


class FieldGroups(Section):
    """Documents with the same value of a field belong together."""

    kind: Literal["field"]
    field: str = Field(
        description="its name; in an object or struct behind that one's and a dot, as in meta.language",
        examples=["language"],
    )


class ClusterGroups(Section):
    """Documents that use the same words belong together: k-means of their TF-IDF vectors."""

    kind: Literal["clusters"]
    clusters: PositiveInt | None = Field(
        None,
        description="how many; as many as shards when absent. More of them give shards of nearly one size",
        examples=[8],
    )


Groups = Annotated[FolderGroups | FieldGroups | ClusterGroups, Field(discriminator="kind")]


class IidPartition(Section):
    """Documents go to the shards at random, so that shards are alike."""

    kind: Literal["iid"]
    sizes: tuple[Positive, ...] | None = Field(
        None, description="relative sizes of the shards, one for each; all of one length when absent", examples=[[3, 1]]
    )


class GroupedPartition(Section):
    """Every group of documents goes to one shard, the largest first to the shard that is shortest so far."""

    kind: Literal["grouped"]
    groups: Groups = Field(ClusterGroups(kind="clusters"), description="which documents belong together")


class DirichletPartition(Section):
    """Every group is divided among the shards in proportions of its own, drawn from a symmetric Dirichlet distribution.

    Hsu, Qi, Brown: "Measuring the Effects of Non-Identical Data Distribution", arXiv 1909.06335.
    """

    kind: Literal["dirichlet"]
    alpha: Positive = Field(
        description="concentration: near 0 one shard per group, large as good as iid", examples=[0.3]
    )
    groups: Groups = Field(ClusterGroups(kind="clusters"), description="which documents belong together")


class RoutedPartition(Section):
    """Windows go to the shards of routers, small models that each learn what they predict best (SMALLTALK LM).

    Routers are trained before the clock starts, with Adam: time after time windows are divided among them, in equal
    parts, by the loss on their first tokens, and each trains on its own. In the end they divide all windows.
    """

    kind: Literal["routed"]
    prefix: PositiveInt | None = Field(
        None,
        description="tokens from a window's start that routers predict; a quarter of model.context when absent",
        examples=[32],
    )
    layers: Annotated[PositiveInt, Field(le=10_000)] = Field(1, description="transformer blocks of a router")
    width: PositiveInt = Field(32, description="elements of a token's vector in a router")
    heads: PositiveInt = Field(2, description="attention heads of a layer of a router")
    assignments: PositiveInt = Field(
        40, description="how often windows are divided and routers trained on them; often, since early choices stay"
    )
    windows: PositiveInt = Field(1024, description="that are drawn and divided each time; all where there are fewer")
    steps: PositiveInt = Field(5, description="of each router, between two assignments")
    batch_size: PositiveInt = Field(16, description="windows in such a step")
    learning_rate: Positive = Field(0.01, description="of the routers")

    def _conflicts(self) -> Conflicts:
        if self.width % self.heads:
            yield "width", f"does not divide into {self.heads} heads: change one"


Partition = Annotated[
    IidPartition | GroupedPartition | DirichletPartition | RoutedPartition, Field(discriminator="kind")
]


def _or_name(schema: dict[str, Any]) -> None:
    schema["oneOf"].append({"const": "bytes"})


class TextSource(Section):
    """Settings of every source of text."""

    tokenizer: Tokenizer = Field(
        ByteTokenizer(kind="bytes"),
        description="a mapping, or bytes",
        json_schema_extra=_or_name,
    )
    shards: Members | None = Field(None, description="the number of workers when absent", examples=[4])
    partition: Partition = Field(IidPartition(kind="iid"), description="which documents or windows go to which shard")
    validation_fraction: Annotated[Fraction, Field(lt=1)] = Field(
        0.05, description="share of the documents that is held out"
    )
    feed: Literal["auto", "device", "host"] = Field(
        "auto",
        description="where the tokens of training are: on the device, or gathered from the memory-mapped store while "
        "the device computes; auto: on the device if they take a quarter of its memory at most",
    )

    @property
    def even(self) -> bool:
        """Returns whether all shards are of one length."""
        partition = self.partition
        return isinstance(partition, RoutedPartition) or (isinstance(partition, IidPartition) and not partition.sizes)

    @field_validator("tokenizer", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value


class StdlibData(TextSource):
    """The sources of the running interpreter's standard library."""

    source: Literal["python-stdlib"]


class _Files(TextSource):
    files: tuple[str, ...] = Field(
        min_length=1,
        description="glob patterns, ** included",
        json_schema_extra={"type": ["array", "string"]},
        examples=[["texts/**/*.txt"]],
    )

    @field_validator("files", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class TextData(_Files):
    """Text files, also compressed with gzip, zstd, bz2 or xz; paths are relative to the experiment file."""

    source: Literal["text"]
    documents: Literal["file", "paragraph", "line"] = Field("file", description="what one document is")


class JsonLinesData(_Files):
    """Files with one JSON object per line, also compressed as text files; paths are relative to the experiment file."""

    source: Literal["jsonl"]
    field: str = Field("text", description="the key of the text; meta.text is the key text of the object under meta")


class ParquetData(_Files):
    """Parquet files with one document per row; paths are relative to the experiment file."""

    source: Literal["parquet"]
    field: str = Field("text", description="the column of the text; meta.text is the field text of the struct meta")


class TfdsData(TextSource):
    """A TensorFlow Datasets data set that has been prepared; TensorFlow is needed only for TFRecord files."""

    source: Literal["tfds"]
    name: str = Field(description="builder, configuration and version, such as c4/en:3.1.0", examples=["c4/en:3.1.0"])
    split: str = Field("train", description="a split, or a part of one such as train[:10%]")
    data_dir: str | None = Field(
        None,
        description="where data sets were prepared, relative to the experiment file or at an address such as "
        "gs://bucket/folder; TFDS's own place when absent",
        examples=["~/tensorflow_datasets"],
    )
    field: str | None = Field(
        None, description="the text feature; the only one when absent, or the one named text", examples=["text"]
    )


class _DrawnData(Section):
    """Settings of every source that is drawn."""

    @model_validator(mode="before")
    @classmethod
    def _without_partition(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and "partition" in value:
            reason = f"unknown key of source {value.get('source')}: it divides documents, or windows of text by their "
            reason += "first words, and what is drawn is alike everywhere: leave it out, or use a source of text"
            raise ConflictError(("partition", reason))
        return value


class SyntheticData(_DrawnData):
    """A first-order Markov source, whose entropy rate (the lowest loss that any model can reach) is known."""

    source: Literal["synthetic"]
    vocabulary: Annotated[PositiveInt, Field(ge=2)] = Field(64, description="states of the chain, which are the tokens")
    concentration: Positive = Field(0.1, description="Dirichlet parameter of each row of transition probabilities")
    tokens: PositiveInt = Field(1_000_000, description="length of the training text")
    validation_tokens: PositiveInt = Field(50_000, description="length of the held-out text")
    shards: Members | None = Field(None, description="the number of workers when absent", examples=[4])


class ClustersData(_DrawnData):
    """The authors' toy classification data: Gaussian clusters around unit-norm centers."""

    source: Literal["gaussian-clusters"]
    classes: PositiveInt = Field(4, description="that are told apart")
    clusters_per_class: PositiveInt = Field(8, description="each around a center of its own")
    dimension: PositiveInt = Field(512, description="of a point")
    noise: Positive = Field(0.5, description="standard deviation around a center, in each dimension")
    points: PositiveInt = Field(128_000, description="of training")
    evaluation_points: PositiveInt = Field(10_000, description="how many of the training points are evaluated on")
    shards: Members | None = Field(None, description="the number of workers when absent", examples=[4])


class NoData(Section):
    """No data, of a model that is only described."""

    source: Literal["none"]
    shards: Members | None = Field(None, description="the number of workers when absent", examples=[4])


DocumentData = StdlibData | TextData | JsonLinesData | ParquetData | TfdsData
Data = Annotated[
    StdlibData | TextData | JsonLinesData | ParquetData | TfdsData | SyntheticData | ClustersData | NoData,
    Field(discriminator="source"),
]

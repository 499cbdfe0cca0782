"""Groups of documents that use the same words, as DiLoCo's non-iid shards are clusters of documents."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from simulator.data.checksums import checksum
from simulator.data.progress import PrepareProgress, silent
from simulator.data.store import TokenStore, encoder_of, writing
from simulator.experiment.schema.data import DocumentData
from simulator.host.cache_folder import cache_folder
from simulator.host.errors import SettingError
from simulator.host.files import write_file

_METHOD = 1  # changes with what follows, so that clusters found otherwise are not taken for these
_FITTED = 20_000  # documents that the clusters are found on; the rest are assigned to the nearest
_READ_TOKENS = 20_000  # of each document, from its start
_FEATURES, _DIMENSIONS = 2**16, 64
_CHECKSUM = 4  # bytes


def cluster_documents(
    store: TokenStore, data: DocumentData, clusters: int, progress: PrepareProgress | None = None
) -> npt.NDArray[np.int32]:
    """Returns each document's cluster, int32 [D]: k-means of TF-IDF vectors of words after a latent semantic analysis.

    Kept in the cache folder. DiLoCo (Douillard et al., arXiv 2311.08105) clusters the features of a pretrained model
    instead.
    """
    import sklearn  # here and below: takes long to load, and only clusters of documents need it

    documents = store.meta["documents"]
    if documents < clusters:
        message = f"there are only {documents} documents: use fewer, or more text"
        raise SettingError("data.partition.groups.clusters", clusters, message)
    name = f"{store.folder.name}-{clusters}-{_METHOD}-sklearn{sklearn.__version__}.bin"
    path = cache_folder() / "clusters" / name
    kept = _kept(path, documents)
    if kept is not None:
        return kept
    labels = _clustered(_Words(store, data), documents, clusters, progress or silent)
    with writing(path):
        content = labels.astype("<i4").tobytes()
        write_file(path, content + checksum(content).to_bytes(_CHECKSUM, "little"))
    return labels


def _kept(path: Path, documents: int) -> npt.NDArray[np.int32] | None:
    """Returns the saved clusters, which a checksum follows; None if there are none, or others."""
    if not path.exists():
        return None
    content = path.read_bytes()
    labels, written = content[:-_CHECKSUM], content[-_CHECKSUM:]
    whole = len(labels) == 4 * documents and checksum(labels) == int.from_bytes(written, "little")
    return np.frombuffer(labels, "<i4") if whole else None


class _Words:
    def __init__(self, store: TokenStore, data: DocumentData):
        self._store, self._encoder = store, encoder_of(data, store)

    def of(self, documents: npt.NDArray[np.int64]) -> Iterator[str]:
        return (self._encoder.decode(self._store.document(int(index))[:_READ_TOKENS].tolist()) for index in documents)


def _clustered(words: _Words, documents: int, clusters: int, report: PrepareProgress) -> npt.NDArray[np.int32]:
    from sklearn.cluster import KMeans
    from sklearn.decomposition import TruncatedSVD
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    counts = HashingVectorizer(n_features=_FEATURES, alternate_sign=False, norm=None)
    sample = np.unique(np.linspace(0, documents - 1, min(documents, _FITTED)).round().astype(np.int64))
    dimensions = max(1, min(_DIMENSIONS, len(sample) - 1))
    features = make_pipeline(
        TfidfTransformer(sublinear_tf=True), TruncatedSVD(dimensions, random_state=0), Normalizer(copy=False)
    )
    model = KMeans(clusters, n_init=4, random_state=0)
    report("clustering documents", 0, documents, "documents")
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different documents than clusters
        model.fit(features.fit_transform(counts.transform(words.of(sample))))
    labels = np.empty(documents, np.int32)
    for first in range(0, documents, _FITTED):
        block = np.arange(first, min(first + _FITTED, documents))
        labels[block] = model.predict(features.transform(counts.transform(words.of(block))))
        report("clustering documents", int(block[-1]) + 1, documents, "documents")
    return labels

"""MNIST and Fashion-MNIST, under the names and arguments of torchvision.datasets; the 8 x 8 digits."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..backend import module_of, to_numpy
from ..tensor import Tensor
from .dataset import Dataset, shortcut, take_rows
from .idx import read_idx

if TYPE_CHECKING:
    from .download import DownloadError

_SOURCES = ("auto", "idx", "bundled", "torchvision")

# Downloads that failed in this process, so that the test set does not wait for the mirrors again.
_failed: dict[tuple[str, ...], DownloadError] = {}
_told: set[str] = set()


class MNIST(Dataset[tuple[Any, Any]]):
    """Handwritten digits: 60,000 training and 10,000 test images of 28 x 28 (LeCun, Cortes and Burges, 1998).

    Args:
        root: a folder that holds the original idx files, gzipped or not, itself or in
            ``MNIST/raw`` as torchvision leaves them.  None: the user's cache folder.
        train: the training set, else the test set.
        transform, target_transform: functions of the image (a uint8 array of shape (28, 28)) and
            of the target (an int).
        download: fetch the files into ``root`` if they are not there (torchvision's layout,
            checked against the published checksums).  Default: only where no ``root`` is given.
        source: "auto"; "idx" to insist on the original files; "bundled" for the subset of 10,000
            training and 2,000 test images that comes with the package; "torchvision" to let
            torchvision load them.  "auto" means "idx", but falls back on the subset, with a line
            on standard error that says so, when they cannot be downloaded.

    Attributes:
        data: the images, a uint8 tensor of shape (N, 28, 28).
        targets: the labels, an int64 tensor of shape (N,).
        classes, class_to_idx: the names of the classes.
        origin: where the images came from.

    Raises:
        RuntimeError: the files are not in ``root`` and are not to be downloaded, or a
            :class:`DownloadError`: they could not be.
        ValueError: a file is truncated or corrupt, or the files do not fit together.
        ImportError: torchvision is asked for and not installed.
    """

    folder: ClassVar[str] = "MNIST"
    mirrors: ClassVar[list[str]] = [
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ]
    # Name, MD5 of the gzip file, SHA-256 of its contents.
    resources: ClassVar[list[tuple[str, ...]]] = [
        (
            "train-images-idx3-ubyte.gz",
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        (
            "train-labels-idx1-ubyte.gz",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        (
            "t10k-images-idx3-ubyte.gz",
            "9fb629c4189551a2d022fa330f9573f3",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        (
            "t10k-labels-idx1-ubyte.gz",
            "ec29112dd5afa0611ce80d1b7f02629c",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ]
    classes: ClassVar[list[str]] = [
        "0 - zero",
        "1 - one",
        "2 - two",
        "3 - three",
        "4 - four",
        "5 - five",
        "6 - six",
        "7 - seven",
        "8 - eight",
        "9 - nine",
    ]
    mean: ClassVar[float] = 0.1307
    std: ClassVar[float] = 0.3081
    """Mean and standard deviation of the training images, as numbers from 0 to 1."""
    peak: ClassVar[int] = 255
    """The largest value of a pixel."""
    subset: ClassVar[str | None] = "mnist_subset"

    def __init__(
        self,
        root: str | Path | None = None,
        train: bool = True,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        download: bool | None = None,
        *,
        source: str = "auto",
    ):
        if source not in _SOURCES:
            raise ValueError(f"source must be one of {', '.join(_SOURCES)}, but is {source!r}")
        self.root = root
        self.train = train
        self.transform = transform
        self.target_transform = target_transform
        images, targets, self.origin = self._load(source, root is None if download is None else download)
        self.data = Tensor._wrap(images)
        self.targets = Tensor._wrap(targets.astype(np.int64))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} {'training' if self.train else 'test'} images from {self.origin})"

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: Any) -> tuple[Any, Any]:
        image, target = to_numpy(self.data._data[index]).copy(), int(self.targets._data[index])
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return image, target

    def _take(self, indices: Any) -> Any:
        on_batch = None if self.transform is None else shortcut(self.transform, "_on_batch", "__call__")
        if self.target_transform is not None or (self.transform is not None and on_batch is None):
            return NotImplemented
        images = take_rows(self.data._data, indices)
        if on_batch is not None:
            images = on_batch(images)
            if images is NotImplemented:
                return NotImplemented
        return [Tensor._wrap(images), Tensor._wrap(take_rows(self.targets._data, indices))]

    @property
    def class_to_idx(self) -> dict[str, int]:
        """The number of each class name."""
        return {name: k for k, name in enumerate(self.classes)}

    def as_tensors(self, normalize: bool = True) -> tuple[Tensor, Tensor]:
        """All images, as float32 of shape (N, 1, height, width), and all labels: to be batched by slicing.

        The 60,000 images of MNIST take 188 MB.

        Args:
            normalize: give the training images mean 0 and standard deviation 1; otherwise they
                are numbers from 0 to 1.
        """
        pixels = self.data._data
        images = module_of(pixels).multiply(pixels, np.float32(1 / (self.peak * self.std if normalize else self.peak)))
        if normalize:
            images -= np.float32(self.mean / self.std)
        return Tensor._wrap(images[:, None]), self.targets

    @property
    def _names(self) -> list[str]:
        split = "train" if self.train else "t10k"
        return [f"{split}-images-idx3-ubyte", f"{split}-labels-idx1-ubyte"]

    def _load(self, source: str, download: bool) -> tuple[np.ndarray, np.ndarray, str]:
        if source == "torchvision":
            return self._from_torchvision(download)
        if source == "bundled":
            return self._from_package()
        from .download import DownloadError, cache_folder

        root = cache_folder() if self.root is None else Path(self.root)
        found = self._find(root)
        if found is None and download:
            try:
                found = self._download(root)
            except DownloadError as error:
                if source == "auto" and self.subset is not None:
                    return self._fall_back(f"download failed: {str(error).splitlines()[-1].strip()}")
                raise DownloadError(f"{self.folder}: {error}\n{self._advice()}") from None
        if found is None:
            if source == "auto" and self.root is None and self.subset is not None:
                return self._fall_back("not in the cache, and download=False")
            looked = " and ".join(str(folder) for folder in self._folders(root))
            raise RuntimeError(
                f"{self.folder} dataset not found: expected {' and '.join(self._names)}, gzipped or not, in {looked}. "
                "You can use download=True to download it"
            )
        return self._read(*found)

    def _folders(self, root: Path) -> list[Path]:
        return [root / self.folder / "raw", root]

    def _find(self, root: Path) -> list[Path] | None:
        """The files of images and labels, if a folder has both."""
        for folder in self._folders(root):
            found = []
            for name in self._names:
                dotted = name.replace("-idx", ".idx")
                paths = [folder / spelling for spelling in (name, f"{name}.gz", dotted, f"{dotted}.gz")]
                # Unlike Path.is_file, this is false for a folder that may not be read.
                found += [path for path in paths if os.path.isfile(path)][:1]
            if len(found) == 2:
                return found
        return None

    def _download(self, root: Path) -> list[Path]:
        from .download import DownloadError, Resource, download

        folder = self._folders(root)[0]
        key = (str(folder), *self.mirrors)
        if key in _failed:
            raise _failed[key]
        try:
            for entry in self.resources:
                download(Resource(*entry), self.mirrors, folder)
        except DownloadError as error:
            _failed[key] = error
            raise
        return [folder / f"{name}.gz" for name in self._names]

    def _advice(self) -> str:
        names = ", ".join(entry[0] for entry in self.resources)
        return (
            f"Put the files ({names}) into a folder and give it as root (--data-dir on the command line), or use the "
            "MNIST dataset (--dataset mnist), of which a subset comes with the package"
        )

    def _read(self, images_file: Any, labels_file: Any) -> tuple[np.ndarray, np.ndarray, str]:
        images, labels = read_idx(images_file), read_idx(labels_file)
        if images.dtype != np.uint8 or images.ndim != 3:
            raise ValueError(
                f"{images_file}: expected uint8 images of shape (N, height, width), but found {images.dtype} of shape "
                f"{images.shape}"
            )
        if labels.dtype != np.uint8 or labels.ndim != 1:
            raise ValueError(
                f"{labels_file}: expected uint8 labels of shape (N,), but found {labels.dtype} of shape {labels.shape}"
            )
        if len(images) != len(labels):
            raise ValueError(f"{images_file} holds {len(images)} images, but {labels_file} holds {len(labels)} labels")
        if len(labels) and labels.max() >= len(self.classes):
            raise ValueError(
                f"{labels_file}: expected labels from 0 to {len(self.classes) - 1}, but found {labels.max()}"
            )
        return images, labels, str(Path(str(images_file)).parent)

    def _from_package(self) -> tuple[np.ndarray, np.ndarray, str]:
        if self.subset is None:
            raise ValueError(f"no subset of {self.folder} comes with the package")
        from importlib.resources import files

        folder = files(__package__) / self.subset
        images, labels, _ = self._read(*(folder / f"{name}.gz" for name in self._names))
        return images, labels, "the bundled subset"

    def _fall_back(self, reason: str) -> tuple[np.ndarray, np.ndarray, str]:
        if self.folder not in _told:
            _told.add(self.folder)
            print(
                f"gpugrad: no full {self.folder} here ({reason}); using the subset of 10,000 training and 2,000 test "
                "images that comes with the package",
                file=sys.stderr,
            )
        return self._from_package()

    def _from_torchvision(self, download: bool) -> tuple[np.ndarray, np.ndarray, str]:
        try:
            datasets = import_module("torchvision.datasets")
        except ImportError as error:
            raise ImportError("source='torchvision' needs torchvision: pip install 'gpugrad[torchvision]'") from error
        from .download import cache_folder

        root = cache_folder() if self.root is None else self.root
        loaded = getattr(datasets, self.folder)(str(root), train=self.train, download=download)
        return np.array(loaded.data), np.array(loaded.targets), "torchvision"


class FashionMNIST(MNIST):
    """Articles of clothing in the format of MNIST (Xiao, Rasul and Vollgraf, 2017); no subset comes with the package.

    Arguments, attributes and errors are those of :class:`MNIST`.
    """

    folder = "FashionMNIST"
    mirrors: ClassVar[list[str]] = [
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ]
    resources: ClassVar[list[tuple[str, ...]]] = [
        ("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        ("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
        ("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
        ("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
    ]
    classes: ClassVar[list[str]] = [
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ]
    mean, std = 0.2860, 0.3530
    subset = None


class Digits(MNIST):
    """1,797 handwritten digits of 8 x 8 pixels from 0 to 16, which come with the package (Alpaydin and Kaynak, 1998).

    There is one set; split it with :func:`random_split`.  Attributes are those of :class:`MNIST`.

    Args:
        transform, target_transform: functions of the image (a uint8 array of shape (8, 8)) and of the target (an int).
    """

    classes = [str(k) for k in range(10)]
    mean, std = 0.3053, 0.3761
    peak = 16
    subset = "digits"

    def __init__(
        self,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
    ):
        super().__init__(transform=transform, target_transform=target_transform, source="bundled")

    @property
    def _names(self) -> list[str]:
        return ["digits-images-idx3-ubyte", "digits-labels-idx1-ubyte"]

    def __repr__(self) -> str:
        return f"Digits({len(self)} images)"

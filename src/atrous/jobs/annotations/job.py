"""Write what other tools take in, beside the masks of a job and from them alone.

    coco.json               one file for all pictures
    labelme/STEM.json       to be gone over by hand
    geojson/STEM.geojson    in the coordinates of a GeoTIFF
    index.html              thumbnails

A mask that stands, of a run that was stopped, gives the same as one that is written now. Files of
one picture carry a stamp: what somebody changed stays.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from atrous import stamp
from atrous.files import sha256, write_whole
from atrous.image import class_shares
from atrous.jobs.annotations import documents
from atrous.jobs.annotations.gallery import GalleryEntry, write_gallery
from atrous.jobs.output import FAILURES, MASKS, ImageResult, Output, state
from atrous.labels import LabelSet
from atrous.pages.page import check_place
from atrous.pictures.opening import MAX_PIXELS, opened
from atrous.stamp import FileStamp, hashed

Kind = Literal["coco", "labelme", "geojson"]

COCO, PAGE = "coco.json", "index.html"
VERSION = "1"
"""Another one wherever a file is written in another way."""

_SUFFIXES = {"labelme": ".json", "geojson": ".geojson"}


def annotated(
    results: Generator[ImageResult],
    sources: Sequence[Path],
    output: Output,
    labels: LabelSet,
    kinds: Sequence[Kind],
    *,
    gallery: bool = False,
) -> Generator[ImageResult]:
    """Pass results on; write what is wanted of each mask, and at the end what is of all.

    A picture of which a file cannot be written becomes a failure; the others go on.

    Args:
        results: of a job.
        sources: all its pictures.
        output: where they go, a folder.
        labels: names of the classes.
        kinds: formats.
        gallery: whether to write a page of thumbnails.

    Raises:
        InputError: a file for all pictures is in the way that Atrous did not make.
    """
    place = Path(output.place)
    force = output.force
    if "coco" in kinds:
        state(place / COCO, "", _stamp_of, force=force)
    if gallery and not force:
        check_place(place / PAGE)
    job = _Annotations(place, labels, kinds, _common(sources), force=force)
    entries: list[GalleryEntry] = []
    with closing(results):
        for result in results:
            if result.mask is not None and result.status != "failed":
                try:
                    class_map = _read(Path(result.mask))
                    job.add(result, class_map)
                    if gallery:
                        entries.append(
                            GalleryEntry.of(result, class_shares(class_map), place, labels)
                        )
                except FAILURES as error:
                    result = ImageResult.failure(result.source, error)
            yield result
    if "coco" in kinds:
        job.write_coco()
    if gallery:
        write_gallery(place / PAGE, entries, labels)


class _Annotations:
    def __init__(
        self, place: Path, labels: LabelSet, kinds: Sequence[Kind], common: Path, *, force: bool
    ) -> None:
        self._place, self._labels, self._kinds = place, labels, kinds
        self._common, self._force = common, force
        self._images: list[dict[str, Any]] = []
        self._found: list[dict[str, Any]] = []

    def add(self, result: ImageResult, class_map: NDArray[np.uint8]) -> None:
        """Write the files of one picture, and keep its share of those for all."""
        source, mask = Path(result.source), Path(str(result.mask))
        if "coco" in self._kinds:
            self._add_coco(source, class_map)
        stem = mask.relative_to(self._place / MASKS).with_suffix("")
        if "labelme" in self._kinds:
            path = self._file("labelme", stem)
            picture = os.path.relpath(source.absolute(), path.parent.absolute())
            self._write(
                path, mask, lambda: documents.labelme(class_map, self._labels, picture), picture
            )
        if "geojson" in self._kinds:
            path = self._file("geojson", stem)
            self._write(path, mask, lambda: documents.geojson(class_map, self._labels, source))

    def write_coco(self) -> None:
        """Write the file for all pictures."""
        document = {
            "info": {"description": "Segmented by Atrous", "version": VERSION},
            "licenses": [],
            "images": self._images,
            "annotations": self._found,
            "categories": documents.coco_categories(self._labels),
        }
        write_whole(self._place / COCO, _stamped(document, hashed(VERSION)))

    def _add_coco(self, source: Path, class_map: NDArray[np.uint8]) -> None:
        height, width = class_map.shape
        number = len(self._images) + 1
        name = Path(os.path.relpath(source.absolute(), self._common)).as_posix()
        self._images.append({"id": number, "file_name": name, "width": width, "height": height})
        for one in documents.coco_annotations(class_map, self._labels):
            self._found.append({"id": len(self._found) + 1, "image_id": number, **one})

    def _file(self, kind: str, stem: Path) -> Path:
        # The stem of a mask may hold dots, so that no suffix is replaced.
        return self._place / kind / stem.parent / f"{stem.name}{_SUFFIXES[kind]}"

    def _write(
        self, path: Path, mask: Path, make: Callable[[], dict[str, Any]], more: str = ""
    ) -> None:
        labels = json.dumps(self._labels.to_dict(), sort_keys=True)
        made_from = hashed(VERSION, sha256(mask), labels, more)
        if state(path, made_from, _stamp_of, force=self._force) != "stands":
            write_whole(path, _stamped(make(), made_from))


def _stamped(document: dict[str, Any], made_from: str) -> str:
    """A document with a stamp, as text."""
    content = str(FileStamp(made_from, _content(document)))
    return json.dumps({**document, stamp.KEY: content}, ensure_ascii=False)


def _stamp_of(path: Path) -> FileStamp | None:
    """The stamp of a file that `_stamped` wrote and nobody has changed since."""
    try:
        document = json.loads(path.read_bytes())
        found = FileStamp.parse(str(document.pop(stamp.KEY)))
        return None if found is None else found.of(_content(document))
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None


def _content(document: dict[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, default=list)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _read(mask: Path) -> NDArray[np.uint8]:
    """The class ids of a mask.

    Raises:
        InputError: it has more pixels than are looked at at once.
    """
    with opened(mask, MAX_PIXELS) as picture:
        return np.asarray(picture)


def _common(sources: Sequence[Path]) -> Path:
    """The folder that all pictures lie below."""
    folders = [str(path.absolute().parent) for path in sources]
    return Path(os.path.commonpath(folders)) if folders else Path.cwd()

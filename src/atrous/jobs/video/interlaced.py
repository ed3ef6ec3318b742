"""Frames of two half pictures, taken one after the other, as whole ones."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from atrous.jobs.video.pyav import av

if TYPE_CHECKING:
    from av.video.frame import VideoFrame


class Deinterlacer:
    """Makes progressive frames of interlaced ones, one of one, at the same times.

    Until the first interlaced frame comes it hands on what it is given. From then on it is one
    frame behind: the lines that a frame lacks are made from those before and after.

    Attributes:
        active: whether an interlaced frame has come.
    """

    def __init__(self) -> None:
        self.active = False
        self._graph: Any = None
        self._form: tuple[int, int, str] | None = None

    def frames(self, frame: VideoFrame) -> list[VideoFrame]:
        """What is ready after the next frame."""
        self.active = self.active or frame.interlaced_frame
        if not self.active:
            return [frame]
        form = (frame.width, frame.height, frame.format.name)
        ready = []
        if form != self._form:
            ready = self.rest()
            self._graph, self._form = _filters(frame), form
        self._graph.push(frame)
        return ready + self._pull()

    def rest(self) -> list[VideoFrame]:
        """The last frame, at the end."""
        if self._graph is None:
            return []
        self._graph.push(None)
        ready = self._pull()
        self._graph = self._form = None
        return ready

    def _pull(self) -> list[VideoFrame]:
        ready = []
        while True:
            try:
                ready.append(self._graph.pull())
            except (av.BlockingIOError, av.EOFError):
                return ready


def _filters(frame: VideoFrame) -> Any:
    graph = av.filter.Graph()
    into = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=frame.time_base or Fraction(1, 90000),
    )
    whole = graph.add("bwdif", "mode=send_frame:deint=interlaced")
    graph.link_nodes(into, whole, graph.add("buffersink"))
    graph.configure()
    return graph

"""A page as a person and a browser see it."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """Headings, text and pictures of a page, which has to be one file that runs nothing.

    Attributes:
        text: all that is shown, and what points say.
        headings: of the second level.
        tags: how often each stands there.
    """

    _single = ("meta", "img", "line", "polyline", "th", "td", "tr", "thead", "tbody", "li")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.headings, self.tags = "", list[str](), dict[str, int]()
        self._inside: list[str] = []
        self.feed(html)
        assert not self._inside, f"left open: {self._inside}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link"), "the page is one file"
        if tag == "img":
            assert (dict(attrs)["src"] or "").startswith("data:image/jpeg;base64,")
        self.tags[tag] = self.tags.get(tag, 0) + 1
        if tag not in self._single:
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self._single:
            assert self._inside.pop() == tag

    def handle_data(self, data: str) -> None:
        words = " ".join(data.split())
        if not words or "style" in self._inside:
            return
        self.text += f"{words} "
        if self._inside[-1] == "h2":
            self.headings.append(words)

"""What a compile tells while it works, kept for a test."""

from atrous.compiler.progress import Progress


class Told(list[str]):
    """Takes progress, and holds it as people read it."""

    def __call__(self, progress: Progress) -> None:
        self.append(str(progress))

"""The threads of the package, for tests of what they leave behind."""

import threading


def threads() -> list[str]:
    """Names of the package's threads that are alive."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("atrous ")]

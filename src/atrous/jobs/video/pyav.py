"""PyAV (the extra `video`), or the error that says how to get it."""

try:
    import av as av
except ImportError as missing:
    from atrous.errors import ConfigError

    raise ConfigError(
        f"video needs PyAV, which cannot be loaded ({missing}); pip install 'atrous[video]'"
    ) from None


def reason(error: Exception) -> str:
    """What PyAV or the system says of a failure, without names of files."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__

"""PyAV (the extra `video`), or the error that says how to get it."""

try:
    import av as av
except ImportError as missing:
    from atrous.errors import ConfigError

    raise ConfigError(
        f"video needs PyAV, which cannot be loaded ({missing}); pip install 'atrous[video]'"
    ) from None


# A playlist or a list of parts (HLS, DASH, concat, SDP) is text that makes FFmpeg open other files
# and addresses, whatever the text itself is called.
ONE_FILE = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,"
    "h264,hevc,av1,obu,flv,asf,ogg,gif,apng,webp,webp_pipe,mxf,nut,ivf,dv,rm,mjpeg,yuv4mpegpipe,"
    "mp3,flac,wav,aac",
    "protocol_whitelist": "file",
}
"""What FFmpeg may read as a video file: containers that hold all of it, and nothing beside them."""


def reason(error: Exception) -> str:
    """What PyAV or the system says of a failure, without names of files."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__

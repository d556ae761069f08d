"""Writes pictures as a video (H.264 in MP4) that browsers, phones and slides play."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np

from motions.base.errors import UserError

_QUALITY = "20"
"""Constant rate factor of x264: lower is better and larger; 18 looks lossless, 23 is x264's default."""


def check_h264() -> None:
    """Raises UserError if the installed PyAV cannot write H.264, the only kind of video that every browser plays."""
    from av.codec import Codec
    from av.error import FFmpegError

    try:
        Codec("libx264", "w")
    except (ValueError, FFmpegError) as error:
        raise UserError(
            "the installed PyAV has no encoder libx264, so no H.264 can be written; that of pip install av has"
        ) from error


def mp4_bytes(pictures: Iterable[np.ndarray], fps: float) -> bytes:
    """The content of an MP4 file.

    Args:
        pictures: [H, W, 3] uint8, all of one size; a row or column too many for H.264, which needs even sizes, is left
            out.
        fps: frames per second.

    Raises:
        ValueError: there is no picture.
    """
    # Imported here because PyAV loads the libraries of FFmpeg.
    import av

    # FFmpeg moves the index to the beginning, so that players can start early, by writing a real file twice.
    with tempfile.TemporaryDirectory() as scratch:
        path, stream = Path(scratch) / "video.mp4", None
        with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
            for picture in pictures:
                height, width = (size // 2 * 2 for size in picture.shape[:2])
                if stream is None:
                    stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
                    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                    # Without it the fastest code for the processor and for where buffers lie is taken, and rounds anew
                    # from one process to the next.
                    stream.options = {"crf": _QUALITY, "x264-params": "cpu-independent=1"}
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format="rgb24")
                container.mux(stream.encode(frame))
            if stream is None:
                raise ValueError("pictures is empty: there is nothing to save")
            container.mux(stream.encode(None))
        return path.read_bytes()

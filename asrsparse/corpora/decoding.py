"""The sound of any video or audio file, as 16 kHz mono FLAC."""

from pathlib import Path

import av
import numpy as np
import soundfile
from lhotse import Recording

from asrsparse.files import atomic_path

SAMPLING_RATE = 16_000


def write_flac(source: Path, flac: Path, recording_id: str) -> Recording:
    """Decodes the sound of `source` to the file `flac`, unless that is there already, and returns its manifest.

    Raises:
        ValueError: If there is no sound, or nothing in it decodes.
    """
    if not flac.is_file():  # one that exists is whole: it was written under another name first
        samples = decode_audio(source)
        with atomic_path(flac) as temporary:
            soundfile.write(temporary, samples, SAMPLING_RATE, subtype="PCM_16")
    return Recording.from_file(flac, recording_id=recording_id)


def decode_audio(path: Path) -> np.ndarray:
    """Decodes the audio of a video or audio file; pictures are not looked at, so damage in them does no harm.

    Samples before a damaged packet count: MPEG files that were cut off in their last packet are common. Whether all
    words are still there is for the caller to check.

    Returns:
        int16 samples of shape (T,), 16 kHz, all channels mixed to one.

    Raises:
        ValueError: If there is no audio track, or nothing in it decodes.
    """
    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLING_RATE)
    blocks = []
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise ValueError(f"no audio track: {path}")
            for frame in container.decode(audio=0):
                blocks += resampler.resample(frame)
    except av.FFmpegError as error:
        if not blocks:
            raise ValueError(f"audio does not decode: {path}: {error.strerror}") from None
    if not blocks:
        raise ValueError(f"audio does not decode: {path}: it holds no samples")
    blocks += resampler.resample(None)
    return np.concatenate([block.to_ndarray()[0] for block in blocks])

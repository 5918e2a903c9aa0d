"""Writes small corpora in the exact layout of GRID."""

from pathlib import Path

import av
import numpy as np
import soundfile
from video_files import squares, write_video_file

ALIGN = "0 6000 sil\n6000 12000 bin\n12000 13000 sp\n13000 20000 blue\n20000 25000 sil\n"
SENTENCES = {"train": "bbaf2n", "dev": "bbie8n", "test": "bbaz4n"}  # one of each split


def write_video(path: Path, seconds: float = 1.0, with_audio: bool = True) -> None:
    """Writes a small video with a tone, in the codecs of the corpus (.mpg) or of a re-encoded copy (.mp4)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    codecs = {".mpg": ("mpeg1video", "mp2"), ".mp4": ("mpeg4", "aac")}[path.suffix]
    with av.open(str(path), "w") as container:
        video = container.add_stream(codecs[0], rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream(codecs[1], rate=44_100, layout="mono") if with_audio else None
        frames = np.random.default_rng(0).integers(0, 255, (round(25 * seconds), 48, 64, 3), dtype=np.uint8)
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            container.mux(audio.encode(tone(seconds)))
            container.mux(audio.encode(None))


def tone(seconds: float) -> av.AudioFrame:
    """Returns a tone of 440 Hz."""
    times = np.arange(round(44_100 * seconds)) / 44_100
    samples = (10_000 * np.sin(2 * np.pi * 440 * times)).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
    frame.sample_rate, frame.pts = 44_100, 0
    return frame


def write_alignment(corpus: Path, speaker: str, sentence: str, text: str = ALIGN) -> None:
    """Writes the word times of a sentence."""
    path = corpus / "alignments" / speaker / f"{sentence}.align"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def add(corpus: Path, speaker: str, sentence: str) -> Path:
    """Writes the video and the word times of a sentence, and returns the video."""
    write_video(corpus / speaker / f"{sentence}.mpg")
    write_alignment(corpus, speaker, sentence)
    return corpus / speaker / f"{sentence}.mpg"


def write_talker(corpus: Path, speaker: str, sentence: str, num_frames: int = 25) -> Path:
    """Writes a sentence of a talker who has a bright square for a face, and returns the video."""
    write_alignment(corpus, speaker, sentence)
    samples = (8000 * np.sin(np.arange(16_000) / 5)).astype(np.int16)
    path = corpus / speaker / f"{sentence}.mp4"
    return write_video_file(path, squares([(80, 60)] * num_frames), samples=samples)


def write_audio_only(corpus: Path) -> Path:
    """Writes a corpus of alignments and audio_25k alone."""
    for sentence in SENTENCES.values():
        write_alignment(corpus, "s1", sentence)
        (corpus / "audio_25k" / "s1").mkdir(parents=True, exist_ok=True)
        soundfile.write(corpus / "audio_25k" / "s1" / f"{sentence}.wav", np.full(25_000, 0.25), 25_000)
    return corpus


def damage_frame(path: Path) -> None:
    """Overwrites one compressed frame in the middle of a file with noise."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size and packet.pos is not None]
        position, size = packets[len(packets) // 2].pos, packets[len(packets) // 2].size
    content = bytearray(path.read_bytes())
    content[position + 8 : position + size] = np.random.default_rng(0).bytes(size - 8)
    path.write_bytes(content)

"""Small corpora in the exact layouts of LRS2 and LRS3, made of utterances of the mini corpus.

Their video is uniformly grey, and white for one frame where the audio has a click: half a second into each utterance.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from lhotse import CutSet
from lhotse.cut import Cut

from asrsparse.files import write_json
from asrsparse.video.io import Frames

CLICK_SECONDS = 0.5
RATE = 16_000


@dataclass(frozen=True)
class Spoken:
    """What is said in a clip: samples (T,) in [-1, 1], and words with their times in seconds."""

    samples: np.ndarray
    words: list[tuple[str, float, float]]

    @classmethod
    def of(cls, cuts: Iterable[Cut]) -> "Spoken":
        """Utterances one after the other."""
        blocks, words, seconds = [], [], 0.0
        for cut in cuts:
            samples = np.array(cut.load_audio()[0][: int(cut.duration * 25) * 640])  # whole frames
            samples[int(CLICK_SECONDS * RATE)] = 1.0
            times = [(w.symbol, w.start, w.end) for w in cut.supervisions[0].alignment["word"]]
            words += [(symbol.upper(), start + seconds, end + seconds) for symbol, start, end in times]
            blocks.append(samples)
            seconds += len(samples) / RATE
        return cls(np.concatenate(blocks), words)

    @property
    def text(self) -> str:
        return " ".join(word for word, _, _ in self.words)


def write_clip(path: Path, spoken: Spoken, clicks: Sequence[float] = (CLICK_SECONDS,), with_times: bool = True) -> None:
    """Writes `path`.mp4 and .txt as LRS3 has them; the table of the face's places is short."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.full((len(spoken.samples) // 640, 96, 96), 60, np.uint8)
    for seconds in clicks:
        frames[int(seconds * 25)] = 255
    write_mp4(path.with_name(f"{path.name}.mp4"), frames, spoken.samples)
    write_landmarks(path, len(frames))
    table = "".join(f"{word} {start:.2f} {end:.2f} 4.2\n" for word, start, end in spoken.words)
    lines = f"Text:  {spoken.text}\nConf:  4\nRef:  {path.parent.name}\n"
    lines += "\nFRAME \tX \tY \tW \tH \n000000 \t0.3 \t0.2 \t0.2 \t0.4\n"
    text = f"{lines}\nWORD START END ASDSCORE\n{table}" if with_times else lines
    path.with_name(f"{path.name}.txt").write_text(text)


def landmarks_dir(corpus: Path) -> Path:
    """Where `write_clip` puts landmarks for the clips of a corpus folder."""
    return corpus.with_name(f"{corpus.name}-landmarks")


def write_landmarks(path: Path, num_frames: int) -> None:
    """Makes the whole frame the mouth region, for `<corpus>[/mvlrs_v1]/<subset>/<talker>/<number>`."""
    subset, talker, number = path.parts[-3:]
    corpus = path.parents[3] if path.parents[2].name == "mvlrs_v1" else path.parents[2]
    write_json(landmarks_dir(corpus) / subset / talker / f"{number}.json", [[48, 48, 96]] * num_frames)


def write_mp4(path: Path, frames: Frames, samples: np.ndarray) -> None:
    """H.264 at 25 frames a second and AAC at 16 kHz, as the corpora have them."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.height, video.width, video.pix_fmt = *frames.shape[1:], "yuv420p"
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        for number, grey in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.repeat(grey[..., None], 3, axis=2), format="rgb24")
            frame.pts = number
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        block = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="fltp", layout="mono")
        block.sample_rate, block.pts = RATE, 0
        container.mux(audio.encode(block))
        container.mux(audio.encode(None))


def write_lrs3(folder: Path, cuts: dict[str, CutSet]) -> None:
    """pretrain, trainval and test; the only clip of pretrain is four utterances long."""
    train, test = list(cuts["train"]), list(cuts["test"])
    long = train[:4]
    begins = np.cumsum([0, *(int(cut.duration * 25) / 25 for cut in long[:-1])])
    write_clip(folder / "pretrain/0d6iSvF1UmA/00001", Spoken.of(long), [CLICK_SECONDS + begin for begin in begins])
    for number, cut in enumerate(train[4:], start=1):
        write_clip(
            folder / f"trainval/{'Z_-6aAkEYcm' if number % 2 else 'AAkEYcmCCCk'}/5{number:04d}", Spoken.of([cut])
        )
    for number, cut in enumerate(test, start=1):
        write_clip(folder / f"test/0Fi83BHQsMA/{number:05d}", Spoken.of([cut]))


def write_lrs2(folder: Path, cuts: dict[str, CutSet]) -> None:
    """mvlrs_v1 and the lists beside it; main and pretrain have a clip of the same name."""
    train, test = list(cuts["train"]), list(cuts["test"])
    names = {"pretrain": ["5535415699068794046/00001"], "train": [], "val": [], "test": []}
    begins = np.cumsum([0, *(int(cut.duration * 25) / 25 for cut in train[:3])])
    clip = folder / "mvlrs_v1/pretrain/5535415699068794046/00001"
    write_clip(clip, Spoken.of(train[:4]), [CLICK_SECONDS + begin for begin in begins])
    for split, chosen in (("train", train[4:-1]), ("val", train[-1:]), ("test", test)):
        programme = {"train": "5535415699068794046", "val": "6330311066473698535", "test": "6331559613336179781"}[split]
        for number, cut in enumerate(chosen, start=1):
            write_clip(folder / f"mvlrs_v1/main/{programme}/{number:05d}", Spoken.of([cut]), with_times=False)
            names[split].append(f"{programme}/{number:05d}" + (" NF" if split == "test" else ""))
    for split, lines in names.items():
        (folder / f"{split}.txt").write_text("".join(f"{line}\n" for line in lines))

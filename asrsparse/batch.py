"""Cuts -> Batch: what one training or decoding step reads.

Shape legend: B utterances, T samples of the longest, U tokens of the longest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from lhotse import CutSet
from lhotse.audio.utils import AudioLoadingError
from lhotse.dataset.collation import collate_audio
from torch.nn.utils.rnn import pad_sequence

from asrsparse.cut_index import CutIndex

PADDING_TOKEN = -1
"""Stands behind the last token of an utterance; ESPnet's and torch's losses are told to ignore it."""


@dataclass
class Batch:
    """One batch of utterances.

    Attributes:
        ids: B utterance ids.
        audio: Waveforms (B, T), zero behind `audio_lens`.
        audio_lens: Samples of each (B,).
        tokens: Token ids (B, U), `PADDING_TOKEN` behind `token_lens`.
        token_lens: Tokens of each (B,).
        seconds: Speech in the batch, padding not counted.
    """

    ids: list[str]
    audio: torch.Tensor
    audio_lens: torch.Tensor
    tokens: torch.Tensor
    token_lens: torch.Tensor
    seconds: float


class BatchDataset(torch.utils.data.Dataset[Batch]):
    """Loads the audio and encodes the texts of the cuts that a lhotse sampler chose.

    Args:
        encode: Text -> token ids, a tokenizer's `encode`.
    """

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        self.encode = encode

    def __getitem__(self, cuts: CutSet) -> Batch:
        """Makes the batch of some cuts, each with one supervision.

        Raises:
            ValueError: If an audio file cannot be read, with its utterance and the reason.
        """
        cuts = cuts.to_eager()
        try:
            audio, audio_lens = collate_audio(cuts)
        except (AudioLoadingError, OSError) as error:
            reason = str(error).split(" Details:")[0].rstrip(".")  # lhotse goes on for screens
            raise ValueError(
                f"The audio of a batch cannot be read ({', '.join(cuts.ids)}): {reason}. Files changed since the "
                "cuts were prepared: run `asrsparse prepare` again, which leaves damaged files out."
            ) from error
        tokens = [torch.tensor(self.encode(cut.supervisions[0].text), dtype=torch.int64) for cut in cuts]
        return Batch(
            # Not the cut's: lhotse renames a cut that it repeats where fewer are left than there are ranks.
            ids=[cut.supervisions[0].id for cut in cuts],
            audio=audio,
            audio_lens=audio_lens.to(torch.int64),
            tokens=pad_sequence(tokens, batch_first=True, padding_value=PADDING_TOKEN),
            token_lens=torch.tensor([len(t) for t in tokens], dtype=torch.int64),
            seconds=sum(cut.duration for cut in cuts),
        )


class IndexedBatchDataset(torch.utils.data.Dataset[Batch]):
    """Finds the cuts of a batch by their numbers in an index, then loads them; both in the loader's process.

    Args:
        index: All cuts.
        encode: Text -> token ids, a tokenizer's `encode`.
    """

    def __init__(self, index: CutIndex, encode: Callable[[str], list[int]]) -> None:
        self.index = index
        self.dataset = BatchDataset(encode)

    def __getitem__(self, rows: Sequence[int]) -> Batch:
        """Makes the batch of some cuts.

        Raises:
            ValueError: If an audio file cannot be read, or the manifest has changed.
        """
        return self.dataset[self.index.read(rows)]

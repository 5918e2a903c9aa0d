"""Text to token ids and back: characters, or SentencePiece units (Kudo, arXiv 1804.10959).

Both kinds number their tokens as ESPnet does: `<blank>`, which is CTC's, is 0, `<unk>` is 1, `<sos/eos>` is the last.
All white space between two words of a text becomes one space.
"""

import io
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece

from asrsparse.files import atomic_path, write_text

BLANK, UNKNOWN, SPACE, SOS_EOS = "<blank>", "<unk>", "<space>", "<sos/eos>"
WORD_START = "▁"
"""The character that SentencePiece writes for a space before a word."""


class Tokenizer(ABC):
    """The common interface of tokenizers.

    Args:
        units: The tokens in the order of their ids, without the special ones.

    Attributes:
        tokens: All tokens, at the places of their ids.
    """

    def __init__(self, units: Sequence[str]) -> None:
        self.tokens = [BLANK, UNKNOWN, *units, SOS_EOS]

    @property
    def vocab_size(self) -> int:
        """The number of ids, including the three special ones."""
        return len(self.tokens)

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Returns the ids of `text`; pieces outside the vocabulary have id 1 (`<unk>`)."""

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of `ids`; `<blank>` and `<sos/eos>` are left out, `<unk>` stays as the text `<unk>`."""
        return self._join([self.tokens[i] for i in ids if 0 < i < self.vocab_size - 1])

    @abstractmethod
    def unknown(self, text: str) -> list[str]:
        """Returns the pieces of `text` that are outside the vocabulary, in their order."""

    def save(self, folder: Path) -> None:
        """Writes `tokens.txt` (one token a line, as ESPnet's), and the other files that the kind needs."""
        write_text(folder / "tokens.txt", "".join(f"{token}\n" for token in self.tokens))

    @abstractmethod
    def _join(self, units: Sequence[str]) -> str:
        """Returns the text of some units."""


class CharTokenizer(Tokenizer):
    """A tokenizer with a token for each character.

    Example:
        >>> tokenizer = CharTokenizer.train(["bin blue", "lay red"])
        >>> tokenizer.tokens[:5], tokenizer.vocab_size
        (['<blank>', '<unk>', '<space>', 'a', 'b'], 14)
        >>> tokenizer.decode(tokenizer.encode("  red   bin "))
        'red bin'
        >>> tokenizer.unknown("green bin, lay")
        ['g', ',']
    """

    def __init__(self, units: Sequence[str]) -> None:
        super().__init__(units)
        self._ids = {" " if unit == SPACE else unit: i for i, unit in enumerate(self.tokens)}

    @classmethod
    def train(cls, texts: Iterable[str]) -> "CharTokenizer":
        """Makes a tokenizer of the characters of the training texts.

        Raises:
            ValueError: If there is no character in them.
        """
        characters = set("".join(_words(texts))) - {" "}
        return cls([SPACE, *sorted(characters)])

    def encode(self, text: str) -> list[int]:
        """Returns the ids of the characters of `text`; see `Tokenizer.encode`."""
        return [self._ids.get(character, 1) for character in _single_spaced(text)]

    def unknown(self, text: str) -> list[str]:
        """Returns the characters of `text` that are outside the vocabulary."""
        return [character for character in _single_spaced(text) if character not in self._ids]

    def save(self, folder: Path) -> None:
        """Writes `tokens.txt`, and deletes an older `bpe.model`, which would be read as the model of this tokenizer."""
        super().save(folder)
        (folder / "bpe.model").unlink(missing_ok=True)

    def _join(self, units: Sequence[str]) -> str:
        return "".join(" " if unit == SPACE else unit for unit in units)


class SentencePieceTokenizer(Tokenizer):
    """A tokenizer with the units of a SentencePiece unigram model.

    The characters NUL, `▁` and `▅` are SentencePiece's own, so texts with them do not come back as they were.

    Args:
        model: The content of the model file.

    Raises:
        ValueError: If it is no SentencePiece model.
    """

    def __init__(self, model: bytes) -> None:
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise ValueError(f"Not a SentencePiece model ({error}). Train the tokenizer again.") from None
        self._model = model
        # the model's own id 0 is <unk>, so each of its ids is one less than ours
        super().__init__([self._processor.id_to_piece(i) for i in range(1, self._processor.get_piece_size())])

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "SentencePieceTokenizer":
        """Trains a unigram model on the training texts.

        Args:
            texts: The training texts.
            vocab_size: The number of ids, including `<blank>`, `<unk>` and `<sos/eos>`.

        Raises:
            ValueError: If there are no words in the texts, or they do not give so many units, or need more.
        """
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(_words(texts)),
                model_writer=model,
                model_type="unigram",
                vocab_size=vocab_size - 2,
                character_coverage=1.0,
                normalization_rule_name="identity",  # texts come back as they were
                max_sentence_length=1 << 20,  # longer texts would be skipped silently
                unk_id=0,
                bos_id=-1,
                eos_id=-1,
                minloglevel=2,
            )
        except RuntimeError as error:
            raise _explained(error, vocab_size) from None
        return cls(model.getvalue())

    def encode(self, text: str) -> list[int]:
        """Returns the ids of the SentencePiece units of `text`; see `Tokenizer.encode`."""
        return [i + 1 for i in self._processor.encode(_single_spaced(text))]

    def unknown(self, text: str) -> list[str]:
        """Returns the pieces of `text` that are outside the vocabulary."""
        pieces = self._processor.encode(_single_spaced(text), out_type=str)
        return [piece for piece in pieces if self._processor.piece_to_id(piece) == 0]

    def save(self, folder: Path) -> None:
        """Writes `tokens.txt` and the model, `bpe.model`."""
        with atomic_path(folder / "bpe.model") as temporary:
            temporary.write_bytes(self._model)
        super().save(folder)

    def _join(self, units: Sequence[str]) -> str:
        return "".join(units).replace(WORD_START, " ").strip()


def load_tokenizer(folder: Path) -> Tokenizer:
    """Reads the files that `Tokenizer.save` wrote.

    Raises:
        ValueError: If `tokens.txt` is missing, is damaged, or belongs to another `bpe.model`.
    """
    path = folder / "tokens.txt"
    if not path.is_file():
        raise ValueError(f"No tokenizer in {folder}: {path.name} is missing. Run `asrsparse prepare` first.")
    tokens = path.read_text(encoding="utf-8", errors="replace").removesuffix("\n").split("\n")
    model = folder / "bpe.model"
    if model.is_file():
        tokenizer: Tokenizer = SentencePieceTokenizer(model.read_bytes())
    else:
        tokenizer = CharTokenizer(tokens[2:-1])
        _check_characters(path, tokens)
    if tokenizer.tokens != tokens:
        raise _damaged(path, f"it does not hold {BLANK}, {UNKNOWN}, the units of {folder} and {SOS_EOS}")
    return tokenizer


def _check_characters(path: Path, tokens: Sequence[str]) -> None:
    """Refuses a list in which a line is no character, or stands twice."""
    units = tokens[2:-1]
    wrong = [unit for unit in units if len(unit) != 1 and unit != SPACE]
    if wrong:
        raise _damaged(path, f"got the token {wrong[0]!r}, expected single characters and {SPACE}")
    if len(set(units)) < len(units):
        raise _damaged(path, f"{len(units) - len(set(units))} tokens are in it twice")


def _damaged(path: Path, what: str) -> ValueError:
    return ValueError(f"{path} is damaged: {what}. Delete its folder and run `asrsparse prepare` again.")


def _single_spaced(text: str) -> str:
    """Returns a text with one space between words and none around it."""
    return " ".join(text.split())


def _words(texts: Iterable[str]) -> list[str]:
    """Returns the texts that have words.

    Raises:
        ValueError: If no text has words.
    """
    with_words = [text for text in map(_single_spaced, texts) if text]
    if not with_words:
        raise ValueError("The training texts hold no words, so there is nothing to train a tokenizer on.")
    return with_words


def _explained(error: RuntimeError, vocab_size: int) -> ValueError:
    """Returns SentencePiece's refusal of a vocabulary size in terms of `vocab_size` here, which counts two ids more."""
    too_many = re.search(r"value <= (\d+)", str(error))
    too_few = re.search(r"required_chars\. \d+ vs (\d+)", str(error))
    if too_many:
        allowed = f"allowed by these training texts is at most {int(too_many[1]) + 2}"
    elif too_few:
        allowed = f"the characters of these training texts need at least {int(too_few[1]) + 2}"
    else:
        return ValueError(f"SentencePiece cannot be trained with vocab_size={vocab_size}: {error}")
    return ValueError(f"vocab_size: got {vocab_size}, {allowed}. Choose such a size, or the tokenizer `char`.")

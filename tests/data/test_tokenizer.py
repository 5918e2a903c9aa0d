import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrsparse.data.tokenizer import CharTokenizer, SentencePieceTokenizer, Tokenizer, load_tokenizer

TEXTS = [
    f"{command} {colour} {preposition} x nine {adverb}"
    for command, adverb in [("bin", "now"), ("lay", "please"), ("place", "soon"), ("set", "again")]
    for colour, preposition in [("blue", "at"), ("green", "by"), ("red", "in"), ("white", "with")]
]
texts_of_any_kind = st.lists(st.text(), min_size=1, max_size=5).filter(lambda texts: "".join(texts).strip())
# of SentencePiece's own: NUL, the marks of a blank and of a boundary, and `<`, which could begin `<unk>`
sentencepiece_texts = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0▁▅<")), min_size=1, max_size=5
)


def one_blank(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(params=["char", "bpe"])
def tokenizer(request) -> Tokenizer:
    return CharTokenizer.train(TEXTS) if request.param == "char" else SentencePieceTokenizer.train(TEXTS, 32)


@given(texts_of_any_kind)
def test_characters_come_back(texts):
    tokenizer = CharTokenizer.train(texts)
    for text in texts:
        assert tokenizer.decode(tokenizer.encode(text)) == one_blank(text)
        assert tokenizer.unknown(text) == []


@settings(max_examples=30, deadline=None)
@given(sentencepiece_texts)
def test_sentencepieces_come_back(texts):
    needed = len(set("".join(map(one_blank, TEXTS + texts))) - {" "}) + 4  # the characters, a blank, three special ones
    tokenizer = SentencePieceTokenizer.train(TEXTS + texts, needed)
    assert tokenizer.vocab_size == needed
    for text in texts:
        assert tokenizer.decode(tokenizer.encode(text)) == one_blank(text)
        assert tokenizer.unknown(text) == []


@given(st.text())
def test_any_text_has_ids_of_the_vocabulary(text):
    tokenizer = CharTokenizer.train(TEXTS)
    ids = tokenizer.encode(text)
    assert all(0 < i < tokenizer.vocab_size - 1 for i in ids)
    assert ids.count(1) == len(tokenizer.unknown(text))


@given(texts_of_any_kind)
@settings(max_examples=25)
def test_any_character_tokenizer_is_saved_and_loaded(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = CharTokenizer.train(texts)
    tokenizer.save(folder)
    assert load_tokenizer(folder).tokens == tokenizer.tokens


def test_special_tokens_have_espnets_places(tokenizer):
    assert tokenizer.tokens[0] == "<blank>"
    assert tokenizer.tokens[1] == "<unk>"
    assert tokenizer.tokens[-1] == "<sos/eos>"
    assert len(set(tokenizer.tokens)) == tokenizer.vocab_size
    assert " " not in tokenizer.tokens


def test_characters_are_sorted_so_that_ids_do_not_depend_on_the_order_of_texts():
    assert CharTokenizer.train(["ba c"]).tokens == ["<blank>", "<unk>", "<space>", "a", "b", "c", "<sos/eos>"]
    assert CharTokenizer.train(TEXTS).tokens == CharTokenizer.train(TEXTS[::-1]).tokens


def test_decode_ignores_blank_and_sos_eos(tokenizer):
    ids = tokenizer.encode("lay red")
    end = tokenizer.vocab_size - 1
    assert tokenizer.decode([end, 0, *ids, 0, end]) == "lay red"
    assert tokenizer.decode([]) == ""


def test_what_is_unknown_is_named_and_becomes_unk(tokenizer):
    assert "".join(tokenizer.unknown("bin ß blue Ж")) == "ßЖ"
    assert tokenizer.encode("bin ß blue").count(1) == 1
    assert tokenizer.decode(tokenizer.encode("bin ß blue")) == "bin <unk> blue"


def test_saved_and_loaded_tokenizers_are_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert type(loaded) is type(tokenizer)
    assert loaded.tokens == tokenizer.tokens
    assert loaded.encode(TEXTS[0]) == tokenizer.encode(TEXTS[0])
    assert (tmp_path / "tokens.txt").read_text(encoding="utf-8").splitlines() == tokenizer.tokens


def test_a_character_tokenizer_replaces_a_sentencepiece_one(tmp_path):
    SentencePieceTokenizer.train(TEXTS, 32).save(tmp_path)
    CharTokenizer.train(TEXTS).save(tmp_path)
    assert isinstance(load_tokenizer(tmp_path), CharTokenizer)


def test_tokenizers_travel_to_other_processes(tokenizer):
    assert pickle.loads(pickle.dumps(tokenizer)).encode(TEXTS[1]) == tokenizer.encode(TEXTS[1])


def test_sentencepiece_training_is_reproducible():
    assert SentencePieceTokenizer.train(TEXTS, 32).tokens == SentencePieceTokenizer.train(TEXTS, 32).tokens


def test_vocab_size_too_large_says_the_largest():
    with pytest.raises(
        ValueError, match=r"vocab_size: got 5000, allowed by these training texts is at most (\d+)"
    ) as e:
        SentencePieceTokenizer.train(TEXTS, 5000)
    largest = int(str(e.value).split("at most ")[1].split(".")[0])
    assert SentencePieceTokenizer.train(TEXTS, largest).vocab_size == largest


def test_vocab_size_too_small_says_the_smallest():
    with pytest.raises(ValueError, match=r"vocab_size: got 5, .* need at least (\d+)") as e:
        SentencePieceTokenizer.train(TEXTS, 5)
    smallest = int(str(e.value).split("at least ")[1].split(".")[0])
    assert SentencePieceTokenizer.train(TEXTS, smallest).vocab_size == smallest


def test_vocab_size_below_one_is_refused():
    with pytest.raises(ValueError, match="vocab_size=-5"):
        SentencePieceTokenizer.train(TEXTS, -5)


@pytest.mark.parametrize("texts", [[], ["", " \n"]])
def test_texts_without_words_are_refused(texts):
    with pytest.raises(ValueError, match="hold no words"):
        CharTokenizer.train(texts)
    with pytest.raises(ValueError, match="hold no words"):
        SentencePieceTokenizer.train(texts, 30)


def test_missing_folder_names_the_remedy(tmp_path):
    with pytest.raises(ValueError, match=r"No tokenizer in .*none.*asrsparse prepare"):
        load_tokenizer(tmp_path / "none")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["<blank>", "<unk>", "<space>", "a", "b"], "does not hold <blank>, <unk>"),
        (["<unk>", "<blank>", "a", "<sos/eos>"], "does not hold <blank>, <unk>"),
        ([""], "does not hold <blank>, <unk>"),
        (["<blank>", "<unk>", "a", "bc", "<sos/eos>"], "got the token 'bc', expected single characters"),
        (["<blank>", "<unk>", "a", "", "<sos/eos>"], "got the token '', expected single characters"),
        (["<blank>", "<unk>", "a", "b", "a", "<sos/eos>"], "1 tokens are in it twice"),
    ],
)
def test_damaged_token_lists_are_refused(tmp_path, lines, message):
    (tmp_path / "tokens.txt").write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=rf"tokens\.txt is damaged: .*{message}.*prepare"):
        load_tokenizer(tmp_path)


def test_token_list_of_another_model_is_refused(tmp_path):
    SentencePieceTokenizer.train(TEXTS, 32).save(tmp_path)
    (tmp_path / "tokens.txt").write_text("<blank>\n<unk>\na\n<sos/eos>\n")
    with pytest.raises(ValueError, match=r"tokens\.txt is damaged"):
        load_tokenizer(tmp_path)


def test_damaged_model_is_refused(tmp_path):
    SentencePieceTokenizer.train(TEXTS, 32).save(tmp_path)
    (tmp_path / "bpe.model").write_bytes(b"rubbish")
    with pytest.raises(ValueError, match="Not a SentencePiece model"):
        load_tokenizer(tmp_path)

"""What stages left: whole, or an error that says which stage to run."""

import re

import pytest

from asrsparse.files import write_json
from asrsparse.reports.stage_files import read_stage, remedy


def test_what_a_stage_wrote_is_read_and_what_is_missing_named(tmp_path):
    path = tmp_path / "mini" / "masks" / "decode_test_greedy" / "decode.json"
    message = "the stage `decode` has not finished. Run `asrsparse decode recipe=mini system=masks`"
    with pytest.raises(ValueError, match=re.escape(message)):
        read_stage(path, "decode")
    values = {"command": "asrsparse decode", "audio_hours": 0.1, "seconds": 2.0}
    write_json(path, values)
    assert read_stage(path, "decode") == values
    with pytest.raises(ValueError, match=r"has no split, method\. Another version wrote it\?"):
        read_stage(path, "decode", ["split", "method"])


def test_the_remedy_names_the_modality_that_a_folder_is_called_after(tmp_path):
    folder = tmp_path / "mini" / "easy2hard-masks-audiovisual"
    expected = "Run `asrsparse train recipe=mini system=easy2hard-masks modality=audiovisual`."
    assert remedy(folder, "train") == remedy(folder / "decode_test_greedy", "train") == expected

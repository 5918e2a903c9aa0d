import importlib.util

import pytest

from asrsparse.export.packages import require


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    require("torch")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"onnx, onnxruntime: not installed.*pip install 'asrsparse\[export\]'"):
        require("onnx", "onnxruntime")

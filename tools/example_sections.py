"""For mkdocstrings: `Example:` in a docstring is shown as code, as `Examples:` is; griffe knows the plural alone."""

import re
from typing import Any

import griffe


class ExampleSections(griffe.Extension):
    """Renames the sections."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called with each module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)

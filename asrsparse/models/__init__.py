"""Models: front-ends, and the recogniser made of ESPnet's layers."""

import contextlib
import io

with contextlib.redirect_stdout(io.StringIO()):  # ESPnet prints at import that flash attention is not installed
    import espnet.nets.pytorch_backend.transformer.attention  # noqa: F401

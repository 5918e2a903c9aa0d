"""The check for packages that only exports need."""

import importlib.util


def require(*packages: str) -> None:
    """Checks that packages of the extra `export` are installed.

    Raises:
        ValueError: If one is missing; the message names the extra.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"{', '.join(missing)}: not installed. The extra `export` has it: pip install 'asrsparse[export]'."
        )

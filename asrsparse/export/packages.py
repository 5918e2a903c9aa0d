"""Packages that only exports need."""

import importlib.util


def require(*packages: str) -> None:
    """Checks that the packages of the extra `export` are there.

    Raises:
        ValueError: If one is missing, with the extra that brings it.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"{', '.join(missing)}: not installed. The extra brings it: pip install 'asrsparse[export]'.")

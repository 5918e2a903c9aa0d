import logging

import pytest


@pytest.fixture(autouse=True)
def same_logging():
    """Takes away what commands that run in this process, which saves imports, add for themselves."""
    logger = logging.getLogger("asrsparse")
    level, handlers = logger.level, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.handlers = handlers

"""The log level of results, which `--quiet` shows like warnings."""

from __future__ import annotations

import logging

RESULT = logging.INFO + 5
logging.addLevelName(RESULT, "RESULT")

"""What the Hub client logs, without secrets.

It logs each request that it repeats with its whole address; an upload's address is signed, and lets whoever has it
write to the storage for as long as it holds. Standard error of a job is often public.
"""

from __future__ import annotations

import logging
import re

_LOGGERS = ("utils._http", "file_download", "hf_api", "lfs")
_USER = re.compile(r"(https?://)[^\s/@]*@")
_QUERY = re.compile(r"(https?://[^\s?'\"]*)\?[^\s'\"]*")
_TOKEN = re.compile(r"hf_[A-Za-z0-9]{20,}|Bearer [^\s'\"]+")


class _Hide(logging.Filter):
    """Leaves out what follows the question mark of an address, users in addresses, and tokens."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = hidden(record.getMessage()), None
        return True


def hidden(text: str) -> str:
    """A text without signed parts of addresses and without tokens."""
    return _TOKEN.sub("***", _QUERY.sub(r"\1", _USER.sub(r"\1", text)))


def hide() -> None:
    """Let the client log no secrets from here on; once is enough, and twice is no more."""
    for name in _LOGGERS:
        logger = logging.getLogger(f"huggingface_hub.{name}")
        if not any(isinstance(each, _Hide) for each in logger.filters):
            logger.addFilter(_Hide())

"""JSON from people's files, in whatever their editor or shell has saved it."""

import json
from typing import Any

from countersign import models as m

MOST_BYTES = 4 * 1024 * 1024  # a request has at most 128 KB, an answer of the TSB not much more
MOST_LEVELS = 50  # of objects and lists in each other; a policy takes ten


class UnreadableError(Exception):
    """The file holds no JSON that can be used.

    Args:
        why: continues "the file …".
        action: what the reader should do.
    """

    def __init__(self, why: str, action: str) -> None:
        super().__init__(why)
        self.why = why
        self.action = action


def load(content: bytes) -> Any:
    """The JSON in these bytes: UTF-8, or UTF-16 and UTF-32 as their byte order marks say.

    Raises:
        UnreadableError: it is none, names something twice, or is beyond any use.
    """
    if len(content) > MOST_BYTES:
        raise UnreadableError(
            f"is larger than {MOST_BYTES // 1024**2} MB", "Name the file with the request."
        )
    try:
        loaded = json.loads(_text(content), object_pairs_hook=m.unique)
    except json.JSONDecodeError as error:
        where = f"at line {error.lineno}, column {error.colno}"
        raise UnreadableError(f"is no JSON: {error.msg} {where}", "Correct it there.") from None
    except m.DuplicateNameError as error:
        raise UnreadableError(f"is ambiguous: {error.msg}", "Take one of them away.") from None
    except UnicodeDecodeError:
        raise UnreadableError("is no UTF-8 text", "Save it as UTF-8.") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:  # Python's limit for whole numbers: 4300 digits
        raise UnreadableError("has a number of thousands of digits", "Correct it.") from None
    _require_flat(loaded)
    return loaded


def _text(content: bytes) -> str:
    # As JSON itself tells the encodings apart. It leaves the mark of UTF-16 to Python.
    return content.decode(json.detect_encoding(content))


def _require_flat(loaded: Any) -> None:
    level: list[Any] = [loaded]
    for _ in range(MOST_LEVELS):
        inside = [list(one.values()) if isinstance(one, dict) else one for one in level]
        level = [value for one in inside if isinstance(one, list) for value in one]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> UnreadableError:
    return UnreadableError(f"nests more than {MOST_LEVELS} levels deep", "Correct it.")

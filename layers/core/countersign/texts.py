"""Texts that callers wrote, made safe to show: one rule for all that people read."""


def printable(text: str) -> str:
    """`text` on one line. Characters that break, hide or reverse text are shown as code points.

    So nothing that a caller wrote can look like a line of ours. Of blanks only U+0020 is printable.
    """
    return "".join(letter if letter.isprintable() else f"<U+{ord(letter):04X}>" for letter in text)

"""Texts that callers wrote, made safe to show, and when two names are one: one rule for all.

Mails, events, the command line, the approvers' metadata and the evidence show names by it, and
linter, directory and verifier compare names by it.
"""

import re
import unicodedata

MAX_NAME = 100  # characters of a person's name
SYNTAX = '"<>:;'  # what our own lines put around names
# Letters of other scripts that look like Latin ones, be it as small letters or as capitals.
LOOKALIKES = str.maketrans(
    "авекмнорстухіјѕһԁԛԝ" + "αβεηικμνορτυχζ", "abekmhopctyxijshdqw" + "abehikmvoptyxz"
)


# What shows nothing although `str.isprintable` takes it for a letter or mark: in Unicode's
# PropList.txt Other_Default_Ignorable_Code_Point and Variation_Selector; Braille's blank pattern.
INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)


def is_seen(letter: str) -> bool:
    """Whether people see this character on a line. Of blanks only U+0020 counts."""
    return letter.isprintable() and not INVISIBLE.match(letter)


def printable(text: str) -> str:
    """`text` on one line. Characters that break, hide or reverse text, or that nobody sees, are
    shown as code points.

    So nothing that a caller wrote can look like a line of ours.
    """
    return "".join(letter if is_seen(letter) else f"<U+{ord(letter):04X}>" for letter in text)


def quoted(name: str) -> str:
    """A name within a sentence of ours: it cannot be read as a part of the sentence."""
    inside = printable(name).replace('"', "<U+0022>")  # a CA's approvers are named by others
    return f'"{inside}"'


def name_fault(name: str) -> str | None:
    """Why a name cannot be shown as it is; None: it can."""
    hidden = next((letter for letter in name if not is_seen(letter)), "")
    syntax = next((letter for letter in name if letter in SYNTAX), "")
    faults = {
        "is empty": not name,
        "holds a character that nobody sees": hidden,
        f"holds {syntax}, which stands around names": syntax,
        "has a blank at an edge, or two in a row": name != " ".join(name.split()),
        f"has {len(name)} characters; {MAX_NAME} are shown": len(name) > MAX_NAME,
        "holds letters that have a simpler form (Unicode's NFKC)": _normal(name) != name,
    }
    return next((fault for fault, found in faults.items() if found), None)


def same_person(name: str) -> str:
    """What is equal for two names that people read as one."""
    visible = "".join(letter for letter in _normal(name) if is_seen(letter))
    return " ".join(visible.casefold().translate(LOOKALIKES).split())


def _normal(name: str) -> str:
    return unicodedata.normalize("NFKC", name)

"""Whether a subject comes back in the CSR as it was asked for.

The vendor's published code joins `KEY=value` with commas, unescaped, and has the text read by a
Java keytool. Whether a TSB escapes is not documented, so the stack's parameter TsbEscapesSubjects
says so. Source: that code; RFC 5280, appendix A, for the lengths.
"""

from countersign import texts
from countersign.errors import InvalidEnrollmentError, invalid_field
from countersign.models import Subject

FIELD = "csr.standardCertificateAttributes"
# What keytool takes for its own where nobody escapes.
SPECIAL = {
    ",": "a comma",
    "+": "a plus sign",
    ";": "a semicolon",
    '"': "a double quote",
    "\\": "a backslash",
    "<": "a less-than sign",
    ">": "a greater-than sign",
}
# In characters. RFC 5280 has no useful limit for the four names of a person: these are ours.
MAX_LENGTHS = {
    "commonName": 64,
    "stateOrProvinceName": 128,
    "locality": 128,
    "organizationName": 64,
    "organizationIdentifier": 256,
    "organizationUnitName": 64,
    "email": 255,
    "title": 64,
    "surname": 64,
    "givenName": 64,
    "initials": 64,
    "generationQualifier": 64,
}


def check(subject: Subject, *, escaped: bool) -> None:
    """Refuse a subject that a sound TSB would not put into the CSR unchanged.

    Args:
        subject: as it would be sent.
        escaped: whether the TSB escapes values (parameter TsbEscapesSubjects).

    Raises:
        InvalidEnrollmentError: names the field, and the character where it is one.
    """
    for name, value in subject.dump().items():
        if value is not None:
            _check_value(name, value, escaped=escaped)


def _check_value(name: str, value: str, *, escaped: bool) -> None:
    if name == "pseudonym":
        raise _refused(name, "is taken by TSB and not written into the CSR", "Leave it out.")
    if value != value.strip() or not value:
        raise _refused(
            name,
            "begins or ends with a blank, which the CSR would not have" if value else "is empty",
            "Take it away." if value else "Leave it out, or give a value.",
        )
    most = MAX_LENGTHS.get(name)
    if most is not None and len(value) > most:
        raise _refused(
            name, f"has {len(value)} characters; a certificate holds {most}", "Shorten it."
        )
    for letter in value:
        if not texts.is_seen(letter):
            raise _refused(
                name, f"holds a character that nobody sees, U+{ord(letter):04X}", "Take it away."
            )
    if name == "email" and not value.isascii():
        raise _refused(
            name,
            "is not ASCII, and a subject's e-mail address can hold nothing else",
            "Give the address in ASCII (its domain in Punycode), or leave it out.",
        )
    if not escaped:
        _check_special(name, value)


def _check_special(name: str, value: str) -> None:
    found = next((SPECIAL[letter] for letter in value if letter in SPECIAL), None)
    if found is None and value.startswith("#"):
        found = "a number sign at its beginning"
    if found is not None:
        raise _refused(
            name,
            f"holds {found}, which this TSB does not escape: the CSR would be refused after"
            " approval, or name somebody else",
            "Write it without. Where the TSB is known to escape subjects, have the stack's"
            " parameter TsbEscapesSubjects set.",
        )


def _refused(name: str, why: str, action: str) -> InvalidEnrollmentError:
    return invalid_field(f"{FIELD}.{name}", why, action)

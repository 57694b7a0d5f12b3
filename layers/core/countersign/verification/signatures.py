"""How a CSR can be signed, by TSB's names. What is not listed here cannot be verified.

Source: TSB documentation, SignatureAlgorithm; RFC 4055, 5758 and 8410; NIST's arc of hashes.
"""

from typing import NamedTuple

from countersign import der

RSASSA_PSS, MGF1, ED25519 = "1.2.840.113549.1.1.10", "1.2.840.113549.1.1.8", "1.3.101.112"
EMPTY = der.write(der.NULL)


class Signature(NamedTuple):
    """How a CSR is signed.

    Args:
        key: the algorithm of the key that can make it: RSA, EC or ED.
        digest: name of the hash; empty where the algorithm brings its own.
        identifiers: every AlgorithmIdentifier (DER) that means it.
        pss: whether an RSA signature is padded by RSASSA-PSS, with a salt as long as the hash.
    """

    key: str
    digest: str
    identifiers: tuple[bytes, ...]
    pss: bool = False


def _identifier(oid: str, *parameters: bytes) -> bytes:
    return der.write(der.SEQUENCE, der.write_oid(oid), *parameters)


def _pss(digest: str, size: int) -> tuple[bytes, ...]:
    def parameters(of_hash: bytes) -> bytes:
        return der.write(
            der.SEQUENCE,
            der.write(der.FIRST_CONTEXT, of_hash),
            der.write(der.FIRST_CONTEXT + 1, _identifier(MGF1, of_hash)),
            der.write(der.FIRST_CONTEXT + 2, der.write(der.INTEGER, bytes((size,)))),
        )

    # RFC 4055, 2.1: a hash with NULL as its parameters and one without any mean the same.
    hashes = _identifier(digest, EMPTY), _identifier(digest)
    return tuple(_identifier(RSASSA_PSS, parameters(one)) for one in hashes)


_PKCS1, _ECDSA, _NIST = "1.2.840.113549.1.1", "1.2.840.10045.4", "2.16.840.1.101.3.4"
# name of the hash: (arc of RSA with PKCS #1 v1.5, arc of ECDSA, OID of the hash, its bytes)
_SHA2 = {
    "SHA224": (f"{_PKCS1}.14", f"{_ECDSA}.3.1", f"{_NIST}.2.4", 28),
    "SHA256": (f"{_PKCS1}.11", f"{_ECDSA}.3.2", f"{_NIST}.2.1", 32),
    "SHA384": (f"{_PKCS1}.12", f"{_ECDSA}.3.3", f"{_NIST}.2.2", 48),
    "SHA512": (f"{_PKCS1}.13", f"{_ECDSA}.3.4", f"{_NIST}.2.3", 64),
}
SIGNATURES = {
    "SHA1_WITH_RSA": Signature("RSA", "SHA1", (_identifier(f"{_PKCS1}.5", EMPTY),)),
    "SHA1_WITH_ECDSA": Signature("EC", "SHA1", (_identifier(f"{_ECDSA}.1"),)),
    **{
        f"{name}_WITH_RSA": Signature("RSA", name, (_identifier(oid, EMPTY),))
        for name, (oid, _, _, _) in _SHA2.items()
    },
    **{
        f"{name}_WITH_ECDSA": Signature("EC", name, (_identifier(oid),))
        for name, (_, oid, _, _) in _SHA2.items()
    },
    **{
        f"{name}_WITH_RSA_PSS": Signature("RSA", name, _pss(oid, size), pss=True)
        for name, (_, _, oid, size) in _SHA2.items()
    },
    **{
        f"SHA3{bits}_WITH_ECDSA": Signature(
            "EC", f"SHA3_{bits}", (_identifier(f"{_NIST}.3.{arc}"),)
        )
        for bits, arc in ((224, 9), (256, 10), (384, 11), (512, 12))
    },
    "EDDSA": Signature("ED", "", (_identifier(ED25519),)),
}
# Nobody can see in a signature how its random number was chosen.
SIGNATURES["SHA256_WITH_ECDSA_DETERMINISTIC"] = SIGNATURES["SHA256_WITH_ECDSA"]
SIGNATURE_NAMES = {
    identifier: name for name, one in reversed(SIGNATURES.items()) for identifier in one.identifiers
}

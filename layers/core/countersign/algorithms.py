"""The keys and signatures that TSB makes and that we can verify: one table for both sides.

The validator accepts nothing else, so no approver is asked about a CSR that could not be verified.
Source: TSB documentation, key algorithms; the vendor's published certificate calls (its enumeration
KeytoolSignatureAlgorithm), which make the CSR; the curves that `cryptography` reads.
"""

RSA_SIZES = (2048, 3072, 4096, 8192)
ED25519 = "1.3.101.112"
KEY_OIDS = {"RSA": "1.2.840.113549.1.1.1", "EC": "1.2.840.10045.2.1", "ED": ED25519}

# The usual names of the curves by OID.
CURVES = {
    "1.3.132.0.33": "P-224",
    "1.2.840.10045.3.1.7": "P-256",
    "1.3.132.0.34": "P-384",
    "1.3.132.0.35": "P-521",
    "1.3.132.0.10": "secp256k1",
    "1.3.36.3.3.2.8.1.1.7": "brainpoolP256r1",
    "1.3.36.3.3.2.8.1.1.11": "brainpoolP384r1",
    "1.3.36.3.3.2.8.1.1.13": "brainpoolP512r1",
}
# TSB makes keys on these as well, and `cryptography` reads no CSR of such a key.
UNREADABLE_CURVES = {
    "1.3.132.0.32": "secp224k1",
    "1.2.840.10045.3.1.4": "prime239v1",
    "1.2.840.10045.3.1.5": "prime239v2",
    "1.2.840.10045.3.1.6": "prime239v3",
    "1.3.36.3.3.2.8.1.1.5": "brainpoolP224r1",
    "1.3.36.3.3.2.8.1.1.9": "brainpoolP320r1",
    "1.2.250.1.223.101.256.1": "FRP256v1",
}

SIGNATURES = {
    "RSA": ("SHA224_WITH_RSA", "SHA256_WITH_RSA", "SHA384_WITH_RSA", "SHA512_WITH_RSA"),
    "EC": ("SHA256_WITH_ECDSA", "SHA384_WITH_ECDSA", "SHA512_WITH_ECDSA"),
    "ED": ("EDDSA",),
}

"""Seeds from names: what a trial is, as a number."""

from __future__ import annotations

import hashlib


def derive(*parts: object) -> int:
    """A seed (63 bits) from anything that prints: ``derive(study_seed, "explore", method, block, i)``."""
    digest = hashlib.blake2b("\x1f".join(str(p) for p in parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1

"""DKIM: canonicalisation, signing, keys."""

"""Decoding untrusted images; pixels and cells; masks and regions."""

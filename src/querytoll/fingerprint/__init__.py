"""Statement texts to shapes: what is equal in all executions of a statement, without a literal in it."""

from querytoll.fingerprint.fingerprinter import Fingerprinter, literals, shape
from querytoll.fingerprint.shapes import read

__all__ = ["Fingerprinter", "literals", "read", "shape"]

"""Development commands behind the Makefile; no part of the package."""

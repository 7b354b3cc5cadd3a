"""Endpoints: the clean ones here, the faulty ones in `faults`."""

"""A registry to the answer to a scrape."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from querytoll.sinks.prometheus.multiprocess import is_multiprocess, tidied


def exposition(registry: CollectorRegistry | None, accept: str | None, names: Iterable[str] = ()) -> tuple[bytes, str]:
    """Encode the metrics for a scrape: tens of milliseconds for thousands of series, so call it in a thread.

    Args:
        registry: None: the client's default registry. Not looked at in multiprocess mode.
        accept: the request's `Accept` header; OpenMetrics where it asks for it.
        names: only the series of these names (Prometheus' `name[]` parameter); empty: all.

    Returns:
        The body and its content type.
    """
    if not is_multiprocess():
        return _encoded(REGISTRY if registry is None else registry, accept, names)
    with tidied():
        source = CollectorRegistry(auto_describe=bool(names))
        MultiProcessCollector(source)  # type: ignore[no-untyped-call]
        return _encoded(source, accept, names)


def _encoded(source: CollectorRegistry, accept: str | None, names: Iterable[str]) -> tuple[bytes, str]:
    try:
        encode, content_type = choose_encoder(accept or "")
    except (TypeError, ValueError):  # a version that is no number
        encode, content_type = choose_encoder("")
    return encode(source.restricted_registry(names) if names else source), content_type

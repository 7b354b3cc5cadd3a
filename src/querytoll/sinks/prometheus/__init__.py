"""Reports to Prometheus metrics, and metrics to the answer to a scrape."""

from querytoll.sinks.prometheus.scrape import exposition
from querytoll.sinks.prometheus.sink import PrometheusSink

__all__ = ["PrometheusSink", "exposition"]

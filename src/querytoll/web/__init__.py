"""Reports and metrics over HTTP."""

from querytoll.web.metrics import metrics_endpoint

__all__ = ["metrics_endpoint"]

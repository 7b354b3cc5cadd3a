"""Names of metrics to PromQL with the matchers of a dashboard's variables."""

from __future__ import annotations

from dataclasses import dataclass

from dashboards.src.metrics import SERIES


@dataclass(frozen=True, slots=True)
class Scope:
    """The variables of a dashboard that its queries are restricted by, where a metric has a label of that name."""

    variables: tuple[str, ...] = ()

    def select(self, series: str, *matchers: str) -> str:
        """Return the selector of a series.

        Raises:
            KeyError: querytoll exports no such series.
        """
        labels = SERIES[series].labels
        names = ("job", "instance", *(name for name in self.variables if name in labels))
        chosen = [f'{name}=~"${name}"' for name in names]
        return f"{series}{{{', '.join((*chosen, *matchers))}}}"

    def rate(self, series: str, *matchers: str) -> str:
        """Return the rate per second of a counter."""
        return f"rate({self.select(series, *matchers)}[$__rate_interval])"

    def growth(self, series: str, *matchers: str) -> str:
        """Return the increase of a counter over the time range of the dashboard, for tables."""
        return f"increase({self.select(series, *matchers)}[$__range])"

    def events(self, series: str, *matchers: str, over: str = "$__range") -> str:
        """Return the increase of a counter whose label values are not known before they occur.

        Such a series starts at its first event, which increase() does not see: what is new counts from 0.
        """
        selector = self.select(series, *matchers)
        return f"({selector} unless {selector} offset {over}) or increase({selector}[{over}])"

    def quantile(self, q: float, histogram: str, *matchers: str, by: str = "") -> str:
        """Return a quantile of a histogram."""
        labels = f"le, {by}" if by else "le"
        return f"histogram_quantile({q}, {total(self.rate(f'{histogram}_bucket', *matchers), labels)})"


def total(expression: str, by: str = "") -> str:
    """Return the sum over everything but the labels in `by`."""
    return f"sum by ({by}) ({expression})" if by else f"sum({expression})"


def share(part: str, whole: str, by: str = "") -> str:
    """Return one sum per another."""
    return f"{total(part, by)} / {total(whole, by)}"


def top(n: int, expression: str) -> str:
    """Return the largest series of each moment."""
    return f"topk({n}, {expression})"


def or_zero(expression: str) -> str:
    """Return 0 where there is no series yet."""
    return f"({expression} or vector(0))"

"""A running Prometheus to the data of panels, as Grafana would ask for it."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from dashboards.src.grafana import Json

EVERYTHING: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Course:
    """A series of a result: its labels and its samples (time, value), without those that are no number."""

    labels: dict[str, str]
    samples: list[tuple[float, float]]


class Prometheus:
    """The HTTP API of a Prometheus.

    Args:
        url: where it listens.
        seconds: length of the time range that ends now.
        rate_interval: seconds that `$__rate_interval` stands for.
    """

    def __init__(self, url: str, *, seconds: int = 60, rate_interval: int = 10) -> None:
        self._url = url
        self._seconds = seconds
        self._rate_interval = rate_interval

    def target(self, target: Json, *, instant: bool, values: Mapping[str, str] = EVERYTHING) -> list[Course]:
        """Return the result of a panel's query, with variables set to `values`, else to everything."""
        query = self.filled(target["expr"], values)
        return self.now(query) if instant else self.course(query)

    def filled(self, query: str, values: Mapping[str, str] = EVERYTHING) -> str:
        """Return a query without variables."""
        query = query.replace("$__rate_interval", f"{self._rate_interval}s")
        query = query.replace("$__range_s", f"{self._seconds}").replace("$__range", f"{self._seconds}s")
        return re.sub(r"\$(\w+)", lambda variable: values.get(variable[1], ".+"), query)

    def now(self, query: str) -> list[Course]:
        """Return the present value of a query."""
        result = self._get("/api/v1/query", query=query)["result"]
        return _courses([{"metric": one["metric"], "values": [one["value"]]} for one in result])

    def course(self, query: str, points: int = 60) -> list[Course]:
        """Return the values of a query over the time range."""
        end = time.time()
        step = max(self._seconds / points, 1.0)
        return _courses(
            self._get("/api/v1/query_range", query=query, start=end - self._seconds, end=end, step=step)["result"]
        )

    def values(self, query: str) -> list[str]:
        """Return the values of a variable: `label_values(selector, label)` or `query_result(query)`."""
        if inner := re.fullmatch(r"label_values\((.+), (\w+)\)", query):
            selector, label = self.filled(inner[1]), inner[2]
            return [str(value) for value in self._list(f"/api/v1/label/{label}/values", selector)]
        inner = re.fullmatch(r"query_result\((.+)\)", query)
        assert inner, f"not a query of a variable: {query}"
        return [_shown(course) for course in self.now(self.filled(inner[1]))]

    def alerts(self, state: str = "firing") -> set[str]:
        """Return the names of the alerts in a state."""
        return {
            alert["labels"]["alertname"] for alert in self._get("/api/v1/alerts")["alerts"] if alert["state"] == state
        }

    def _list(self, path: str, selector: str) -> list[object]:
        return list(self._answer(path, {"match[]": selector}))

    def _get(self, path: str, **parameters: str | float) -> Json:
        return dict(self._answer(path, parameters))

    def _answer(self, path: str, parameters: Mapping[str, str | float]) -> Json:
        answer: Json = httpx.get(f"{self._url}{path}", params=dict(parameters), timeout=30.0).json()
        if answer["status"] != "success":
            raise ValueError(f"{answer['error']}: {parameters}")
        data: Json = answer["data"]
        return data


def instant(panel: Json, target: Json) -> bool:
    """A panel that shows one moment: a number, or the rows of a table."""
    return bool(target["instant"]) or panel["type"] == "stat"


def _courses(result: list[Json]) -> list[Course]:
    courses = [
        Course(one["metric"], [(float(at), float(value)) for at, value in one["values"] if math.isfinite(float(value))])
        for one in result
    ]
    return [course for course in courses if course.samples]


def _shown(course: Course) -> str:
    """A series as Grafana writes it for the regex of a variable."""
    labels = ",".join(f'{name}="{value}"' for name, value in sorted(course.labels.items()))
    return f"{{{labels}}} {course.samples[-1][1]:g}"

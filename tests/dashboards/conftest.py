"""Checks that need servers, npm or packages of their own run with `make dashboards-check` only."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("DASHBOARDS_CHECK") else ["live/*"]

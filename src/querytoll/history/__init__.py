"""Reports to a database, and back: what was found, over restarts and for all processes."""

from querytoll.history.migrate import downgrade, upgrade
from querytoll.history.recorded import Recorded
from querytoll.history.sink import HistorySink
from querytoll.history.store import History, HistoryError, Store

__all__ = ["History", "HistoryError", "HistorySink", "Recorded", "Store", "downgrade", "upgrade"]

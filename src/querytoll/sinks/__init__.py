"""Reports to the outside: a log, metrics, spans."""

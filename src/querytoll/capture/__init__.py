"""SQLAlchemy events to closed traces."""

from querytoll.capture.listeners import attach, detach, disown
from querytoll.capture.scope import ignore
from querytoll.capture.window import Capture, Window, everywhere

__all__ = ["Capture", "Window", "attach", "detach", "disown", "everywhere", "ignore"]

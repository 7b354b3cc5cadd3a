"""Engine, sessions, and what requests get of them."""

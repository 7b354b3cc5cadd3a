"""The example shop: an ordinary FastAPI and SQLAlchemy application, with planted faults for querytoll to find."""

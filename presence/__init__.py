"""Redis: who is here, for as long as a key lives."""

"""The state of a live class, as a fold of its log.

Commands are logged in the class's channel. Every node folds the log by the one function in here, so a command is
accepted or refused at its offset, by what stands before it, and every node says the same: of two who call the next hand
at once, one succeeds. Nothing here awaits, reads a clock or knows of a store: the time is the one at which the log
committed, and what a command claims about its sender was written by the server (`Logged`).

Votes, seats and attendance are no commands: 10,000 of them would be 10,000 publications to 10,000 people each. They are
rows, decided by the state at the offset that the log had when the row was written (`storage/lms/classes.py`).
"""

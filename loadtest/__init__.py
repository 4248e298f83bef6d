"""The load harness: a client of the wire protocol, nothing of the server inside."""

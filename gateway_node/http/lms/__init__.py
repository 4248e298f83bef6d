"""Courses over HTTP: thin handlers, one noun a file. Who may is decided before them (`gateway_node/http/rights.py`)."""

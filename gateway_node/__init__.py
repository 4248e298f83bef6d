"""The gateway process: wiring, HTTP, broker, supervisor, command line."""

"""Conformance of the WebSocket connection with RFC 6455 and RFC 7692."""

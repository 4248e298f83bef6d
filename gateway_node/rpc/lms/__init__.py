"""What a client says of courses over its open connection."""

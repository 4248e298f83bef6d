"""PostgreSQL: migrations, the message log, repositories."""

"""Courses and what belongs to them, in PostgreSQL."""

"""What people do in courses: the rules, one noun a file."""

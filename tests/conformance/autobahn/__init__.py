"""The Autobahn test suite's fuzzing client, ported to Python 3 on the spot and kept outside version control."""

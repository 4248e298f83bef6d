"""Short links, the clicks on them, and the keys of programs that make them."""

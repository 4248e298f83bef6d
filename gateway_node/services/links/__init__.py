"""Short links: what they are made of, where they lead, and who followed them."""

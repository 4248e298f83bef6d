"""Live classes: what follows their logs on a node, and what people do in them."""

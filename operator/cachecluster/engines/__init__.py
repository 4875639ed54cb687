"""Cache engines: what the operator says to a node, and how."""

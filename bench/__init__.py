"""Measurements of the operator on a real Kubernetes, each with its target."""

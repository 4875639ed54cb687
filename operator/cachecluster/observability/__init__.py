"""Metrics, Events and logs."""

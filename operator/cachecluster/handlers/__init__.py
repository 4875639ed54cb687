"""Kopf registration."""

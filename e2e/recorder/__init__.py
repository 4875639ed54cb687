"""Writers in every zone that keep histories, so that a lost, rolled back or resurrected write shows."""

from e2e.recorder.recorder import History, Recorder, zones

__all__ = ["History", "Recorder", "zones"]

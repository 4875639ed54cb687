"""From the command line's words to a provider."""

from typing import Final

from e2e.platform.base import Platform, PlatformError
from e2e.platform.existing import ExistingPlatform
from e2e.platform.kind import KindPlatform
from e2e.platform.local import LocalPlatform

CHOICES: Final = ("local", "kind", "existing")


def choose(name: str, context: str | None = None, image: str | None = None) -> Platform:
    """Provider by name; nothing is started. Raises PlatformError for words that do not go together."""
    if name != "existing" and (context or image):
        raise PlatformError("--context and --image belong to the platform `existing`")
    match name:
        case "local":
            return LocalPlatform()
        case "kind":
            return KindPlatform()
        case "existing":
            return ExistingPlatform(context, image)
        case _:
            raise PlatformError(f"unknown platform {name}; there are {', '.join(CHOICES)}")

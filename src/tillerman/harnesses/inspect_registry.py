"""What inspect-ai finds by our entry point: the provider ``tillerman``, imported when a model is asked for."""

from __future__ import annotations

from inspect_ai.model import ModelAPI, modelapi


@modelapi("tillerman")
def tillerman() -> type[ModelAPI]:
    from tillerman.harnesses.inspect_provider import SteeredAPI

    return SteeredAPI

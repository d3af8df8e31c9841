"""Answers made in this process, by a transformers model."""

from tillerman.serving.engines.local.engine import LocalEngine
from tillerman.serving.engines.local.settings import LocalSettings

__all__ = ["LocalEngine", "LocalSettings"]

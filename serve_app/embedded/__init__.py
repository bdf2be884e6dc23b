"""The embedded runtime, for machines without tollama: its routes over a small model on the CPU.

``app.build_runtime_app`` makes the HTTP application around ``model.EmbeddedModel``.
"""

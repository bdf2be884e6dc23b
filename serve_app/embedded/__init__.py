"""The runtime of a machine that has none: tollama's routes over a small model on the CPU.

``app.build_runtime_app`` makes the HTTP application around ``model.EmbeddedModel``.
"""

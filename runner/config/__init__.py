"""What can be set, and which models there are.

``loading.load_config`` reads a configuration file into one frozen ``loading.Config``;
``registry.load_registry`` reads the model registry. The sections with their bounds, defaults and
reasons are in ``sections``, ``security`` and ``conformal``.
"""

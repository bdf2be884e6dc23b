"""The HTTP service: Ray Serve deployments and the Starlette application around `runner`.

Import paths that Serve configurations name: ``app:build``, ``scaling:by_items`` and
``embedded_runtime:build``. Each folder answers one question:

    deployments/   which processes are there?
    http/          what can be asked over HTTP, and what is answered?
    auth/          who may call, and how much?
    remote/        how do processes call each other?
    edge/          what stands between a caller and Serve?
    telemetry/     what is measured, logged and traced?
    embedded/      which runtime answers on a machine that has none?
    launch/        how does the service start on one machine?
    console/       the web pages
    cli/           the ``tsfm`` command
    client/        the Python client
    backtest/      how good are bands on real prices?
"""

"""Forecasting decisions and the adapter to tollama; imports no web server and no Ray.

Each folder answers one question:

    forecast/      how do one request, or many, become answers?
    batching/      which requests share a runtime call, and when does it leave?
    breaker/       when is a model left alone?
    tollama/       what does the runtime accept and answer?
    calibration/   how are bands corrected by what happened after earlier forecasts?
    baseline/      what are the bands without a model?
    config/        what can be set, and which models are there?

``types``, ``errors``, ``bands``, ``answer_cache`` and ``pacer`` are used by several of them.
"""

"""How one request, or many, become answers.

``forecaster.Forecaster`` answers one request and ``bulk.BulkForecaster`` many, both by the same
steps: resolve the request, look into the answer cache, ask the model, else use the baseline.
``answers.AnswerStore`` makes every ``answers.Forecast`` and holds what a replica knows.
"""

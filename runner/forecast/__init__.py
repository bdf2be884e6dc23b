"""How do one request, or many, become answers?

``forecaster.Forecaster`` answers one request or a batch by the same decisions: resolve the request
(`resolved_request`), look into the answer cache, call the model, else use a fallback.
``answers.AnswerStore`` holds the cached answers and makes every ``answers.Forecast``.
"""

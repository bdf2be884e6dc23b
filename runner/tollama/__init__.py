"""What the runtime accepts and answers.

``client.TollamaRuntime`` forecasts many series with one call and turns each failure into one of our
errors; ``runtimes.Runtimes`` chooses between several runtimes. Its JSON is in ``wire``, HTTP in
``http`` alone.
"""

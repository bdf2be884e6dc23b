"""What the runtime accepts and answers.

``client.TollamaRuntime`` forecasts many series with one call and maps each failure to a
``ModelError``. ``models.RuntimeModels`` finds which models a runtime has and loads the wanted ones.
tollama's JSON is in ``wire``, HTTP only in ``http``.
"""

"""Evaluates quantile bands on files of real prices, and fits calibration on them.

``market_file`` makes regular series of prices, ``windows`` selects forecast origins,
``forecasters`` and ``service_bands`` make bands, ``scores`` scores them, ``calibration`` checks
calibration on held-out windows, ``report``, ``tables`` and ``page`` show the result, ``band_store``
keeps finished bands on disk, so that a run can be continued. ``serve_app.cli.backtest_run`` joins
these steps.

Prices are probabilities; axes are B windows, T past steps, H future steps, Q levels.
"""

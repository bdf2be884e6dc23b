"""Evaluates quantile bands on files of real prices, and fits calibration on them.

``market_file`` reads prices, ``windows`` selects forecast origins, ``forecasters/`` computes or
requests bands, ``scoring/`` scores them and checks calibration on held-out windows, ``report/``
makes tables, charts and a page. ``job`` joins these steps for ``tsfm backtest`` and ``tsfm
calibrate``; ``run`` and ``store`` keep finished bands on disk, so that a run can be continued.

Prices are probabilities; axes are B windows, T past steps, H future steps, Q levels.
"""

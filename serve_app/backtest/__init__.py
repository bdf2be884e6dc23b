"""Evaluates quantile bands on files of real prices, and fits calibration on them.

``market_file`` reads prices, ``windows`` selects forecast origins, ``forecasters`` and
``service_bands`` make bands, ``scores`` and ``summary`` score them, ``held_out`` and
``calibration`` check calibration on held-out windows, ``report``, ``tables`` and ``page`` show the
result. ``job`` joins the first steps for ``tsfm backtest`` and ``tsfm calibrate``; ``band_store``
keeps finished bands on disk, so that a run can be continued.

Prices are probabilities; axes are B windows, T past steps, H future steps, Q levels.
"""

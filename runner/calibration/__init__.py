"""How bands are corrected by what happened after earlier forecasts.

``calibrator.Calibrator`` corrects a band, ``online_calibrator.OnlineCalibrator`` learns from the
stream of requests and outcomes. The conformal arithmetic is in ``conformal``, what was learned in
``state``, who is calibrated together in ``segments``.
"""

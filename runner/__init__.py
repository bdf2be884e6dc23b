"""Forecasting decisions and the tollama adapter; knows no web server and no Ray."""

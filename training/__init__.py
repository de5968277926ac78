"""Recipes that train, export, calibrate and measure the bundled models; nothing here serves."""

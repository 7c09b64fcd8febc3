"""Rubbish, mistakes, attacks and genuine webhooks, mixed, against a receiver that runs."""

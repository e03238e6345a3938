"""Doubles of the services a registry talks to, for tests, demonstrations and continuous integration."""

"""Journeys: real worker processes on real servers, seen from outside, through AMQP."""

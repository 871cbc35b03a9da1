"""Traces of requests: which column is what, in which unit, and the rows as `Traffic`; errors name the line."""

from kvplan.loading.trace.read import Read as Read
from kvplan.loading.trace.read import called as called
from kvplan.loading.trace.read import read_trace as read_trace
from kvplan.loading.trace.tables import Source as Source

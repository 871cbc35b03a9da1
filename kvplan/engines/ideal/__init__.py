"""The theory: the least that a model must keep."""

from kvplan.engines.ideal.about import ABOUT as ABOUT

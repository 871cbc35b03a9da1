"""`kvplan.load`: a model as a value that shows itself."""

from kvplan.domain.allocation import NotPredicted
from kvplan.domain.model import Model
from kvplan.loading import load as load
from kvplan.report.notebook import displayed

displayed(Model, "kvplan.report.answers.explain:of_model", several=False)
displayed(NotPredicted, "kvplan.report.answers.estimate:EstimateAnswer")

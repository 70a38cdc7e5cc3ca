"""scikit-learn's MLPClassifier, told to do all its epochs."""

import warnings

from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from workloads import LEARNING_RATE

LIBRARIES = ("scikit-learn",)


def prepare(workload, features, target):
    warnings.simplefilter("ignore", ConvergenceWarning)

    def train(seed):
        classifier = MLPClassifier(
            workload.hidden,
            solver="adam",
            learning_rate_init=LEARNING_RATE,
            batch_size=workload.batch_size,
            max_iter=workload.epochs,
            tol=0.0,
            n_iter_no_change=workload.epochs + 1,
            random_state=seed,
        ).fit(features, target)
        return [array for layer in zip(classifier.coefs_, classifier.intercepts_, strict=True) for array in layer]

    return train

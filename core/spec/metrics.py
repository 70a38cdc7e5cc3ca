"""What is measured besides the loss, by scikit-learn's names, and which way is better."""

from typing import TYPE_CHECKING, Annotated, Literal, get_args

from core.spec.values import one_of

ClassMetric = Literal[
    "accuracy",
    "balanced_accuracy",
    "precision",
    "recall",
    "f1",
    "matthews_corrcoef",
    "cohen_kappa",
    "top_2_accuracy",
    "top_3_accuracy",
    "top_5_accuracy",
]
ProbabilityMetric = Literal["roc_auc", "average_precision", "brier", "log_loss"]
NumberMetric = Literal[
    "rmse", "mse", "mae", "median_absolute_error", "mape", "msle", "r2", "explained_variance", "max_error", "pearson"
]
MetricName = ClassMetric | ProbabilityMetric | NumberMetric
Task = Literal["classification", "multilabel", "regression"]

CLASS_METRICS: tuple[ClassMetric, ...] = get_args(ClassMetric)
PROBABILITY_METRICS: tuple[ProbabilityMetric, ...] = get_args(ProbabilityMetric)
NUMBER_METRICS: tuple[NumberMetric, ...] = get_args(NumberMetric)
METRICS: tuple[MetricName, ...] = (*CLASS_METRICS, *PROBABILITY_METRICS, *NUMBER_METRICS)
OF_LABELS: tuple[MetricName, ...] = ("accuracy", "precision", "recall", "f1", *PROBABILITY_METRICS)
LOWER_IS_BETTER = {
    "loss",
    "brier",
    "log_loss",
    "rmse",
    "mse",
    "mae",
    "median_absolute_error",
    "mape",
    "msle",
    "max_error",
}
DEFAULT_METRICS: dict[Task, list[MetricName]] = {
    "classification": ["accuracy"],
    "multilabel": ["accuracy"],
    "regression": ["rmse", "mae", "r2"],
}
METRIC_SYNONYMS = {
    "acc": "accuracy",
    "binary_accuracy": "accuracy",
    "categorical_accuracy": "accuracy",
    "sparse_categorical_accuracy": "accuracy",
    "auc": "roc_auc",
    "AUC": "roc_auc",
    "pr_auc": "average_precision",
    "mcc": "matthews_corrcoef",
    "f1_score": "f1",
    "brier_score": "brier",
    "logloss": "log_loss",
    "root_mean_squared_error": "rmse",
    "mean_squared_error": "mse",
    "mean_absolute_error": "mae",
    "mean_absolute_percentage_error": "mape",
    "mean_squared_logarithmic_error": "msle",
    "r2_score": "r2",
}
MONITORS = [f"{rows}_{name}" for rows in ("train", "valid") for name in ("loss", *METRICS)]
MONITOR_SYNONYMS = {  # Keras: a bare name is of the training rows, `val_` of the validation rows
    theirs: ours
    for name, canonical in [("loss", "loss"), *zip(METRICS, METRICS, strict=True), *METRIC_SYNONYMS.items()]
    for theirs, ours in ((name, f"train_{canonical}"), (f"val_{name}", f"valid_{canonical}"))
}

if TYPE_CHECKING:
    Metric = MetricName
    Monitor = str
else:
    Metric = Annotated[Literal[METRICS], one_of(Literal[METRICS], METRIC_SYNONYMS)]
    Monitor = Annotated[Literal[tuple(MONITORS)], one_of(Literal[tuple(MONITORS)], MONITOR_SYNONYMS)]


def metrics_of(task: Task, classes: int) -> tuple[MetricName, ...]:
    """What can be measured of a task."""
    match task:
        case "regression":
            return NUMBER_METRICS
        case "multilabel":
            return OF_LABELS
        case "classification":
            too_many = {f"top_{k}_accuracy" for k in (2, 3, 5) if k >= classes}
            return tuple(name for name in (*CLASS_METRICS, *PROBABILITY_METRICS) if name not in too_many)


def lower_is_better(monitor: str) -> bool:
    return monitor.partition("_")[2] in LOWER_IS_BETTER

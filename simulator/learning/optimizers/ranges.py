"""Ranges of hyperparameters that several outer optimizers have."""


def check_learning_rate(learning_rate: float) -> None:
    """Checks a learning rate.

    Raises:
      ValueError: it is not above 0.
    """
    if not learning_rate > 0:
        raise ValueError(f"learning_rate must be above 0, not {learning_rate}")


def check_momentum(momentum: float) -> None:
    """Checks the decay of a momentum.

    Raises:
      ValueError: it is not from 0 up to below 1.
    """
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be from 0 up to below 1, not {momentum}")


def check_workers(workers: int) -> None:
    """Checks a number of workers.

    Raises:
      ValueError: there is none.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")

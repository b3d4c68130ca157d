"""Which logs a run has, as its settings say."""

from dataclasses import dataclass

from hybrids.errors import UserError, check_choice, check_number


@dataclass(kw_only=True)
class LogSettings:
    """Logs beside metrics.csv, which is always written. `wandb_mode=auto`: online if logged in, else offline.

    W&B shows the runs of a `group` together; a sweep or a search names its own where none is given, and the `job_type`.
    `wandb_timeout` is how many seconds a run waits for W&B, when it starts and again when it ends.
    """

    wandb: bool = True
    wandb_mode: str = "auto"
    wandb_timeout: int = 30
    project: str = "hybrids"
    group: str | None = None
    job_type: str | None = None
    tensorboard: bool = False

    def __post_init__(self) -> None:
        check_choice("logger.wandb_mode", self.wandb_mode, ("auto", "online", "offline"))
        check_number("logger.wandb_timeout", self.wandb_timeout, 1, why="seconds")
        if not self.project:
            raise UserError("logger.project= is empty; give the name of a W&B project")

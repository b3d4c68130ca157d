"""The same runs compared in W&B: a workspace, a report, and the figures of the page."""

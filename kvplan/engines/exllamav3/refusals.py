"""What ExLlamaV3 and TabbyAPI refuse, in their words."""


class Refused(Exception):
    """The engine would not start; `reason` is its own sentence."""

    def __init__(self, reason: str, see: str = "") -> None:
        super().__init__(reason)
        self.reason, self.see = reason, see

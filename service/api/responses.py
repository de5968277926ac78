"""How whole answers are handed to the server."""

from collections.abc import Callable
from typing import Final, TypeAlias

Headers: TypeAlias = list[tuple[bytes, bytes]]

Reply: TypeAlias = Callable[[int, Headers, bytes], None]
"""Takes status, headers and body of an answer, the length among the headers."""

WholeAnswer: TypeAlias = Callable[[int, Headers, bytes], bool]
"""Like *Reply*; ``False`` when the answer must go the usual way, which can wait."""

# an extension of the ASGI scope that holds a *WholeAnswer*: an answer in one step instead of two
# messages. The server of this package offers it (service.connection), others need not
WHOLE_ANSWER: Final = "hourglass.whole_answer"

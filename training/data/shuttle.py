"""Shuttle: 49,097 rows of nine numbers each, 3,511 of them anomalies, in one npz file.

Statlog (Shuttle) of the UCI repository (CC BY 4.0) as ODDS turned it into a task of detection
(Rayana 2016: class 1 is normal; 2, 3, 5, 6 and 7 are anomalies; 4 is left out), in the edition of
ADBench (Han et al., NeurIPS 2022; BSD-2-Clause). UCI documents of the columns that all are numbers
and that the first one is time. The names "Rad Flow", "Fpv Close" and so on, which some lists give
to columns, are those of the seven classes.
"""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.data.download import DataError, download

NAME = "Statlog (Shuttle), as in ADBench after ODDS"
AUTHORS = "NASA and J. Catlett; S. Rayana; S. Han et al."
LICENCE = "CC BY 4.0 (UCI); ADBench's edition BSD-2-Clause"
SOURCE = (
    "https://raw.githubusercontent.com/Minqi824/ADBench"
    "/f7fed68dea6901fe9a81ed51b251b1d2456790cd/adbench/datasets/Classical/"
)
FILE = "32_shuttle.npz"
SHA256 = {FILE: "26900b0f6be45d9ddb7a402c9b2f956ceda42d23a8ca4cf4406b8bc1352823d1"}
FEATURES = ("time", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9")

Rows = npt.NDArray[np.float32]
Anomalies = npt.NDArray[np.bool_]


def load(
    folder: Path, *, source: str = SOURCE, checksums: Mapping[str, str] = SHA256
) -> tuple[Rows, Anomalies]:
    """Give all rows, and which of them are anomalies; downloads the file if *folder* lacks it.

    Args:
        folder: Where the file is, or will be.
        source: Address that its name is appended to.
        checksums: The sha-256 of its bytes, by name.

    Raises:
        DataError: The file cannot be had, or its bytes are not the known ones.
    """

    def check(data: bytes) -> None:
        digest = sha256(data).hexdigest()
        if digest != checksums[FILE]:
            raise DataError(f"{FILE} has the sha-256 {digest} instead of {checksums[FILE]}")

    path = folder / FILE
    if not path.exists():
        download(source + FILE, path, check)
    check(path.read_bytes())
    with np.load(path) as archive:
        return archive["X"].astype(np.float32), archive["y"].astype(bool)

"""Archives that claim to be weights."""

from __future__ import annotations

import os
import zipfile
from typing import BinaryIO


def check_archive(file: BinaryIO) -> None:
    """Raise OSError for a zip archive whose parts are larger than the file: torch packs nothing, so that
    such a one was made to fill the memory of whoever opens it. Anything else passes. Raises BadZipFile for
    one that is damaged. The file is left at its beginning."""
    file.seek(0)
    if zipfile.is_zipfile(file):
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            claimed = sum(part.file_size for part in archive.infolist())
        if claimed > os.fstat(file.fileno()).st_size:
            raise OSError("its parts are packed, as torch never does, and would fill the memory")
    file.seek(0)

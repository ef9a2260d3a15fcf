"""The array types of the project, one name an element type; shapes stand where they are used."""

from typing import Any

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Floats = npt.NDArray[np.floating]  # either of the two
Ints = npt.NDArray[np.int64]
Indices = npt.NDArray[np.intp]
Shorts = npt.NDArray[np.int16]
Bools = npt.NDArray[np.bool_]
Texts = npt.NDArray[np.str_]
Array = npt.NDArray[Any]  # of elements of any one type

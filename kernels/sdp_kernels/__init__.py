"""Operations on graphs and Gaussian expectations, each with one public name and one twin an engine."""

import os

# GNU OpenMP lets a waiting thread spin for milliseconds. Beside other busy processes that steals the very time the
# working thread needs: a mixing sweep of wordnet-cooc at load 4 took 500 to 800 ms, and 90 to 120 ms with a short
# spin. It is read when torch or numba first load OpenMP, so it is set before them; what the user has set stands.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

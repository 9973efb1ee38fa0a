"""Operations on graphs and Gaussian expectations, each with one public name and one twin an engine."""

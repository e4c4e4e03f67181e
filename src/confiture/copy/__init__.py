"""Moving one range of rows, by postgres_fdw or by COPY: the same SELECT, the same target columns."""

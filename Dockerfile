# Confiture as a container image: docker build -t confiture .
# The second stage has the environment that the first one builds, without the sources. See docs/install.md.
#
# The digest pins the base image. To renew it: docker buildx imagetools inspect python:3.13-slim-trixie
ARG PYTHON=python:3.13.15-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b

FROM ${PYTHON} AS build
# Extras to install, separated by commas, such as "distributed".
ARG EXTRAS=""
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY man man
COPY migrations_state migrations_state
COPY src src
RUN python -m venv --without-pip /opt/confiture \
    && pip --python /opt/confiture/bin/python install --no-cache-dir --disable-pip-version-check ".${EXTRAS:+[$EXTRAS]}"

FROM ${PYTHON}
LABEL org.opencontainers.image.title="confiture" \
      org.opencontainers.image.description="Move a live PostgreSQL database into a new database with a new schema" \
      org.opencontainers.image.licenses="MIT"
RUN useradd --uid 1000 --create-home --shell /usr/sbin/nologin confiture \
    && install -d -o confiture -g confiture /project
COPY --from=build /opt/confiture /opt/confiture
ENV PATH=/opt/confiture/bin:$PATH PYTHONUNBUFFERED=1
# A number, so that Kubernetes can check that it is not root.
USER 1000:1000
# The project folder: db/environments/, db/schema/ and the mapping.
WORKDIR /project
# As the first process of its container, confiture receives the SIGTERM of `docker stop` and ends at a checkpoint.
ENTRYPOINT ["confiture"]
CMD ["--help"]

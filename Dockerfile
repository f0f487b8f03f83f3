# syntax=docker/dockerfile:1
# Built in one stage, run from another that has neither pip nor a compiler.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
# EXTRAS=[embedded] puts the stores into the image too: handy for a demonstration, not for a cluster.
ARG EXTRAS=""
WORKDIR /src
# The hot modules are compiled here (docs/adr/0016); the image that runs has no compiler.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/gameserver
# The dependencies change less often than the code: a layer of their own.
COPY pyproject.toml setup.py README.md LICENSE ./
RUN mkdir gameserver && touch gameserver/__init__.py \
    && /opt/gameserver/bin/pip install --no-cache-dir --disable-pip-version-check ".${EXTRAS}" \
    && /opt/gameserver/bin/pip uninstall --yes --quiet gameserver
COPY gameserver gameserver
# Compiled twice (docs/adr/0022): bots play against the first server, which records what it does, and the second is laid
# out by that. PGO= (empty): compiled once, in a third of the time; this needs no wheels of the embedded stores.
ARG PGO=use
RUN if [ -n "$PGO" ]; then \
        python -m venv /opt/training \
        && GAMESERVER_COMPILE=1 GAMESERVER_PROFILE=record \
           /opt/training/bin/pip install --no-cache-dir --disable-pip-version-check ".[embedded]" \
        && (cd /tmp && /opt/training/bin/python -m gameserver.examples.training) \
        && rm -rf /opt/training; \
    fi \
    && GAMESERVER_COMPILE=1 GAMESERVER_PROFILE=$PGO \
       /opt/gameserver/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps .

FROM python:${PYTHON}-slim
RUN useradd --system --uid 10001 --home-dir /app --shell /usr/sbin/nologin gameserver \
    && mkdir -p /app/data && chown -R gameserver /app
COPY --from=build /opt/gameserver /opt/gameserver
COPY config.toml /app/config.toml
WORKDIR /app
ENV PATH=/opt/gameserver/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    GAMESERVER__SERVER__HOST=0.0.0.0
USER gameserver
EXPOSE 8000
# /healthz fails when the event loop or the ticks stand still, not only when the process is gone.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=2).read()"]
# The exec form: the server itself is process 1, handles SIGTERM itself and needs no init to pass it on. With external
# stores it has no children to reap.
STOPSIGNAL SIGTERM
ENTRYPOINT ["gameserver"]
CMD ["run"]

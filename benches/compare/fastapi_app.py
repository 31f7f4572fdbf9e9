"""The glue that teams write: FastAPI and redis-py, a stream a run, and a blocked XREAD for each viewer.

Started by benches/compare/run: REDIS_URL=redis://… uvicorn fastapi_app:app
"""

import json
import os

import redis.asyncio as redis
from fastapi import FastAPI, Header, Request
from fastapi.responses import StreamingResponse

app = FastAPI()
# A read that is blocked holds its connection for as long: the pool has to grow with the viewers.
client = redis.Redis.from_url(
    os.environ["REDIS_URL"], decode_responses=True, socket_timeout=None, max_connections=1_000_000
)


def key(run):
    return f"run:{run}:events"


def frame(entry_id, fields):
    return f"id: {entry_id}\nevent: {fields['type']}\ndata: {fields['data']}\n\n"


@app.post("/runs/{run}/events", status_code=201)
async def publish(run: str, request: Request):
    body = await request.json()
    events = body if isinstance(body, list) else [body]
    async with client.pipeline(transaction=False) as pipe:
        for event in events:
            fields = {"type": event["type"], "data": json.dumps(event.get("data"))}
            pipe.xadd(key(run), fields, maxlen=10_000, approximate=True)
        ids = await pipe.execute()
    return {"ids": ids}


@app.get("/runs/{run}/events")
async def history(run: str, limit: int = 1000):
    entries = await client.xrange(key(run), count=limit)
    events = [{"id": entry_id, "type": e["type"], "data": json.loads(e["data"])} for entry_id, e in entries]
    return {"events": events}


@app.get("/runs/{run}/events/stream")
async def stream(run: str, last_event_id: str | None = Header(None)):
    async def frames():
        last = last_event_id or "0-0"
        while True:
            answer = await client.xread({key(run): last}, count=256, block=15_000)
            if not answer:
                yield ": heartbeat\n\n"
                continue
            [(_, entries)] = answer
            last = entries[-1][0]
            yield "".join(frame(entry_id, fields) for entry_id, fields in entries)

    return StreamingResponse(frames(), media_type="text/event-stream", headers={"cache-control": "no-cache"})

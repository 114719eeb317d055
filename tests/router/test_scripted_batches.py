"""The scripted batch endpoints before the judges of their shapes: the official SDKs."""

import io
import json

import anthropic
import httpx2
import openai
import pytest

from router.scripted.app import create_upstream
from router.scripted.script import Fault, Rule, Script, Step, When

SCRIPT = Script(
    batch_polls=2,
    rules=[Rule(when=When(contains="BAD"), steps=[Step(fault=Fault(status=529))])],
    steps=[Step(text="done")],
)


@pytest.fixture
def transport():
    return httpx2.ASGITransport(app=create_upstream(SCRIPT))


async def test_message_batches_as_the_sdk_reads_them(transport):
    async with httpx2.AsyncClient(transport=transport) as http:
        client = anthropic.AsyncAnthropic(api_key="made-up", base_url="http://scripted", http_client=http)
        said = [{"role": "user", "content": text} for text in ("good", "BAD")]
        params = [{"model": "m", "max_tokens": 10, "messages": [one]} for one in said]
        made = await client.messages.batches.create(
            requests=[{"custom_id": f"c{n}", "params": p} for n, p in enumerate(params)]
        )
        looks = [(await client.messages.batches.retrieve(made.id)).processing_status for _ in range(2)]
        assert looks == ["in_progress", "ended"]
        listed = [batch.id async for batch in client.messages.batches.list()]
        assert listed == [made.id]
        found = {row.custom_id: row.result async for row in await client.messages.batches.results(made.id)}
    assert found["c0"].type == "succeeded"
    assert found["c0"].message.content[0].text == "done"
    assert found["c1"].type == "errored"
    assert found["c1"].error.error.type == "overloaded_error"


async def test_batches_as_the_openai_sdk_reads_them(transport):
    async with httpx2.AsyncClient(transport=transport) as http:
        client = openai.AsyncOpenAI(api_key="made-up", base_url="http://scripted/v1", http_client=http)
        rows = [
            {
                "custom_id": f"c{n}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {"model": "m", "messages": [{"role": "user", "content": text}]},
            }
            for n, text in enumerate(("good", "BAD"))
        ]
        content = io.BytesIO(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
        file = await client.files.create(file=("batch.jsonl", content), purpose="batch")
        made = await client.batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"samediff_batch": "name"},
        )
        assert (await client.batches.retrieve(made.id)).status == "in_progress"
        over = await client.batches.retrieve(made.id)
        assert (over.status, over.request_counts.completed, over.request_counts.failed) == ("completed", 1, 1)
        assert [(batch.id, batch.metadata) async for batch in client.batches.list()] == [
            (made.id, {"samediff_batch": "name"})
        ]
        good = json.loads((await client.files.content(over.output_file_id)).text)
        bad = json.loads((await client.files.content(over.error_file_id)).text)
    assert good["response"]["body"]["choices"][0]["message"]["content"] == "done"
    assert (bad["custom_id"], bad["response"]["status_code"]) == ("c1", 529)

"""The OpenAPI document is true: nothing that schemathesis makes of it gives a 5xx, or a reply that it does not describe."""

from __future__ import annotations

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
OPERATIONS = [
    ("POST", "/v1/search"), ("POST", "/v1/rerank"), ("POST", "/v1/embeddings"), ("POST", "/v1/chat/completions"),
    ("POST", "/v1/feedback"), ("GET", "/v1/answers/{answer_id}"), ("GET", "/v1/models"), ("GET", "/metrics"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_no_request_breaks_the_server(method: str, path: str, url: str, keys: dict[str, str]) -> None:
    operation = schemathesis.openapi.from_url(f"{url}/openapi.json")[path][method]

    @seed(4)
    @settings(
        max_examples=15, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )  # fmt: skip
    @given(case=operation.as_strategy())
    def run(case: schemathesis.Case) -> None:
        if isinstance(case.body, dict) and "collection" in case.body:
            case.body["collection"] = "handbook"  # else nearly all would be 404
        elif isinstance(case.body, dict) and "model" in case.body:
            case.body["model"] = "handbook"
        case.call_and_validate(headers={"Authorization": f"Bearer {keys['user']}"}, checks=CHECKS, timeout=20)

    run()


def test_every_operation_documents_its_errors(url: str) -> None:
    document = httpx.get(f"{url}/openapi.json").json()
    assert {path for path in document["paths"]} == {
        "/v1/search", "/v1/rerank", "/v1/embeddings", "/v1/chat/completions", "/v1/models", "/v1/feedback",
        "/v1/answers/{answer_id}", "/healthz", "/readyz", "/metrics",
    }  # fmt: skip
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert "422" not in operation["responses"]
            if path.startswith("/v1/"):
                assert {"401", "403", "429", "503", "504"} <= set(operation["responses"])
                assert operation["security"]
    for name in ("SearchRequest", "RerankRequest", "EmbeddingsRequest", "ChatRequest", "FeedbackRequest"):
        assert document["components"]["schemas"][name]["examples"]
